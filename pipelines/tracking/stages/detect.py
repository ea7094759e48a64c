"""The detect stage: chunks of frames in, detections delivered to the video's association shard."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence

import pyarrow as pa

from jde_ray.pipelines.cluster import node_name
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import ModelBuilder
from jde_ray.pipelines.structures import DetectionChunk, FrameChunk, Verdict
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient

logger = logging.getLogger(__name__)

_SENT_CHUNKS = 4  # chunks of a row that go to their shards together


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
        self._detect_s, self._num_detections = 0.0, 0  # of the current row

    def __call__(self, table: pa.Table) -> pa.Table:
        """Detect, deliver, and return a receipt of one row."""
        chunks, decode_s = wire_format.frames_from_table(table)
        self._detect_s, self._num_detections = 0.0, 0
        answers = self._together(chunks) if len(chunks) > 1 else None
        if answers is None:
            answers = [self._alone(chunk) for chunk in chunks]
        return wire_format.receipt(
            chunks,
            answers,
            self._num_detections,
            decode_s=decode_s,
            detect_s=self._detect_s,
            node=self._node,
        )

    def _together(self, chunks: Sequence[FrameChunk]) -> list[Verdict] | None:
        """Verdicts of the shards; None if the chunks must be begun one by one."""
        begun = self._shards.begin_all(chunks)
        if begun is None:
            return None
        answers: list[Verdict] = list(begun)
        wanted = [place for place, answer in enumerate(answers) if answer == Verdict.TAKEN]
        # the shards associate what was sent while the rest is detected
        sent: list[tuple[list[int], Callable[[], list[Verdict]]]] = []
        for start in range(0, len(wanted), _SENT_CHUNKS):
            part = wanted[start : start + _SENT_CHUNKS]
            sent.append((part, self._shards.send_all([self._detect(chunks[one]) for one in part])))
        for part, verdicts in sent:
            for place, answer in zip(part, verdicts(), strict=True):
                answers[place] = answer
        return answers

    def _alone(self, chunk: FrameChunk) -> Verdict:
        answer = self._shards.begin(chunk)
        return self._shards.deliver(self._detect(chunk)) if answer == Verdict.TAKEN else answer

    def _detect(self, chunk: FrameChunk) -> DetectionChunk:
        started = time.perf_counter()
        try:
            found = self._detector.detect(chunk)
        except Exception:
            logger.exception("the device is broken; Ray restarts this detector")
            os._exit(1)
        self._detect_s += time.perf_counter() - started
        self._num_detections += sum(len(frame) for frame in found.detections)
        return found
