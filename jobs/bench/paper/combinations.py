"""Detectors, embedders and their combinations, built from settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from jde_ray.jobs.console.options import Settings
from jde_ray.models.letterbox import PAD_VALUE, Letterbox
from jde_ray.models.sde.declaration import NetworkDeclaration
from jde_ray.models.sde.declaration_file import read_declaration
from jde_ray.models.structures import Described, Detections, FloatArray
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.detectors import open_detector
from jde_ray.pipelines.detection.embedders import open_embedder
from jde_ray.pipelines.detection.networks import is_separate
from jde_ray.pipelines.structures import DEFAULT_RATE, FrameChunk, VideoInfo

NOTHING, OWN = "none", "joint"


@dataclass(frozen=True)
class Finder:
    """A detector.

    Attributes:
        name: Its name, unique among those that are compared.
        config: Settings of the frames that it takes.
        find: Detections of a chunk of one frame.
        is_joint: Whether they have embeddings; otherwise these have width 0.
    """

    name: str
    config: TrackConfig
    find: Callable[[FrameChunk], Detections]
    is_joint: bool


@dataclass(frozen=True)
class Embedder:
    """A separate network that embeds `(N, 4)` boxes (tlbr, source pixels) of a frame.

    Attributes:
        name: Its name, unique among those that are compared.
        config: Settings of the frames that crops are cut from.
        embed: What it says of the boxes in a chunk of one frame.
    """

    name: str
    config: TrackConfig
    embed: Callable[[FrameChunk, FloatArray], Described]


@dataclass(frozen=True)
class Combination:
    """A detector, an embedder and a tracker.

    Attributes:
        finder: The detector.
        embedder: Separate embedder; None: only the detector's own embeddings, if it has any.
        config: Settings of the tracker, and which of its boxes are reported.
    """

    finder: Finder
    embedder: Embedder | None
    config: TrackConfig

    @property
    def embedding(self) -> str:
        """Name of the embedding, for tables."""
        if self.embedder is not None:
            return self.embedder.name
        return OWN if self.finder.is_joint else NOTHING


def resolve_settings(values: Any) -> Settings:
    """Check the weights and resolve the precision.

    Args:
        values: From `jobs.console.options.collect`.

    Raises:
        RunError: If the weights cannot be used.
        ValueError: If they cannot run in this precision.
    """
    from jde_ray.jobs.console.settings import check_weights
    from jde_ray.pipelines.detection.settings import resolve_precision

    settings = check_weights(values)
    detection = resolve_precision(settings.track.detection, settings.resources.device)
    return replace(settings, track=replace(settings.track, detection=detection))


def build_finder(name: str, settings: Settings) -> Finder:
    """Build the detector that the settings' weights name.

    Raises:
        ValueError: If a file cannot be used.
    """
    config, resources = settings.track, settings.resources
    if is_separate(config.detection.weights):
        declared = read_declaration(config.detection.weights)
        detector = open_detector(declared.detector, resources.torch_threads)

        def find_separate(chunk: FrameChunk) -> Detections:
            letterbox = _letterbox(chunk)
            tlbr, scores = detector.detect(
                letterbox.pictures(chunk.frames)[0],
                config.detection.threshold,
                config.detection.nms_threshold,
            )
            most = slice(config.detection.max_detections)
            tlbr, scores = letterbox.picture_to_source(tlbr[most]), scores[most]
            return Detections(tlbr, scores, np.zeros((len(scores), 0), np.float32))

        return Finder(name, config, find_separate, is_joint=False)
    joint = Detector(config.detection, resources)

    def find_jointly(chunk: FrameChunk) -> Detections:
        found = joint.detect(chunk)
        if found.error is not None:
            raise found.error
        return found.detections[0]

    width, height = config.detection.size
    grey = np.full((1, height, width, 3), PAD_VALUE, np.uint8)
    (nobody,), _ = joint.find(grey, [VideoInfo(width, height, DEFAULT_RATE)], [0])
    return Finder(name, config, find_jointly, is_joint=nobody.embeddings.shape[1] > 0)


def declared_embedder(settings: Settings) -> Embedder | None:
    """The separate embedder that the settings' weights name, None if they name none.

    Raises:
        ValueError: If its file cannot be used.
    """
    if not is_separate(settings.track.detection.weights):
        return None
    declared = read_declaration(settings.track.detection.weights).embedder
    if declared is None:
        return None
    threads = settings.resources.torch_threads
    return build_embedder(declared.file.stem, declared, settings.track, threads)


def build_embedder(
    name: str, declared: NetworkDeclaration, config: TrackConfig, threads: int
) -> Embedder:
    """Open a separate embedder.

    Args:
        name: Its name in tables.
        declared: Its file and input.
        config: Settings of the frames that crops are cut from.
        threads: Number of CPU threads.

    Raises:
        ValueError: If its file cannot be used.
    """
    import cv2

    cv2.setNumThreads(threads)  # OpenCV resizes the crops
    network = open_embedder(declared, threads)

    def embed(chunk: FrameChunk, tlbr: FloatArray) -> Described:
        letterbox = _letterbox(chunk)
        boxes = letterbox.source_to_picture(tlbr)
        return network.describe(letterbox.pictures(chunk.frames)[0], boxes)

    return Embedder(name, config, embed)


def _letterbox(chunk: FrameChunk) -> Letterbox:
    height, width = chunk.frames.shape[1:3]
    return Letterbox(chunk.info.width, chunk.info.height, width, height)
