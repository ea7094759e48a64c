"""Detections with embeddings that a run saved, from which a motion network learns appearance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jde_ray.models.tracking.projection import unit
from jde_ray.pipelines.config import DetectionConfig, TrackConfig
from jde_ray.pipelines.detection.weights import embedder_name, embedder_sha256
from jde_ray.pipelines.formats.detection_rows import DetectionRows, read_detections
from jde_ray.pipelines.formats.detections import SavedVideo
from jde_ray.pipelines.sources.saved_detections import find_saved


@dataclass(frozen=True)
class RunDetections:
    """The saved detections of a run.

    Attributes:
        out: Its folder.
        detection: Its network.
        videos: Its videos by name.
    """

    out: Path
    detection: DetectionConfig
    videos: dict[str, SavedVideo]

    @property
    def embedder(self) -> tuple[str, str]:
        """Name and fingerprint of the networks that embeddings come from."""
        return embedder_name(self.detection), embedder_sha256(self.detection)

    def of(self, name: str) -> DetectionRows:
        """The detections of a sequence, with embeddings of unit length.

        Raises:
            ValueError: If there are none, or they cannot be read or have no embeddings.
        """
        if name not in self.videos:
            text = f"got {self.out}, which has none of {name}"
            raise ValueError(f"pieces embeddings: {text}, expected all sequences")
        saved = self.videos[name]
        found = read_detections(Path(saved.root) / saved.key)
        if found.embeddings is None or not found.embeddings.shape[1]:
            got = f"got detections of {name} without embeddings"
            raise ValueError(f"pieces embeddings: {got}, expected those of a run that saves them")
        return DetectionRows(found.rows, found.scores, unit(found.embeddings))


def open_run(out: Path) -> RunDetections:
    """The saved detections in OUT; nothing but names and settings is read.

    Raises:
        RunError: If there are none, or they come from different networks.
    """
    from jde_ray.pipelines.tracking.from_detections import resolve_settings  # imports Ray

    saved = find_saved([str(out)])
    detection = resolve_settings(TrackConfig(), saved).detection
    return RunDetections(out, detection, {one.video.name: one for one in saved})
