"""Flags and a YAML file into the frozen configurations of a run.

A flag overrides the file, the file overrides the default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from jde_ray.jobs.console.flags import Flag, Given
from jde_ray.jobs.console.messages import ConsoleConfig
from jde_ray.jobs.console.run_flags import FLAGS
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.registry import CONFIGS as ASSOCIATIONS
from jde_ray.models.tracking.registry import build_config
from jde_ray.pipelines.config import (
    DetectionConfig,
    OutputConfig,
    PoolSize,
    ResourceConfig,
    SourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.errors import ExitCode, RunError

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE.yaml", help="Settings file; flags override it."),
]
Values = dict[tuple[str, str], Any]  # (section, field) -> value
AUTO_SIZE = ("detection", "auto_size")

# Sections of the YAML file, each with the configuration whose fields it holds.
SECTIONS: dict[str, type[Any]] = {
    "run": TrackConfig,
    "detection": DetectionConfig,
    "tracking": TrackingConfig,
    "resources": ResourceConfig,
    "outputs": OutputConfig,
    "sources": SourceConfig,
    "console": ConsoleConfig,
}


def place_of(flag: Flag) -> tuple[str, str]:
    """Section and field that a flag sets."""
    section = next(name for name, config in SECTIONS.items() if config is flag.config)
    return section, flag.field


@dataclass(frozen=True)
class Settings:
    """The checked configurations of a run."""

    track: TrackConfig
    resources: ResourceConfig
    outputs: OutputConfig
    console: ConsoleConfig = ConsoleConfig()
    sources: SourceConfig = SourceConfig()


def collect(given: Given, file: Path | None) -> Values:
    """Values from the file, overridden by the flags that were typed.

    Args:
        given: Typed values by the names of `FLAGS`.
        file: YAML as `read_yaml` takes it.

    Raises:
        RunError: If a value cannot be read.
    """
    values = {} if file is None else read_yaml(file)
    for name, value in given.items():
        if name == "size":  # whichever is typed, a size or auto, overrides both of the file
            values.pop(AUTO_SIZE, None)
        values |= _value(name.replace("_", "-"), place_of(FLAGS[name]), value)
    if values.get(AUTO_SIZE):  # begins with the size of the weights
        values.pop(("detection", "size"), None)
    return values


def tracking_values(flag: str, settings: Mapping[str, Any]) -> Values:
    """Settings of a tracker, by the names of its fields; `association` is its name.

    Args:
        flag: Flag that gave them, for errors.
        settings: Values, which may be texts.

    Raises:
        RunError: If a setting does not exist, or its value has another type.
    """
    values: Values = {}
    for name, value in settings.items():
        values |= _value(f"{flag}.{name}", ("tracking", name), value)
    return values


def build_settings(values: Values) -> Settings:
    """Build the frozen configurations; settings without a value keep their defaults.

    Raises:
        RunError: If a value is out of range.
    """

    def of(section: str) -> dict[str, Any]:
        return {field: value for (where, field), value in values.items() if where == section}

    try:
        track = TrackConfig(
            detection=DetectionConfig(**of("detection")),
            tracking=build_config(**of("tracking")),
            **of("run"),
        )
        resources = ResourceConfig(**of("resources"))
        outputs, console = OutputConfig(**of("outputs")), ConsoleConfig(**of("console"))
        sources = SourceConfig(**of("sources"))
        return Settings(track, resources, outputs, console, sources)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error


def read_yaml(path: Path) -> Values:
    """Read settings: names of flags, and sections with the fields of a configuration.

    ```yaml
    weights: small
    save-mot: true
    tracking: {appearance_limit: 0.6}
    ```

    Raises:
        RunError: If the file is missing, is not a YAML mapping, or names an unknown setting.
    """
    from jde_ray.models.settings_file import read_yaml as read_plain

    try:
        content = read_plain(path)
    except ValueError as error:
        raise RunError(f"config: {error}", ExitCode.REFUSED) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise RunError(f"config: {path} holds no mapping of settings", ExitCode.REFUSED)
    values: Values = {}
    for key, value in content.items():
        flag = str(key).replace("-", "_")
        if flag in FLAGS:
            values |= _value(str(key), place_of(FLAGS[flag]), value)
        elif flag in SECTIONS and isinstance(value, dict):
            for field, inner in value.items():
                values |= _value(f"{key}.{field}", (flag, str(field)), inner)
        else:
            accepted = ", ".join([*FLAGS, *SECTIONS]).replace("_", "-")
            raise RunError(
                f"config: {path}: unknown setting {key!r}, expected {accepted}",
                ExitCode.REFUSED,
            )
    return values


def parse_size(text: str) -> tuple[int, int]:
    """Parse `864x480` as width and height; a single number means a square.

    >>> parse_size("864x480"), parse_size("640")
    ((864, 480), (640, 640))

    Raises:
        ValueError: If the text is neither form.
    """
    sides = text.lower().replace(",", "x").split("x")
    if len(sides) > 2 or not all(side.strip().isdecimal() for side in sides):
        raise ValueError(f"got {text!r}, expected WIDTHxHEIGHT, such as 576x320")
    return int(sides[0]), int(sides[-1])


def parse_pool(value: Any) -> PoolSize:
    """Parse the size of a pool: a number, or `MIN-MAX`; in Python and YAML also a pair.

    >>> parse_pool("4"), parse_pool("1-8"), parse_pool([1, 8])
    (4, (1, 8), (1, 8))

    Raises:
        ValueError: If the value is neither.
    """
    text = "-".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text)
    if found is None:
        raise ValueError(f"got {value!r}, expected auto, N or MIN-MAX, such as 1-8")
    return int(found[1]) if found[2] is None else (int(found[1]), int(found[2]))


def _value(name: str, place: tuple[str, str], value: Any) -> Values:
    """Convert a value to its field's type; `auto` counts leave the choice to the run."""
    section, field = place
    if value == "auto" and field.startswith("num_"):
        return {}
    hints = _hints(section)
    settable = hints.keys() - {"detection", "tracking"}
    if field not in settable:
        accepted = ", ".join(sorted(settable))
        raise RunError(f"{name}: no such setting, expected {accepted}", ExitCode.REFUSED)
    try:
        if field == "size" and value == "auto":
            return {AUTO_SIZE: True}
        if field == "size" and isinstance(value, str | int):
            return {place: parse_size(str(value))}
        if field in ("num_detectors", "num_decoders") and value is not None:
            return {place: parse_pool(value)}
        return {place: _typed(hints[field], value)}
    except ValueError as error:
        raise RunError(f"{name}: {error}", ExitCode.REFUSED) from error


def _hints(section: str) -> dict[str, Any]:
    """Types of a section's settings; `tracking` accepts those of every association."""
    if section != "tracking":
        return get_type_hints(SECTIONS[section])
    hints: dict[str, Any] = {}
    for config in reversed(ASSOCIATIONS.values()):  # of two that differ, ours
        hints |= get_type_hints(config)
    return hints | {"association": str}


def _typed(hint: Any, value: Any) -> Any:
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = (
            error.errors()[0]["msg"].split(", unable")[0].replace("Input should be", "expected")
        )
        raise ValueError(f"got {value!r}, {reason}") from None
