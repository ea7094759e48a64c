"""Detectors and embedders over the same frames in turn, each part timed, the tracks scored.

For `jde bench figure4` and `jde bench speed`: one process, one frame at a time, no Ray. Every frame
goes through all combinations before the next one, so that their times compare on a busy machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter, process_time
from typing import Any

import numpy as np

from jde_ray.jobs.console.options import Settings
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.models.sde.declaration import NetworkDeclaration, read_declaration
from jde_ray.models.sde.network import AppearanceEmbedder, PersonDetector
from jde_ray.models.structures import Detections, FloatArray
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.reporting import reported
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import Parts, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import is_separate
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, find_truths, read_truth
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.formats.track_files import by_all_names
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import FrameChunk, Segment, Video
from jde_ray.pipelines.tracking.stages.decode import frame_chunks

WARM_UP = 5  # frames of every sequence that are tracked but not timed
STAGES = ("decode", "detect", "embed", "associate")
NOTHING, OWN = "none", "joint"
# `cpu` is for a machine with other work: time that this process had a processor
CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}


@dataclass(frozen=True)
class Footage:
    """A video with its ground truth, None where there is none."""

    video: Video
    truth: GroundTruth | None


@dataclass(frozen=True)
class Finder:
    """A detector; the embeddings of its detections have no width if it has none of its own."""

    name: str
    config: TrackConfig
    find: Callable[[FrameChunk], Detections]


@dataclass(frozen=True)
class Embedder:
    """Vectors of `(N, 4)` boxes in source pixels, from the frame itself."""

    declared: NetworkDeclaration
    config: TrackConfig
    embed: Callable[[FrameChunk, FloatArray], FloatArray]

    @property
    def name(self) -> str:
        """Of its file."""
        return self.declared.file.stem

    def gives_the_same(self, other: Embedder) -> bool:
        """Whether a detector with either is one combination."""
        return self.declared == other.declared and self.config.tracking == other.config.tracking


@dataclass(frozen=True)
class Combination:
    """A detector, an embedder (None: what the detector gives, or nothing), an association.

    Attributes:
        finder: The detector.
        embedder: None for none but the detector's own.
        is_blind: Leave out the detector's own embeddings too.
        config: Association, and what is left out of its tracks.
    """

    finder: Finder
    embedder: Embedder | None
    is_blind: bool
    config: TrackConfig

    @property
    def embedding(self) -> str:
        """Name of the embedding."""
        if self.embedder is not None:
            return self.embedder.name
        return NOTHING if self.is_blind else OWN


@dataclass(frozen=True)
class Measured:
    """One combination on one sequence.

    Attributes:
        sequence: Its name.
        detector: Likewise.
        embedding: Likewise.
        frames: That were timed.
        boxes: Detections in them that the association looks at.
        people: Of the truth a frame, NaN without.
        seconds: By stage, of the timed frames. `decode` is to the size that the detector takes.
        scores: None without truth.
    """

    sequence: str
    detector: str
    embedding: str
    frames: int
    boxes: int
    people: float
    seconds: dict[str, float]
    scores: SequenceScores | None


@dataclass
class _Run:
    combination: Combination
    tracker: JDETracker
    clock: Callable[[], float]
    frames: int = 0
    boxes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rows: list[BoxRows] = field(default_factory=list)


def find_sequences(places: Sequence[Path], rules: TruthRules = TruthRules()) -> list[Footage]:
    """Videos and image folders below `places`, each with its truth if there is one file of it.

    Raises:
        RunError: If there is no video.
        ValueError: If a truth cannot be read.
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
    """The detector that the settings' weights name."""
    config, resources = settings.track, settings.resources
    if is_separate(config.detection.weights):
        declared = read_declaration(config.detection.weights)
        detector = PersonDetector(declared.detector, resources.torch_threads)

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
    """The separate embedder that the settings' weights name, if they do; called as its file."""
    if not is_separate(settings.track.detection.weights):
        return None
    declared = read_declaration(settings.track.detection.weights).embedder
    if declared is None:
        return None
    network = AppearanceEmbedder(declared, settings.resources.torch_threads)

    def embed(chunk: FrameChunk, tlbr: FloatArray) -> FloatArray:
        letterbox = _letterbox(chunk)
        boxes = letterbox.source_to_picture(tlbr)
        return network.embed(letterbox.pictures(chunk.frames)[0], boxes)

    return Embedder(declared, settings.track, embed)


