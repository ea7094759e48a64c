"""The systems of `jde bench table3`: detector, embedder and association of each, from a file.

```yaml
- name: DeepSORT_2                  # a published name: its row is printed below the published one
  detector: frcnn-vgg16.safetensors # or a shipped name, or a YAML file of a separate detector
  embedder: wrn.safetensors         # left out: the detector's own embeddings, or none
  association: {association: deepsort, appearance_limit: 0.2}
  conf: 0.3
- name: POI
  detections: MOT16/train/{sequence}/det/det_frcnn.txt   # saved, so that their speed is said
  fpsd: "<15*"
  embedder: qan.safetensors
  association: poi
- name: JDE-1088
  detector: jde.safetensors
  size: 1088x608
```
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from jde_ray.jobs.bench.paper.combinations import (
    Combination,
    Embedder,
    Finder,
    build_embedder,
    build_finder,
    resolve_settings,
)
from jde_ray.jobs.bench.paper.footage import Footage
from jde_ray.jobs.bench.paper.named import CROP_FRAMES
from jde_ray.jobs.console.options import Values, build_settings, collect, tracking_values
from jde_ray.models.sde.declaration import WEIGHTS, NetworkDeclaration
from jde_ray.models.sde.declaration_file import read_declaration, read_embedder
from jde_ray.models.settings_file import read_yaml
from jde_ray.models.structures import Detections
from jde_ray.pipelines.config import DetectionConfig, TrackConfig
from jde_ray.pipelines.detection.networks import is_separate
from jde_ray.pipelines.formats.detections import read_saved
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.structures import FrameChunk

_RATE = re.compile(r"<?0*[1-9]\d*(\.\d+)?\*?")
SEQUENCE = "{sequence}"  # stands for the name of a sequence in `detections`


@dataclass(frozen=True, kw_only=True)
class System:
    """A line of the file; paths are relative to it.

    Attributes:
        name: Its name, unique in the file.
        detector: Weights of its detector in the form of `DetectionConfig.weights`.
        detections: Saved detections in place of a detector, in the form of `--from-detections`.
        fpsd: Frames per second of the detector that made them, such as `<15*`.
        embedder: File of its embedder in the form of `--reid`.
        association: Name of its association, or its settings.
        conf: Confidence threshold; None for that of the association.
        size: Width and height of the network's input; None for that of the weights.

    Raises:
        ValueError: If there is not one of detector and detections.
    """

    name: str
    detector: str = ""
    detections: str = ""
    fpsd: str = ""
    embedder: str = ""
    association: str | Mapping[str, Any] = field(default_factory=dict)
    conf: float | None = None
    size: str | None = None

    def __post_init__(self) -> None:
        if "/" in self.name:
            raise ValueError(f"{self.name}: got a name with a slash, expected that of a folder")
        if self.name in (".", ".."):
            raise ValueError(f"{self.name}: got it as a name, expected that of a folder")
        if bool(self.detector) == bool(self.detections):
            raise ValueError(f"{self.name}: expected one of detector and detections")
        if self.size is not None and self.detections:
            raise ValueError(f"{self.name}: size: got it beside detections, expected none")
        if not isinstance(self.association, str | Mapping):
            text = f"got {self.association!r}, expected a name or a mapping of settings"
            raise ValueError(f"{self.name}: association: {text}")
        if self.fpsd and not self.detections:
            raise ValueError(f"{self.name}: fpsd: got it beside detector, whose speed is measured")
        if self.fpsd and _RATE.fullmatch(self.fpsd) is None:
            text = f"got {self.fpsd!r}, expected frames per second, such as 12.5 or <15*"
            raise ValueError(f"{self.name}: fpsd: {text}")

    def values(self, threads: int) -> Values:
        """Settings of its detector and association."""
        told = {"weights": self.detector or None, "conf": self.conf, "size": self.size}
        given = {"threads": threads} | {k: v for k, v in told.items() if v is not None}
        own = self.association
        settings = {"association": own} if isinstance(own, str) else own
        return collect(given, None) | tracking_values(f"{self.name}.association", settings)


def read_systems(path: Path) -> list[System]:
    """The systems of a file.

    Raises:
        ValueError: If it is no list of systems, a key is unknown, or two have one name.
    """
    content = read_yaml(path)
    if not (isinstance(content, list) and content and all(isinstance(o, dict) for o in content)):
        raise ValueError(f"systems: {path}: expected a list of systems, each with a name")
    known = [one.name for one in fields(System)]
    systems: list[System] = []
    for number, values in enumerate(content, 1):
        for key in values:
            if key not in known:
                expected = ", ".join(known)
                raise ValueError(f"systems: {path}: {key}: no such setting, expected {expected}")
        if not values.get("name"):
            raise ValueError(f"systems: {path}: system {number} has no name")
        texts: dict[str, Any] = {k: str(values[k]) for k in ("name", "fpsd") if k in values}
        texts |= {key: _placed(path, str(values[key])) for key in _PATHS if values.get(key)}
        own = values.get("association")
        if isinstance(own, Mapping) and own.get("weights"):
            texts["association"] = {**own, "weights": _placed(path, str(own["weights"]))}
        try:
            system = System(**values | texts)
        except ValueError as error:
            raise ValueError(f"systems: {path}: {error}") from None
        if system.name in [one.name for one in systems]:
            raise ValueError(f"systems: {path}: two are named {system.name}")
        systems.append(system)
    return systems


_PATHS = ("detector", "detections", "embedder")


def _placed(file: Path, value: str) -> str:
    """A path relative to the file; names of shipped models and addresses stay."""
    beside = file.parent / value
    is_path = "/" in value or beside.exists()
    return str(beside) if is_path and "://" not in value else value


def build_systems(
    systems: Sequence[System], footage: Sequence[Footage], threads: int
) -> list[Combination]:
    """Load all networks, each once, and combine them as the systems do.

    Args:
        systems: The systems.
        footage: Sequences that they will run on.
        threads: Number of CPU threads.

    Raises:
        ValueError: If a file cannot be used, or a sequence has no saved detections.
        RunError: If weights or saved detections do not exist.
    """
    finders: dict[Any, Finder] = {}
    embedders: dict[NetworkDeclaration, Embedder] = {}
    frames = TrackConfig(detection=DetectionConfig(size=CROP_FRAMES, rect=True))
    combinations = []
    for system in systems:
        values = system.values(threads)
        if system.detections:
            tracking = build_settings(values).track.tracking
            config = replace(frames, tracking=tracking)
            key: Any = (system.detections, tracking.least_score)
            if key not in finders:
                finders[key] = saved_finder(system.name, system.detections, config, footage)
        else:
            settings = resolve_settings(values)
            config, key = settings.track, settings.track.detection
            if key not in finders:
                finders[key] = build_finder(system.name, settings)
        declared = declared_embedder(system)
        if declared is not None and declared not in embedders:
            embedders[declared] = build_embedder(system.name, declared, frames, threads)
        embedder = None if declared is None else embedders[declared]
        combinations.append(Combination(finders[key], embedder, config))
    return combinations


def declared_embedder(system: System) -> NetworkDeclaration | None:
    """The embedder of a system, or that of the YAML file which declares its detector."""
    if system.embedder:
        return read_embedder(system.embedder)
    if system.detector and is_separate(system.detector):
        return read_declaration(system.detector).embedder
    return None


def saved_finder(name: str, source: str, config: TrackConfig, footage: Sequence[Footage]) -> Finder:
    """A detector that reads what another one has found.

    Args:
        name: Its name.
        source: Detections of all sequences, or a text with `{sequence}`.
        config: Settings of the frames, and the least score.
        footage: The sequences.

    Raises:
        ValueError: If a sequence has no detections there, or they cannot be read.
        RunError: If a file does not exist.
    """
    names = [one.video.name for one in footage]
    places = [source.replace(SEQUENCE, one) for one in names] if SEQUENCE in source else [source]
    saved = {one.video.name: one for one in find_saved(places)}
    found: dict[str, dict[int, Detections]] = {}
    width = 0
    for one in footage:
        if one.video.name not in saved:
            raise ValueError(f"{name}.detections: none of {one.video.name} in {source}")
        _, frames = read_saved(saved[one.video.name], config)
        found[one.video.video_id] = {frame.frame: frame.found for frame in frames}
        for frame in found[one.video.video_id].values():
            width = max(width, frame.embeddings.shape[1])
    nothing = Detections.empty(width)

    def find(chunk: FrameChunk) -> Detections:
        return found[chunk.video_id].get(int(chunk.frame_index[0]), nothing)

    return Finder(name, config, find, is_joint=width > 0)


def detector_file(system: System) -> str:
    """Weights of the detector, or the file that the YAML file of a separate one names."""
    if system.detector and is_separate(system.detector):
        return str(read_declaration(system.detector).detector.file)
    return system.detector


def network_name(weights: str | Path) -> str:
    """The name that a table shows: of the network in a file of ours, else of the file."""
    from jde_ray.models.jde.weights import metadata

    path = Path(weights)
    if path.suffix != WEIGHTS:
        return path.stem
    config = json.loads(metadata(str(path)).get("config", "{}"))
    return str(config.get("name", path.stem))


def trained_on(system: System) -> tuple[int | None, int | None]:
    """Boxes of its detector and identities of its embeddings, as far as weight files say them."""
    detector, embedder = detector_file(system), declared_embedder(system)
    describer = detector if embedder is None else str(embedder.file)
    return _number(detector, "boxes"), _number(describer, "identities")


def _number(weights: str, key: str) -> int | None:
    """A number in the metadata of a weight file of ours; None if it is not there."""
    from jde_ray.models.jde.weights import metadata

    if not weights or Path(weights).suffix not in ("", WEIGHTS):
        return None
    text = metadata(weights).get(key, "")
    return int(text) if text.isdecimal() and int(text) else None
