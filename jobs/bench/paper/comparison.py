"""Runs combinations of detectors and embedders over the same frames; times and scores each.

For `jde bench figure4`, `table3` and `speed`: one process, one frame at a time, no Ray. Every frame
goes through all combinations before the next one, so that times compare on a busy machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from jde_ray.jobs.bench.clocks import CLOCKS
from jde_ray.jobs.bench.paper.combinations import Combination
from jde_ray.jobs.bench.paper.footage import Footage
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.models.structures import Described, Detections
from jde_ray.models.tracking.registry import least_score
from jde_ray.models.tracking.reporting import reported
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.detection_rows import DetectionRows
from jde_ray.pipelines.structures import FrameChunk, Segment, Video
from jde_ray.pipelines.tracking.stages.decode import frame_chunks
from jde_ray.pipelines.video.chunks import decode_segment

WARM_UP = 5  # frames at the start of a sequence that are tracked but not timed
STAGES = ("decode", "detect", "embed", "associate")
# `cpu` counts processor time of this process, for a machine with other work


@dataclass(frozen=True)
class Measured:
    """One combination on one sequence.

    Attributes:
        sequence: Name of the sequence.
        detector: Name of the detector.
        embedding: Name of the embedding.
        is_joint: Whether the detector has embeddings of its own.
        frames: Number of timed frames.
        boxes: Detections in those frames that score high enough for the tracker.
        people: People per frame in the ground truth, NaN without one.
        seconds: By stage, over the timed frames; `decode` includes resizing for the detector.
        scores: Tracking scores, None without ground truth.
        found: Those of its detections in all frames that score high enough for the tracker.
        frame_size: Width and height of the frames in pixels.
        tracks: Rows of its tracks in all frames, counted from 0.
        appearance_limit: The tracker's limit of a match by appearance; None if it has none, or
            learns it.
    """

    sequence: str
    detector: str
    embedding: str
    is_joint: bool
    frames: int
    boxes: int
    people: float
    seconds: dict[str, float]
    scores: SequenceScores | None
    found: DetectionRows
    frame_size: tuple[int, int]
    tracks: BoxRows
    appearance_limit: float | None


@dataclass
class _Run:
    combination: Combination
    tracker: JDETracker
    clock: Callable[[], float]
    frame_size: tuple[int, int]
    frames: int = 0
    boxes: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    rows: list[BoxRows] = field(default_factory=list)
    found: list[tuple[int, Detections]] = field(default_factory=list)


def measure(
    sequence: Footage,
    combinations: Sequence[Combination],
    max_frames: int | None = None,
    clock: str = "wall",
) -> list[Measured]:
    """Track one sequence with every combination, frame by frame in turn.

    Args:
        sequence: Sequence to track.
        combinations: Combinations to track it with.
        max_frames: Frames to use, None for all.
        clock: One of `CLOCKS`. `cpu` adds up all threads, so networks should run on one.

    Raises:
        RunError: If the video cannot be read.
    """
    runs: list[_Run] = []
    num_frames = 0
    for index, chunks, decoded in _frames(sequence.video, combinations, max_frames, CLOCKS[clock]):
        if not runs:
            info = next(iter(chunks.values())).info
            size = (info.width, info.height)
            runs = [
                _Run(
                    one,
                    JDETracker(one.config.tracking, info.frames_per_second),
                    CLOCKS[clock],
                    size,
                )
                for one in combinations
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


Chunks = dict[str, FrameChunk]  # by `_key` of the settings they were decoded for


def _frames(
    video: Video,
    combinations: Sequence[Combination],
    max_frames: int | None,
    clock: Callable[[], float],
) -> Iterator[tuple[int, Chunks, dict[str, float]]]:
    """Yield frame numbers, the frame as each network takes it, and the seconds each decode took."""
    configs: dict[str, TrackConfig] = {}
    for combination in combinations:
        for part in (combination.finder, combination.embedder):
            if part is not None:
                configs.setdefault(_key(part.config), part.config)
    resources = ResourceConfig(chunk_frames=1)
    streams = {
        key: frame_chunks(
            decode_segment, Segment(video), replace(config, max_frames=max_frames), resources
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
    """Run one frame through all combinations; work that two of them share is done once."""
    found: dict[str, tuple[Detections, float]] = {}
    described: dict[tuple[str, str, float], tuple[Described, float]] = {}
    for run in runs:
        finder, embedder = run.combination.finder, run.combination.embedder
        if finder.name not in found:
            found[finder.name] = _timed(run.clock, finder.find, chunks[_key(finder.config)])
        detections, detect_s = found[finder.name]
        # the tracker ignores the others, so a separate embedder need not see them
        is_blind = embedder is None and not finder.is_joint
        least = least_score(run.combination.config.tracking, has_embeddings=not is_blind)
        detections = detections[detections.scores >= least]
        looks, embed_s = Described(detections.embeddings, detections.quality), 0.0
        if embedder is not None:
            pair = (finder.name, embedder.name, least)
            if pair not in described:
                chunk = chunks[_key(embedder.config)]
                described[pair] = _timed(run.clock, embedder.embed, chunk, detections.tlbr)
            looks, embed_s = described[pair]
        rounded = looks.vectors.astype(np.float16).astype(np.float32)  # as they travel in a run
        told = run.combination.config
        when_and_where = _when_and_where(chunks[_key(finder.config)], told)
        update = partial(run.tracker.update, quality=looks.quality, **when_and_where)
        tracks, associate_s = _timed(run.clock, update, detections.tlbr, detections.scores, rounded)
        run.found.append((index, detections))
        keep = reported(tracks.tlbr, told)
        count = int(keep.sum())
        run.rows.append(BoxRows(np.full(count, index), tracks.track_id[keep], tracks.tlbr[keep]))
        if is_timed:
            run.frames += 1
            run.boxes += len(detections)
            times = (decoded[_key(finder.config)], detect_s, embed_s, associate_s)
            for stage, seconds in zip(STAGES, times, strict=True):
                run.seconds[stage] += seconds


def _when_and_where(chunk: FrameChunk, config: TrackConfig) -> dict[str, Any]:
    """Time and camera's motion of the frame of a chunk, as a run tells them to the tracker."""
    motion = None
    if config.estimates_motion:
        motion = np.eye(2, 3) if chunk.camera_motion is None else chunk.camera_motion[0]
    return {"time_s": float(chunk.time_s[0]), "camera_motion": motion}


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
        run.combination.finder.is_joint,
        run.frames,
        run.boxes,
        people,
        run.seconds,
        scores,
        _rows_of(run.found),
        run.frame_size,
        BoxRows.concatenate(run.rows),
        getattr(run.combination.config.tracking, "appearance_limit", None),
    )


def _rows_of(found: Sequence[tuple[int, Detections]]) -> DetectionRows:
    counts = [len(one) for _, one in found]
    frame = np.repeat(np.array([index for index, _ in found], np.int64), counts)
    tlbr = np.concatenate([np.zeros((0, 4)), *(one.tlbr for _, one in found)])
    scores = np.concatenate([np.zeros(0), *(one.scores for _, one in found)])
    return DetectionRows(BoxRows(frame, np.arange(len(frame)), tlbr), scores, None)


def _timed(
    clock: Callable[[], float], work: Callable[..., Any], *arguments: Any
) -> tuple[Any, float]:
    started = clock()
    result = work(*arguments)
    return result, clock() - started


def _key(config: TrackConfig) -> str:
    detection = config.detection
    return f"{detection.size} {detection.rect} {detection.resize}"
