"""Detectors, embedders and their combinations, built from settings, and the sequences to run on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jde_ray.jobs.console.options import Settings
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.sde.declaration import NetworkDeclaration, read_declaration
from jde_ray.models.structures import Detections, FloatArray
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.detectors import open_detector
from jde_ray.pipelines.detection.embedders import open_embedder
from jde_ray.pipelines.detection.networks import is_separate
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, find_truths, read_truth
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.sources.saved_tracks import by_all_names
from jde_ray.pipelines.structures import FrameChunk, Video

NOTHING, OWN = "none", "joint"


@dataclass(frozen=True)
class Footage:
    """A video and its ground truth, None if there is none."""

    video: Video
    truth: GroundTruth | None


@dataclass(frozen=True)
class Finder:
    """A detector; if it computes no embeddings, its detections have vectors of width 0."""

    name: str
    config: TrackConfig
    find: Callable[[FrameChunk], Detections]


@dataclass(frozen=True)
class Embedder:
    """A separate network that embeds `(N, 4)` boxes (tlbr, source pixels) of a frame."""

    declared: NetworkDeclaration
    config: TrackConfig
    embed: Callable[[FrameChunk, FloatArray], FloatArray]

    @property
    def name(self) -> str:
        """Stem of the embedder's file."""
        return self.declared.file.stem

    def gives_the_same(self, other: Embedder) -> bool:
        """Whether either embedder makes the same combination with a detector."""
        return self.declared == other.declared and self.config.tracking == other.config.tracking


@dataclass(frozen=True)
class Combination:
    """A detector, an embedder and a tracker.

    Attributes:
        finder: The detector.
        embedder: Separate embedder; None: only the detector's own embeddings.
        is_blind: Drop the detector's own embeddings too.
        config: Settings of the tracker, and which of its boxes are reported.
    """

    finder: Finder
    embedder: Embedder | None
    is_blind: bool
    config: TrackConfig

    @property
    def embedding(self) -> str:
        """Name of the embedding, for tables."""
        if self.embedder is not None:
            return self.embedder.name
        return NOTHING if self.is_blind else OWN


def find_sequences(places: Sequence[Path], rules: TruthRules = TruthRules()) -> list[Footage]:
    """Find videos and image folders below `places`, each with its truth if that is one file.

    Raises:
        RunError: If there is no video.
        ValueError: If ground truth cannot be read.
    """
    videos, _ = find_videos([str(place) for place in places])
    truths: dict[str, list[Path]] = {}
    for place in places:
        for name, files in find_truths(place if place.is_dir() else place.parent).items():
            truths.setdefault(name, []).extend(files)
    found, named = [], by_all_names(truths)
    for video in videos:
        files = named.get(video.name, [])
        truth = read_truth(files[0], rules) if len(files) == 1 else None
        found.append(Footage(video, truth))
    return found


def build_finder(name: str, settings: Settings) -> Finder:
    """Build the detector that the settings' weights name."""
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

        return Finder(name, config, find_separate)
    joint = Detector(config.detection, resources)

    def find_jointly(chunk: FrameChunk) -> Detections:
        found = joint.detect(chunk)
        if found.error is not None:
            raise found.error
        return found.detections[0]

    return Finder(name, config, find_jointly)


def build_embedder(settings: Settings) -> Embedder | None:
    """Build the separate embedder that the settings' weights name, None if they name none."""
    if not is_separate(settings.track.detection.weights):
        return None
    declared = read_declaration(settings.track.detection.weights).embedder
    if declared is None:
        return None
    network = open_embedder(declared, settings.resources.torch_threads)

    def embed(chunk: FrameChunk, tlbr: FloatArray) -> FloatArray:
        letterbox = _letterbox(chunk)
        boxes = letterbox.source_to_picture(tlbr)
        return network.embed(letterbox.pictures(chunk.frames)[0], boxes)

    return Embedder(declared, settings.track, embed)


def with_embedder(finder: Finder, embedder: Embedder) -> Combination:
    """Combine a detector with a separate embedder, at the distance limits of the embedder.

    The embedder's settings also decide whether weak boxes count, since each costs it a crop.
    """
    config, other = finder.config, embedder.config
    tracking = config.tracking
    if isinstance(tracking, TrackingConfig) and isinstance(other.tracking, TrackingConfig):
        tracking = replace(
            tracking,
            appearance_limit=other.tracking.appearance_limit,
            low_overlap_limit=other.tracking.low_overlap_limit,
        )
    return Combination(finder, embedder, False, replace(config, tracking=tracking))


def _letterbox(chunk: FrameChunk) -> Letterbox:
    height, width = chunk.frames.shape[1:3]
    return Letterbox(chunk.info.width, chunk.info.height, width, height)
