"""The detect stage: chunks of frames in, detections delivered to the video's association shard."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from jde_ray.pipelines.cluster import node_name
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import ModelBuilder
from jde_ray.pipelines.structures import DetectionChunk, FrameChunk, Verdict
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient

logger = logging.getLogger(__name__)

_FIRST_SENT = 4  # chunks of a row that go to their shards first; each later part has twice as many


class DetectorStage:
    """A `Detector` as an actor of the pool: one batch is one row, of a chunk or several small ones.

    Args:
        config: Settings of the network and of its detections.
        resources: Device and threads.
        build_model: Loads the network.
        shards: The association shards that take the detections.
    """

    def __init__(
        self,
        config: DetectionConfig,
        resources: ResourceConfig,
        build_model: ModelBuilder,
        shards: ShardClient,
    ) -> None:
        self._detector = Detector(config, resources, build_model)
        self._shards = shards
        self._node = node_name()

    def __call__(self, table: pa.Table) -> pa.Table:
        """Detect, deliver, and return a receipt of one row. Several threads may call it."""
        chunks, decode_s = wire_format.frames_from_table(table)
        done = self._together(chunks) if len(chunks) > 1 else None
        if done is None:
            done = sum((self._alone(chunk) for chunk in chunks), _Done())
        return wire_format.receipt(
            chunks,
            done.answers,
            done.num_detections,
            decode_s=decode_s,
            detect_s=done.detect_s,
            node=self._node,
        )

    def _together(self, chunks: Sequence[FrameChunk]) -> _Done | None:
        """Work on chunks at once; None if they must be begun one by one."""
        begun = self._shards.begin_all(chunks)
        if begun is None:
            return None
        answers: list[Verdict] = list(begun)
        wanted = [place for place, answer in enumerate(answers) if answer == Verdict.TAKEN]
        # the shards associate what was sent while the rest is detected; batches of a GPU are filled
        size = len(wanted) if self._detector.takes_several else _FIRST_SENT
        num_detections, detect_s = 0, 0.0
        sent: list[tuple[list[int], Callable[[], list[Verdict]]]] = []
        while wanted:
            part, wanted, size = wanted[:size], wanted[size:], 2 * size
            found, seconds = self._detect([chunks[place] for place in part])
            num_detections, detect_s = num_detections + _count(found), detect_s + seconds
            sent.append((part, self._shards.send_all(found)))
        for part, verdicts in sent:
            for place, answer in zip(part, verdicts(), strict=True):
                answers[place] = answer
        return _Done(tuple(answers), num_detections, detect_s)

    def _alone(self, chunk: FrameChunk) -> _Done:
        answer = self._shards.begin(chunk)
        if answer != Verdict.TAKEN:
            return _Done((answer,))
        found, detect_s = self._detect([chunk])
        return _Done((self._shards.deliver(found[0]),), _count(found), detect_s)

    def _detect(self, chunks: Sequence[FrameChunk]) -> tuple[list[DetectionChunk], float]:
        """Detections, and the seconds until they were there."""
        started = time.perf_counter()
        try:
            found = self._detector.detect_all(chunks)
        except Exception:
            logger.exception("the device is broken; Ray restarts this detector")
            os._exit(1)
        return found, time.perf_counter() - started


@dataclass(frozen=True)
class _Done:
    """What became of the chunks of a row: their verdicts, detections, seconds of detection."""

    answers: tuple[Verdict, ...] = ()
    num_detections: int = 0
    detect_s: float = 0.0

    def __add__(self, other: _Done) -> _Done:
        return _Done(
            self.answers + other.answers,
            self.num_detections + other.num_detections,
            self.detect_s + other.detect_s,
        )


def _count(chunks: Sequence[DetectionChunk]) -> int:
    return sum(len(frame) for chunk in chunks for frame in chunk.detections)
