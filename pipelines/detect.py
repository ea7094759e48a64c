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
from typing import Any, Literal, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.letterbox import Letterbox
from models.structures import Detections, FloatArray
from pipelines import wire
from pipelines.config import (
    DetectionConfig,
    Device,
    Parts,
    ResourceConfig,
    TrackConfig,
    find_part,
)
from pipelines.delivery import Owners
from pipelines.errors import ExitCode, Reason, RunError, VideoError
from pipelines.run_record import recorded_precision
from pipelines.schema import DetectionChunk, FrameChunk

logger = logging.getLogger(__name__)


class FoundInFrame(Protocol):
    """Detections of one frame in network pixels, as `models.jde` gives them."""

    @property
    def tlbr(self) -> FloatArray:
        """`(N, 4)` corners."""
        ...

    @property
    def scores(self) -> FloatArray:
        """`(N,)` confidence."""
        ...

    @property
    def embeddings(self) -> FloatArray:
        """`(N, D)`, L2-normalised."""
        ...

    @property
    def num_capped(self) -> int:
        """Detections that `max_detections` left out."""
        ...


class FrameModel(Protocol):
    """What a detector needs of a model: all T frames in, T results out."""

    def __call__(self, frames: NDArray[np.uint8]) -> Sequence[FoundInFrame]:
        """Find people in `(T, H, W, 3)` uint8 RGB frames (read-only).

        Raises:
            FloatingPointError: If the output is not finite.
        """
        ...


class TorchModel:
    """The JDE network on its device, with its thresholds.

    Args:
        config: Weights, thresholds, precision.
        resources: Device and threads.
    """

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        import torch

        from models.jde.fusion import optimise
        from models.jde.weights import load

        torch.set_num_threads(resources.torch_threads)
        wanted = resources.device
        if wanted == "auto":
            wanted = "cuda" if torch.cuda.is_available() else "cpu"
        self._torch, self._device, self._config = torch, torch.device(wanted), config
        model = load(config.weights, config.size).to(self._device)
        precision = config.precision
        if precision == "auto":
            precision = quick_precision(resources.device)
        self._model = optimise(model, precision)

    def __call__(self, frames: NDArray[np.uint8]) -> Sequence[FoundInFrame]:
        """Run the network on all frames of a chunk at once."""
        pixels = self._torch.tensor(frames).to(self._device)  # copies: Ray's memory is read-only
        config = self._config
        found: Sequence[FoundInFrame] = self._model.detect(
            pixels, config.score_threshold, config.nms_threshold, config.max_detections
        )
        return found


def settle(config: TrackConfig, parts: Parts, resources: ResourceConfig, out: str) -> TrackConfig:
    """The configuration with what guards OUT filled in: the SHA-256 of the weights, the precision.

    Precision `auto` is what OUT was begun with, so that a run can be resumed on another machine;
    for a new OUT, what is quick on this machine.

    Raises:
        RunError: If there are no such weights, or no GPU here for a local run that wants one (2).
    """
    detection = config.detection
    if not detection.weights_sha256 and parts.model == Parts().model:
        from models.jde.weights import CheckpointError, sha256

        try:
            detection = replace(detection, weights_sha256=sha256(detection.weights))
        except CheckpointError as error:
            raise RunError(str(error), ExitCode.REFUSED) from error
    _check_device(resources)
    if detection.precision == "auto":
        chosen = recorded_precision(out) or quick_precision(resources.device)
        detection = replace(detection, precision=chosen)
    return replace(config, detection=detection)


def _check_device(resources: ResourceConfig) -> None:
    if resources.device != "cuda" or resources.address != "local":
        return
    import torch

    if not torch.cuda.is_available():
        raise RunError("device: got cuda, but this machine has no GPU; use cpu", ExitCode.REFUSED)


def quick_precision(device: Device) -> Literal["fp32", "bf16"]:
    """`bf16` where this machine has units for it (a GPU, AMX), else `fp32`.

    A run on a cluster is settled on the machine that starts it.
    """
    import torch

    if device != "cpu" and torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device == "cuda":  # on the cluster's machines, not on this one
        return "bf16"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11
    return "bf16" if capabilities.get("amx_bf16", False) else "fp32"


class Detector:
    """Load once, detect often.

    Args:
        config: Of the network; its `size` is that of the chunks' frames.
        resources: Device and threads.
        model: Import path of the model's class, see `FrameModel`.
    """

    def __init__(
        self, config: DetectionConfig, resources: ResourceConfig, model: str = Parts().model
    ) -> None:
        self._model: FrameModel = find_part(model)(config, resources)

    def detect(self, chunk: FrameChunk) -> DetectionChunk:
        """Detections of the valid frames of a chunk; an error of the chunk is passed on.

        The model sees the padding too, so that its arithmetic does not depend on how many frames
        of the last chunk are real.
        """
        found: list[Detections] = []
        error, num_capped = chunk.error, 0
        if error is None:
            try:
                results = self._model(chunk.frames)[: len(chunk.frame_index)]
                found = [self._to_source(chunk, i, result) for i, result in enumerate(results)]
                num_capped = sum(result.num_capped for result in results)
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

    @staticmethod
    def _to_source(chunk: FrameChunk, index: int, result: FoundInFrame) -> Detections:
        values = (result.tlbr, result.scores, result.embeddings)
        if not all(np.isfinite(value).all() for value in values):
            frame = int(chunk.frame_index[index])
            raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", frame)
        height, width = chunk.frames.shape[1:3]
        letterbox = Letterbox(chunk.info.width, chunk.info.height, width, height)
        tlbr = letterbox.to_source(np.asarray(result.tlbr, np.float32))
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
    """A `Detector` as an actor of the pool: one batch is one chunk.

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

    def __call__(self, table: pa.Table) -> pa.Table:
        """Detect, deliver, and return a receipt of one row."""
        chunk, decode_s = wire.frames_from_table(table)
        answer: str = self._owners.begin(chunk.video_id, chunk.attempt, chunk.chunk_index)
        detect_s, num_detections = 0.0, 0
        if answer == "ok":
            started = time.perf_counter()
            found = self._detect(chunk)
            detect_s = time.perf_counter() - started
            num_detections = sum(len(frame) for frame in found.detections)
            answer = self._owners.deliver(found)
        receipt: dict[str, Any] = {
            "video_id": chunk.video_id,
            "chunk_index": chunk.chunk_index,
            "num_frames": len(chunk.frame_index),
            "num_detections": num_detections,
            "is_last": chunk.is_last or chunk.error is not None,
            "answer": answer,
            "decode_s": decode_s,
            "detect_s": detect_s,
        }
        return pa.Table.from_pylist([receipt])

    def _detect(self, chunk: FrameChunk) -> DetectionChunk:
        try:
            return self._detector.detect(chunk)
        except Exception:
            logger.exception("the device is broken; Ray starts this detector anew")
            os._exit(1)
