"""Detectors and embedders that a command line names, with one association for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jde_ray.jobs.bench.paper.combinations import (
    NOTHING,
    OWN,
    Combination,
    Embedder,
    Finder,
    build_embedder,
    build_finder,
    resolve_settings,
)
from jde_ray.jobs.console.options import Values, collect, tracking_values
from jde_ray.models.sde.declaration_file import read_embedder
from jde_ray.models.tracking.registry import AssociationConfig
from jde_ray.pipelines.config import DetectionConfig, TrackConfig
from jde_ray.pipelines.detection.networks import is_separate

CROP_FRAMES = (960, 544)  # crops of all embedders are cut from frames of this area
# Limits that `--tuned` tries: cosine distances of `deepsort` lie below 1, Euclidean ones below 2
LIMITS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)


@dataclass(frozen=True)
class Shared:
    """What all networks of a comparison have in common.

    Attributes:
        association: Settings of the tracker: `association` is its name, the others its fields.
        precision: Precision of weights of ours; files with a precision of their own keep it.
        threads: Number of CPU threads.
        conf: Score below which a detector's boxes are weak, by its name; the name `""` stands for
            all others.
    """

    association: Values
    precision: str
    threads: int
    conf: dict[str, float] = field(default_factory=dict)

    def values(self, name: str, weights: str) -> Values:
        """Settings of the detector with this name."""
        given = {"weights": weights, "threads": self.threads}
        if not is_separate(weights):
            given["precision"] = self.precision
        conf = self.conf.get(name, self.conf.get(""))
        if conf is not None:
            given["conf"] = conf
        return collect(given, None) | self.association


def parse_named(flag: str, given: Sequence[str]) -> dict[str, str]:
    """Values by name, from texts `NAME=VALUE`.

    Args:
        flag: The flag, for errors.
        given: The texts.

    Raises:
        ValueError: If a text has another form, or two have one name.
    """
    found: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise ValueError(f"{flag}: got {text!r}, expected NAME=VALUE")
        if name in found:
            raise ValueError(f"{flag}: two are named {name}, expected different names")
        found[name] = value
    return found


def parse_association(given: Sequence[str]) -> Values:
    """Settings of a tracker from texts `KEY=VALUE`.

    Raises:
        RunError: If a setting does not exist, or has another type.
        ValueError: If a text has another form.
    """
    return tracking_values("association", parse_named("association", given))


def parse_conf(given: Sequence[str], detectors: Sequence[str]) -> dict[str, float]:
    """Score thresholds by detector, from texts `SCORE` or `NAME=SCORE`; `""` for all others.

    Raises:
        ValueError: If a score is none, or a detector is not known.
    """
    found: dict[str, float] = {}
    for text in given:
        name, _, score = text.rpartition("=")
        if name and name not in detectors:
            raise ValueError(f"conf: got {text}, expected one of {', '.join(detectors)}")
        if name in found:
            raise ValueError(f"conf: got two for {name or 'all'}, expected one")
        try:
            found[name] = float(score)
        except ValueError:
            raise ValueError(f"conf: got {text!r}, expected SCORE or NAME=SCORE") from None
    return found


def build_detectors(given: dict[str, str], shared: Shared) -> list[Finder]:
    """Load the detectors; an embedder that a YAML file declares too is left alone.

    Args:
        given: Names, and weights in the form of `DetectionConfig.weights`.
        shared: Precision, threads and settings of the association.

    Raises:
        ValueError: If weights cannot be used.
        RunError: If they do not exist.
    """
    return [
        build_finder(name, resolve_settings(shared.values(name, weights)))
        for name, weights in given.items()
    ]


def build_embedders(given: dict[str, str], threads: int) -> list[Embedder]:
    """Load the embedders; all cut their crops from the same frames.

    Args:
        given: Names, and files in the form of `--reid`.
        threads: Number of CPU threads.

    Raises:
        ValueError: If a file cannot be used, or a name is kept for joint embeddings.
    """
    for name in (OWN, NOTHING):
        if name in given:
            raise ValueError(f"embedder: {name} is kept for detectors alone, expected another name")
    config = TrackConfig(detection=DetectionConfig(size=CROP_FRAMES, rect=True))
    return [
        build_embedder(name, read_embedder(Path(file)), config, threads)
        for name, file in given.items()
    ]


def combine(finders: Sequence[Finder], embedders: Sequence[Embedder]) -> list[Combination]:
    """Every joint network with its own embeddings, then every detector with every embedder.

    Detectors without embeddings and without an embedder stand alone.
    """
    own = [Combination(one, None, one.config) for one in finders if one.is_joint or not embedders]
    return own + [
        Combination(finder, embedder, finder.config) for finder in finders for embedder in embedders
    ]


def with_limits(combinations: Sequence[Combination]) -> list[Combination]:
    """Each combination once per limit of `LIMITS`.

    Raises:
        ValueError: If the association has no such limit.
    """
    return [
        replace(one, config=replace(one.config, tracking=_with_limit(one.config.tracking, limit)))
        for one in combinations
        for limit in LIMITS
    ]


def _with_limit(tracking: AssociationConfig, limit: float) -> AssociationConfig:
    if not hasattr(tracking, "appearance_limit"):
        name = tracking.association
        raise ValueError(f"tuned: association {name} has no appearance_limit, expected jde")
    changes: dict[str, Any] = {"appearance_limit": limit}
    try:
        return replace(tracking, **changes)
    except ValueError as error:
        raise ValueError(f"tuned: {error}") from None