def with_embedder(finder: Finder, embedder: Embedder) -> Combination:
    """A detector's boxes with a separate embedder, associated at the embedder's distances.

    Whether weak boxes count is the embedder's setting too, since each of them costs it a crop.
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


def measure(
    sequence: Footage,
    combinations: Sequence[Combination],
    max_frames: int | None = None,
    clock: str = "wall",
) -> list[Measured]:
    """Track one sequence with every combination, frame by frame in turn.

    Args:
        sequence: What is tracked.
        combinations: With what.
        max_frames: Of the sequence, None for all.
        clock: One of `CLOCKS`. `cpu` adds up threads, so that it wants networks of one.

    Raises:
        RunError: If the video cannot be read.
    """
    runs: list[_Run] = []
    num_frames = 0
    for index, chunks, decoded in _frames(sequence.video, combinations, max_frames, CLOCKS[clock]):
        if not runs:
            rate = next(iter(chunks.values())).info.frames_per_second
            runs = [
                _Run(c, JDETracker(c.config.tracking, rate), CLOCKS[clock]) for c in combinations
            ]
        _step(runs, index, chunks, decoded, is_timed=num_frames >= WARM_UP)
        num_frames += 1
    if num_frames <= WARM_UP:
        raise RunError(
            f"bench: {sequence.video.name} has {num_frames} frames, expected more than "
            f"{WARM_UP}, which warm up",
            ExitCode.REFUSED,
        )
    return [_result(sequence, run, index + 1, is_cut=max_frames is not None) for run in runs]


Chunks = dict[str, FrameChunk]  # by the key of what it was decoded for


def _frames(
    video: Video,
    combinations: Sequence[Combination],
    max_frames: int | None,
    clock: Callable[[], float],
) -> Iterator[tuple[int, Chunks, dict[str, float]]]:
    """Number of a frame, the frame as each network takes it, and seconds that it took each."""
    configs: dict[str, TrackConfig] = {}
    for combination in combinations:
        for part in (combination.finder, combination.embedder):
            if part is not None:
                configs.setdefault(_key(part.config), part.config)
    resources = ResourceConfig(chunk_frames=1)
    streams = {
        key: frame_chunks(
            Parts().decode, Segment(video), replace(config, max_frames=max_frames), resources
        )
        for key, config in configs.items()
    }
    while True:
        chunks: Chunks = {}
        seconds: dict[str, float] = {}
        for key, stream in streams.items():
            started = clock()
            chunk = next(stream, None)
            seconds[key] = clock() - started
            if chunk is None or (chunk.error is None and not len(chunk.frame_index)):
                return
            if chunk.error is not None:
                raise RunError(f"bench: {video.uri}: {chunk.error}", ExitCode.SOME_FAILED)
            chunks[key] = chunk
        index = int(next(iter(chunks.values())).frame_index[0])
        yield index, chunks, seconds


def _step(
    runs: list[_Run], index: int, chunks: Chunks, decoded: dict[str, float], *, is_timed: bool
) -> None:
    """Take one frame through all combinations; what two of them share is done once."""
    found: dict[str, tuple[Detections, float]] = {}
    vectors: dict[tuple[str, str], tuple[FloatArray, float]] = {}
    for run in runs:
        finder, embedder = run.combination.finder, run.combination.embedder
        if finder.name not in found:
            found[finder.name] = _timed(run.clock, finder.find, chunks[_key(finder.config)])
        detections, detect_s = found[finder.name]
        # the association looks at no others: a separate embedder need not see them
        least = run.combination.config.tracking.least_score
        detections = detections[detections.scores >= least]
        embeddings, embed_s = detections.embeddings, 0.0
        if run.combination.is_blind:
            embeddings = embeddings[:, :0]
        elif embedder is not None:
            pair = (finder.name, embedder.name)
            if pair not in vectors:
                chunk = chunks[_key(embedder.config)]
                vectors[pair] = _timed(run.clock, embedder.embed, chunk, detections.tlbr)
            embeddings, embed_s = vectors[pair]
        rounded = embeddings.astype(np.float16).astype(np.float32)  # as they travel in a run
        tracks, associate_s = _timed(
            run.clock, run.tracker.update, detections.tlbr, detections.scores, rounded
        )
        told = run.combination.config
        keep = reported(tracks.tlbr, told.tracking, told.min_box_area)
        count = int(keep.sum())
        run.rows.append(BoxRows(np.full(count, index), tracks.track_id[keep], tracks.tlbr[keep]))
        if is_timed:
            run.frames += 1
            run.boxes += len(detections)
            times = (decoded[_key(finder.config)], detect_s, embed_s, associate_s)
            for stage, seconds in zip(STAGES, times, strict=True):
                run.seconds[stage] += seconds


def _result(sequence: Footage, run: _Run, end: int, *, is_cut: bool) -> Measured:
    scores, people = None, float("nan")
    if sequence.truth is not None:
        truth = sequence.truth
        seen = [truth.people, truth.ignore, truth.other]
        if is_cut:
            seen = [rows[rows.frame < end] for rows in seen]
        scores = score_sequence(seen[0], BoxRows.concatenate(run.rows), seen[1], seen[2])
        people = len(seen[0]) / end
    return Measured(
        sequence.video.name,
        run.combination.finder.name,
        run.combination.embedding,
        run.frames,
        run.boxes,
        people,
        run.seconds,
        scores,
    )


def _timed(
    clock: Callable[[], float], work: Callable[..., Any], *arguments: Any
) -> tuple[Any, float]:
    started = clock()
    result = work(*arguments)
    return result, clock() - started


def check_clock(clock: str, threads: int) -> None:
    """Refuse a clock that would add up the threads of a network.

    Raises:
        ValueError: If it would.
    """
    if clock == "cpu" and threads != 1:
        raise ValueError(f"clock: got cpu with {threads} threads, which it adds up; expected 1")


def _key(config: TrackConfig) -> str:
    detection = config.detection
    return f"{detection.size} {detection.rect} {detection.resize}"


def _letterbox(chunk: FrameChunk) -> Letterbox:
    height, width = chunk.frames.shape[1:3]
    return Letterbox(chunk.info.width, chunk.info.height, width, height)
