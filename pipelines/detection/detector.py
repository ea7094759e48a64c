"""Detector: loads a model once, and turns chunks of letterboxed frames into source-pixel boxes.

The reference loop and the service use `Detector` directly. In the dataflow it runs inside
`pipelines.tracking.stages.detect.DetectorStage`.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import Detections, FloatArray, check_frames
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.model import Embedded, Embedder, FoundInFrame, Model, Reader
from jde_ray.pipelines.detection.networks import ModelBuilder, load_network
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import DetectionChunk, FrameChunk, VideoInfo

logger = logging.getLogger(__name__)


class Detector:
    """A loaded network that detects people in chunks of frames.

    On a CPU it sets the number of threads of torch (or of OpenCV, for ONNX files) to
    `resources.torch_threads` **for the entire process**, since sums depend on it.

    Args:
        config: Settings of the network; its `size` is that of the chunks' frames.
        resources: Device and threads.
        build_model: Function that loads the network; pass your own to use your own model.
    """

    def __init__(
        self,
        config: DetectionConfig,
        resources: ResourceConfig,
        build_model: ModelBuilder = load_network,
    ) -> None:
        self._model: Model = build_model(config, resources)

    def detect(self, chunk: FrameChunk) -> DetectionChunk:
        """Detections in the valid frames of a chunk; an error of the chunk is passed on.

        The model gets the padding too, so that its arithmetic does not depend on how many frames
        of the last chunk are real.
        """
        found: list[Detections] = []
        error, num_capped, num_crops = chunk.error, 0, 0
        if error is None:
            try:
                infos = [chunk.info] * len(chunk.frame_index)
                found, results = self._find(chunk.frames, infos, chunk.frame_index)
                num_capped = sum(result.num_capped for result in results)
                num_crops = sum(getattr(result, "num_crops", 0) for result in results)
            except VideoError as refused:
                error = refused
            except Exception as failure:
                logger.exception("detection in chunk %d failed", chunk.chunk_index)
                error = _to_video_error(failure, int(chunk.frame_index[:1].sum()))
        kept = (
            *("video_id", "attempt", "chunk_index"),
            *("info", "is_last", "num_damaged", "decode_whole", "is_partial"),
        )
        return DetectionChunk(
            **{name: getattr(chunk, name) for name in kept},
            frame_index=chunk.frame_index if error is None else chunk.frame_index[:0],
            time_s=chunk.time_s if error is None else chunk.time_s[:0],
            camera_motion=chunk.camera_motion if error is None else None,
            detections=[] if error is not None else found,
            num_capped=0 if error is not None else num_capped,
            num_crops=0 if error is not None else num_crops,
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
            infos: Source video of each of the first n <= T frames; the others are padding.
            frame_index: Their frame numbers, for error messages.

        Returns:
            Detections of the n frames in source pixels, and the number of boxes that
            `max_detections` left out.

        Raises:
            ValueError: If the frames have another shape or type, or are fewer than `infos`.
            VideoError: If an output is not finite.
        """
        found, results = self._find(frames, infos, frame_index)
        return found, sum(result.num_capped for result in results)

    def _find(
        self,
        frames: NDArray[np.uint8],
        infos: Sequence[VideoInfo],
        frame_index: Sequence[int] | NDArray[np.int64],
    ) -> tuple[list[Detections], Sequence[FoundInFrame]]:
        check_frames(frames)
        if not len(infos) == len(frame_index) <= len(frames):
            raise ValueError(
                f"infos: got {len(infos)} and {len(frame_index)} numbers of {len(frames)} frames, "
                "expected one of each per frame; only padding may follow"
            )
        height, width = frames.shape[1:3]
        letterboxes = [Letterbox(info.width, info.height, width, height) for info in infos]
        results = self._model.detect(frames, letterboxes) if infos else []
        found = [
            _check(int(frame), result) for frame, result in zip(frame_index, results, strict=True)
        ]
        return found, results

    def read(
        self, chunk: FrameChunk, people: Sequence[FloatArray]
    ) -> tuple[list[Detections], list[Embedded]]:
        """Detections in the frames of a chunk, and embeddings of people whose boxes are known.

        A network without a reader of its own (`model.Reader`) embeds box by box; people whom it
        does not find have no vector then.

        Args:
            chunk: Frames without an error.
            people: `(N, 4)` corners in source pixels, for each frame.

        Returns:
            Detections of each frame, and for each frame the `(K,)` numbers of people and their
            `(K, D)` float16 vectors of length 1.

        Raises:
            ValueError: If the model cannot describe given boxes.
            VideoError: If an output is not finite.
        """
        frames, numbers = chunk.frames, chunk.frame_index
        height, width = frames.shape[1:3]
        box = Letterbox(chunk.info.width, chunk.info.height, width, height)
        boxes = [box] * len(numbers)
        embedded: list[Embedded] = []
        try:
            if isinstance(self._model, Reader):
                results, embedded = self._model.read(frames, boxes, people) if boxes else ([], [])
            else:
                results = self._model.detect(frames, boxes) if boxes else []
                embedded = [
                    self._embed_all(frame, box, tlbr)
                    for frame, tlbr in zip(frames, people, strict=False)  # padding has nobody
                ]
        except FloatingPointError as error:
            first = int(numbers[0])
            raise VideoError(Reason.NON_FINITE_OUTPUT, str(error), first) from error
        found = [_check(int(frame), result) for frame, result in zip(numbers, results, strict=True)]
        for frame, (_, vectors) in zip(numbers, embedded, strict=True):
            if not np.isfinite(vectors).all():
                raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", int(frame))
        return found, [(who, vectors.astype(np.float16)) for who, vectors in embedded]

    def _embed_all(self, frame: NDArray[np.uint8], box: Letterbox, tlbr: FloatArray) -> Embedded:
        """Numbers and vectors of the people that the network can embed in a letterboxed frame."""
        if not len(tlbr):
            return np.zeros(0, np.int64), np.zeros((0, 0), np.float32)
        embedder = self._embedder()
        vectors = np.asarray(embedder.embed(frame, box, tlbr.astype(np.float32)), np.float32)
        who = np.flatnonzero(vectors.any(axis=1))  # NaN is not nothing
        return who, vectors[who]

    def _embedder(self) -> Embedder:
        if not isinstance(self._model, Embedder):
            name = type(self._model).__name__
            raise ValueError(f"model: {name} cannot describe given boxes, expected shipped weights")
        return self._model

    def embed(self, picture: NDArray[np.uint8], box: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Embed people whose boxes are known.

        Args:
            picture: `(h, w, 3)` uint8 RGB, the source frame.
            box: Letterbox that maps the frame to the network's input.
            tlbr: `(N, 4)` float32 corners in source pixels.

        Returns:
            `(N, D)` float32 L2-normalised vectors; zeros where the network finds no person.

        Raises:
            ValueError: If the model cannot describe given boxes.
            VideoError: If a number is not finite.
        """
        vectors = self._embedder().embed(box.apply(picture), box, tlbr)
        if not np.isfinite(vectors).all():
            raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", 0)
        return np.asarray(vectors, np.float32)


def _check(frame: int, result: FoundInFrame) -> Detections:
    """Detections of a frame in the form that chunks hold.

    Raises:
        VideoError: If a number is not finite.
    """
    if not all(np.isfinite(v).all() for v in (result.tlbr, result.scores, result.embeddings)):
        raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", frame)
    scores = np.asarray(result.scores, np.float32)
    tlbr = np.asarray(result.tlbr, np.float32)
    return Detections(tlbr, scores, np.asarray(result.embeddings, np.float16))


def _to_video_error(failure: Exception, frame: int) -> VideoError:
    """The video's error for a failure of the model.

    Raises:
        Exception: The failure itself if the device is broken, which is not the video's fault.
    """
    name, detail = type(failure).__name__, str(failure)
    if name == "AcceleratorError":  # raised by torch; this process can no longer use the device
        raise failure
    if isinstance(failure, FloatingPointError):
        return VideoError(Reason.NON_FINITE_OUTPUT, detail, frame)
    if isinstance(failure, MemoryError) or name == "OutOfMemoryError":
        return VideoError(Reason.OUT_OF_MEMORY, detail, frame)
    return VideoError(Reason.INTERNAL, f"{name}: {detail}", frame)
