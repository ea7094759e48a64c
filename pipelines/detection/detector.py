"""Detector: the model, loaded once; chunks of letterboxed frames in, boxes in source pixels out.

`Detector` serves the reference loop and online use. `DetectorStage` is the same inside the
dataflow: it hands its detections to the video's association shard and returns only a receipt.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import Detections, FloatArray, check_frames
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.networks import (
    Embedder,
    FoundInFrame,
    Model,
    ModelBuilder,
    load_network,
)
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import DetectionChunk, FrameChunk, VideoInfo

logger = logging.getLogger(__name__)


class Detector:
    """Load once, detect often.

    On a CPU it sets the threads of torch (or of OpenCV, for ONNX files) to
    `resources.torch_threads` **for the whole process**: sums depend on their number.

    Args:
        config: Settings of the network; its `size` is that of the chunks' frames.
        resources: Device and threads.
        build_model: Loads the network; another one than the default brings a model of your own.
    """

    def __init__(
        self,
        config: DetectionConfig,
        resources: ResourceConfig,
        build_model: ModelBuilder = load_network,
    ) -> None:
        self._model: Model = build_model(config, resources)

    def detect(self, chunk: FrameChunk) -> DetectionChunk:
        """Detections of the valid frames of a chunk; an error of the chunk is passed on.

        The model gets the padding too, so that its arithmetic does not depend on how many frames
        of the last chunk are real.
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
        kept = (
            *("video_id", "attempt", "chunk_index"),
            *("info", "is_last", "num_damaged", "decode_whole"),
        )
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
            infos: Source video of each of the n <= T frames that are no padding.
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
                "expected one of each a frame, and more frames only as padding"
            )
        height, width = frames.shape[1:3]
        letterboxes = [Letterbox(info.width, info.height, width, height) for info in infos]
        results = self._model.detect(frames, letterboxes) if infos else []
        found = [
            _check(int(frame), result) for frame, result in zip(frame_index, results, strict=True)
        ]
        return found, sum(result.num_capped for result in results)

    def embed(self, picture: NDArray[np.uint8], box: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Appearance of people whose boxes are known.

        Args:
            picture: `(h, w, 3)` uint8 RGB, the source frame.
            box: Where it lies in the network's input.
            tlbr: `(N, 4)` float32 corners in source pixels.

        Returns:
            `(N, D)` float32 L2-normalised vectors; zeros where the network sees nobody.

        Raises:
            ValueError: If the model cannot describe given boxes.
            VideoError: If a number is not finite.
        """
        if not isinstance(self._model, Embedder):
            name = type(self._model).__name__
            raise ValueError(f"model: {name} cannot describe given boxes, expected shipped weights")
        vectors = self._model.embed(box.apply(picture), box, tlbr)
        if not np.isfinite(vectors).all():
            raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", 0)
        return np.asarray(vectors, np.float32)


def _check(frame: int, result: FoundInFrame) -> Detections:
    """Detections of a frame, as they travel.

    Raises:
        VideoError: If a number is not finite.
    """
    if not all(np.isfinite(v).all() for v in (result.tlbr, result.scores, result.embeddings)):
        raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", frame)
    scores = np.asarray(result.scores, np.float32)
    tlbr = np.asarray(result.tlbr, np.float32)
    return Detections(tlbr, scores, np.asarray(result.embeddings, np.float16))


def _to_video_error(failure: Exception, frame: int) -> VideoError:
    """The error of the video for a failure of the model.

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
