"""Recipes as YAML files: every key and value is checked, and each error is one line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from jde_ray.models.reid.config import LossWeights
from jde_ray.models.settings_file import read_yaml
from jde_ray.pipelines.training.crop_settings import CropConfig, CropViews
from jde_ray.pipelines.training.network_names import KINDS, names_of
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.settings import (
    Augmentation,
    TrainingConfig,
    ValidationConfig,
    _choose,
)
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.training.track_settings import PieceConfig

Value = TypeVar("Value")


def _build(kind: type[Value], name: str, values: Any) -> Value:
    """A dataclass from a mapping of the file.

    Raises:
        ValueError: If it is not a mapping, or a key is unknown or missing.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: got {values!r}, expected a mapping of settings")
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ValueError(f"{name}: got {unknown[0]!r}, expected {', '.join(known)}")
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        kind(**tuples)  # raises its own messages first
    except (TypeError, AttributeError, LookupError) as error:  # of a missing key or wrong type
        _check_types(kind, name, tuples)
        for item in fields(kind):  # type: ignore[arg-type]
            if item.name not in tuples and item.default is item.default_factory is MISSING:
                raise ValueError(f"{name}: got no {item.name}, expected one") from None
        raise ValueError(f"{name}: {error}") from None
    return kind(**_check_types(kind, name, tuples))


def _check_types(kind: type[Any], name: str, values: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {key: _typed(f"{name}: {key}", hints[key], value) for key, value in values.items()}


def _typed(name: str, hint: Any, value: Any) -> Any:
    """The value converted to the type of its field; values of dataclasses were built before."""
    from pydantic import TypeAdapter, ValidationError

    if is_dataclass(value) or (isinstance(value, tuple) and any(map(is_dataclass, value))):
        return value
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].replace("Input should be", "expected")
        raise ValueError(f"{name}: got {value!r}, {reason}") from None


def parse_recipe(settings: Any, network: str | None = None) -> Recipe:
    """A recipe from the plain values of its file.

    Args:
        settings: Those values. `kinds` holds, by kind of network, settings that replace the others
            for networks of that kind; a mapping in it is merged.
        network: Name of the network, instead of that of the file.

    Raises:
        ValueError: If a key or value is wrong; one line.
    """
    if not isinstance(settings, Mapping):
        raise ValueError("training configuration: expected a mapping of settings")
    values = _of_kind({**settings, **({} if network is None else {"network": network})})
    listed = values.get("sources")
    if not isinstance(listed, list):
        raise ValueError("sources: expected a list of kind and path")
    values["sources"] = [_build(Source, f"source {i + 1}", s) for i, s in enumerate(listed)]
    values["training"] = _build(TrainingConfig, "training", values.get("training", {}))
    if "augmentation" in values:
        values["augmentation"] = _build(Augmentation, "augmentation", values["augmentation"])
    if "crops" in values:
        values["crops"] = _build(CropConfig, "crops", _nested_crops(values["crops"]))
    if "pieces" in values:
        values["pieces"] = _build(PieceConfig, "pieces", values["pieces"])
    if values.get("validation") is not None:
        validation = _with_lists(values["validation"])
        values["validation"] = _build(ValidationConfig, "validation", validation)
    return _build(Recipe, "training configuration", values)


def _of_kind(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with those of `kinds` for the kind of their network.

    Raises:
        ValueError: If `kinds` is no mapping of kinds to settings, or names a network.
    """
    values = dict(settings)
    by_kind = values.pop("kinds", {})
    accepted = [kind.kind for kind in KINDS]
    if not isinstance(by_kind, Mapping) or not all(
        isinstance(v, Mapping) for v in by_kind.values()
    ):
        raise ValueError(f"kinds: got {by_kind!r}, expected settings by {', '.join(accepted)}")
    for kind, own in by_kind.items():
        _choose("kinds", kind, tuple(accepted))
        if "network" in own:
            text = "expected it beside kinds, since it decides which of them holds"
            raise ValueError(f"kinds: {kind}: got network {own['network']!r}, {text}")
    own = by_kind.get(names_of(values["network"]).kind, {}) if "network" in values else {}
    for key, value in own.items():
        before = values.get(key)
        is_merged = isinstance(before, Mapping) and isinstance(value, Mapping)
        values[key] = {**values[key], **value} if is_merged else value
    return values


def _with_lists(validation: Any) -> Any:
    """The settings of validation with their labelled pictures built; a name alone is a `list`."""
    if not isinstance(validation, Mapping):
        return validation
    built = {}
    for name in ("detection", "embedding"):
        listed = validation.get(name)
        if isinstance(listed, list):
            entries = [{"kind": "list", "path": e} if isinstance(e, str) else e for e in listed]
            built[name] = [
                _build(Source, f"validation {name} {i + 1}", e) for i, e in enumerate(entries)
            ]
    return {**validation, **built}


def _nested_crops(crops: Any) -> Any:
    """The settings of crops with their losses and views built."""
    if not isinstance(crops, Mapping):
        return crops
    kinds: dict[str, type[Any]] = {"losses": LossWeights, "views": CropViews}
    built = {
        name: _build(kind, f"crops {name}", crops[name])
        for name, kind in kinds.items()
        if crops.get(name) is not None
    }
    return {**crops, **built}


def read_recipe(path: Path, network: str | None = None) -> Recipe:
    """The recipe of a YAML file, for the network that it names or for another one.

    Raises:
        ValueError: If it is missing, not YAML, or holds a wrong value; one line.
    """
    try:
        settings = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"config: {error}") from None
    return parse_recipe(settings, network)
