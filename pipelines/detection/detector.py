"""Detector: the model, loaded once; chunks of letterboxed frames in, boxes in source pixels out.

`Detector` serves the reference loop and online use. `DetectorStage` is the same inside the
dataflow: it hands its detections to the video's owner and gives the dataset only a receipt.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np
import pyarrow as pa
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import Detections, FloatArray, check_frames
from jde_ray.pipelines.config import (
    DetectionConfig,
    Parts,
    Precision,
    ResourceConfig,
    TrackConfig,
    find_part,
)
from jde_ray.pipelines.detection.networks import (
    FoundInFrame,
    FrameModel,
    PictureModel,
    fingerprint,
    is_separate,
    quick_precision,
)
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.structures import DetectionChunk, FrameChunk, VideoInfo
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.shard_client import Owners
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


def settle(
    config: TrackConfig,
    parts: Parts,
    resources: ResourceConfig,
    recorded: Precision | None = None,
) -> TrackConfig:
    """The configuration with what guards OUT filled in: fingerprint of the weights, precision.

    Precision `auto` becomes `recorded`, so that a run can be resumed on another machine; without
    it, what is quick on this machine.

    Args:
        config: As asked for.
        parts: With a model that is not ours, the weights are not looked at.
        resources: Where the run takes place.
        recorded: Precision that OUT was begun with, see `run_record.recorded_precision`.

    Raises:
        RunError: If there are no such weights, or no GPU here for a local run that wants one (2).
    """
    detection = config.detection
    is_ours = parts.model == Parts().model
    if not detection.weights_sha256 and is_ours:
        try:
            detection = replace(detection, weights_sha256=fingerprint(detection.weights))
        except ValueError as error:
            raise RunError(str(error), ExitCode.REFUSED) from error
    _check_device(resources)
    if is_ours and is_separate(detection.weights):
        if detection.precision == "bf16":
            raise RunError(
                "precision: got bf16, ONNX files run in theirs; accepted is auto | fp32",
                ExitCode.REFUSED,
            )
        detection = replace(detection, precision="fp32")
    if detection.precision == "auto":
        chosen = recorded or quick_precision(resources.device)
        detection = replace(detection, precision=chosen)
    return replace(config, detection=detection)


def _check_device(resources: ResourceConfig) -> None:
    if resources.device != "cuda" or resources.address != "local":
        return
    import torch

    if not torch.cuda.is_available():
        raise RunError("device: got cuda, but this machine has no GPU; use cpu", ExitCode.REFUSED)


class Detector:
    """Load once, detect often.

    On a CPU it sets the threads of torch (or of OpenCV, for ONNX files) to
    `resources.torch_threads` **for the whole process**: sums depend on their number.

    Args:
        config: Of the network; its `size` is that of the chunks' frames.
        resources: Device and threads.
        model: Import path of the model's builder, see `FrameModel` and `PictureModel`.
    """

    def __init__(
        self, config: DetectionConfig, resources: ResourceConfig, model: str = Parts().model
    ) -> None:
        self._model: FrameModel | PictureModel = find_part(model)(config, resources)

    def detect(self, chunk: FrameChunk) -> DetectionChunk:
        """Detections of the valid frames of a chunk; an error of the chunk is passed on.

        A `FrameModel` sees the padding too, so that its arithmetic does not depend on how many
        frames of the last chunk are real.
        """
        found: list[Detections] = []
        error, num_capped = chunk.error, 0
        if error is None:
            try:
                infos = [chunk.info] * len(chunk.frame_index)
                found, num_capped = self.find(chunk.frames, infos, chunk.frame_index)
            except VideoError as refused:
                error = refused
            except Exception as failure:
                logger.exception("detection in chunk %d failed", chunk.chunk_index)
                error = _to_video_error(failure, int(chunk.frame_index[:1].sum()))
        kept = ("video_id", "attempt", "chunk_index", "info", "is_last", "num_damaged")
        return DetectionChunk(
            **{name: getattr(chunk, name) for name in kept},
            frame_index=chunk.frame_index if error is None else chunk.frame_index[:0],
            time_s=chunk.time_s if error is None else chunk.time_s[:0],
            detections=[] if error is not None else found,
            num_capped=0 if error is not None else num_capped,
            error=error,
        )

    def find(
        self,
        frames: NDArray[np.uint8],
        infos: Sequence[VideoInfo],
        frame_index: Sequence[int] | NDArray[np.int64],
    ) -> tuple[list[Detections], int]:
        """Detections of frames, which may come from different sources.

        Args:
            frames: `(T, H, W, 3)` uint8 letterboxed RGB.
            infos: Of the n <= T frames that are no padding: where each comes from.
            frame_index: Their numbers, for errors.

        Returns:
            n detections in source pixels, and how many boxes `max_detections` left out.

        Raises:
            ValueError: If the frames are no such array, or fewer than `infos`.
            VideoError: If a number is not finite.
        """
        check_frames(frames)
        if not len(infos) == len(frame_index) <= len(frames):
            raise ValueError(
                f"infos: got {len(infos)} and {len(frame_index)} numbers of {len(frames)} frames, "
                "accepted is one of each a frame, and more frames only as padding"
            )
        height, width = frames.shape[1:3]
        letterboxes = [Letterbox(info.width, info.height, width, height) for info in infos]
        results: list[FoundInFrame] = []
        if isinstance(self._model, PictureModel):
            for box, group in groupby(range(len(infos)), letterboxes.__getitem__):
                pictures = box.pictures(frames[list(group)])
                results += self._model.find_in_pictures(pictures)
            boxes = [
                box.picture_to_source(np.asarray(result.tlbr, np.float32))
                for box, result in zip(letterboxes, results, strict=True)
            ]
        else:
            results += self._model(frames)[: len(infos)] if infos else []
            boxes = [
                box.to_source(np.asarray(result.tlbr, np.float32))
                for box, result in zip(letterboxes, results, strict=True)
            ]
        found = [
            _check(int(frame), result, tlbr)
            for frame, result, tlbr in zip(frame_index, results, boxes, strict=True)
        ]
        return found, sum(result.num_capped for result in results)


def _check(frame: int, result: FoundInFrame, tlbr: FloatArray) -> Detections:
    """Detections of a frame, as they travel.

    Raises:
        VideoError: If a number is not finite.
    """
    if not all(np.isfinite(v).all() for v in (result.tlbr, result.scores, result.embeddings)):
        raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", frame)
    scores = np.asarray(result.scores, np.float32)
    return Detections(tlbr, scores, np.asarray(result.embeddings, np.float16))


def _to_video_error(failure: Exception, frame: int) -> VideoError:
    """What a failing model means for the video.

    Raises:
        Exception: The failure itself if the device is broken, which is no video's fault.
    """
    name, detail = type(failure).__name__, str(failure)
    if name == "AcceleratorError":  # torch's; this process can use the device no more
        raise failure
    if isinstance(failure, FloatingPointError):
        return VideoError(Reason.NON_FINITE_OUTPUT, detail, frame)
    if isinstance(failure, MemoryError) or name == "OutOfMemoryError":
        return VideoError(Reason.OUT_OF_MEMORY, detail, frame)
    return VideoError(Reason.INTERNAL, f"{name}: {detail}", frame)


class DetectorStage:
    """A `Detector` as an actor of the pool: one batch is one row, of a chunk or several small ones.

    Args:
        config: Of the network.
        resources: Device and threads.
        model: Import path of the model's class.
        pass_id: Of the pass, to find the videos' owners.
        num_shards: How many owners there are.
    """

    def __init__(
        self,
        config: DetectionConfig,
        resources: ResourceConfig,
        model: str,
        pass_id: str,
        num_shards: int,
    ) -> None:
        self._detector = Detector(config, resources, model)
        self._owners = Owners(pass_id, num_shards)
        self._detect_s, self._num_detections = 0.0, 0  # of the row at hand

    def __call__(self, table: pa.Table) -> pa.Table:
        """Detect, deliver, and return a receipt of one row."""
        chunks, decode_s = wire_format.frames_from_table(table)
        self._detect_s, self._num_detections = 0.0, 0
        answers = self._together(chunks) if len(chunks) > 1 else None
        if answers is None:
            answers = [self._alone(chunk) for chunk in chunks]
        return wire_format.receipt(
            chunks, answers, self._num_detections, decode_s=decode_s, detect_s=self._detect_s
        )

    def _together(self, chunks: Sequence[FrameChunk]) -> list[str] | None:
        """Answers of the owners; None if the chunks shall go one by one."""
        begun = self._owners.begin_all(chunks)
        if begun is None:
            return None
        answers: list[str] = list(begun)
        wanted = [place for place, answer in enumerate(answers) if answer == "ok"]
        found = [self._detect(chunks[place]) for place in wanted]
        for place, answer in zip(wanted, self._owners.deliver_all(found), strict=True):
            answers[place] = answer
        return answers

    def _alone(self, chunk: FrameChunk) -> str:
        answer: str = self._owners.begin(chunk)
        return self._owners.deliver(self._detect(chunk)) if answer == "ok" else answer

    def _detect(self, chunk: FrameChunk) -> DetectionChunk:
        started = time.perf_counter()
        try:
            found = self._detector.detect(chunk)
        except Exception:
            logger.exception("the device is broken; Ray starts this detector anew")
            os._exit(1)
        self._detect_s += time.perf_counter() - started
        self._num_detections += sum(len(frame) for frame in found.detections)
        return found
