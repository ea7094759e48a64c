"""Detector: loads a model once, and turns chunks of letterboxed frames into source-pixel boxes.

The reference loop and the service use `Detector` directly. In the dataflow it runs inside
`pipelines.tracking.stages.detect.DetectorStage`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import Detections, FloatArray, check_frames
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.model import (
    Embedded,
    Embedder,
    FoundInFrame,
    Model,
    Part,
    QueueingModel,
    Reader,
)
from jde_ray.pipelines.detection.networks import ModelBuilder, load_network
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import DetectionChunk, FrameChunk, VideoInfo

logger = logging.getLogger(__name__)

_Outcome = Sequence[FoundInFrame] | Exception  # of a chunk


class Detector:
    """A loaded network that detects people in chunks of frames.

    Several threads may use one detector; only `takes_several` says whether they gain by it.

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
        self._lock = Lock()  # for models that one thread at a time may ask

    @property
    def takes_several(self) -> bool:
        """Whether several threads may ask at once, so that the device never waits for the host."""
        return isinstance(self._model, QueueingModel)

    def detect(self, chunk: FrameChunk) -> DetectionChunk:
        """Detections in the valid frames of a chunk; an error of the chunk is passed on.

        The model gets the padding too, so that its arithmetic does not depend on how many frames
        of the last chunk are real.
        """
        return self.detect_all([chunk])[0]

    def detect_all(self, chunks: Sequence[FrameChunk]) -> list[DetectionChunk]:
        """Detections of several chunks, which may share batches; each has an error of its own."""
        asked = [chunk for chunk in chunks if chunk.error is None]
        outcomes = iter(self._ask(asked))
        return [
            _answer(chunk, next(outcomes) if chunk.error is None else chunk.error)
            for chunk in chunks
        ]

    def _ask(self, chunks: Sequence[FrameChunk]) -> list[_Outcome]:
        model = self._model
        if not isinstance(model, QueueingModel):
            return [self._ask_alone(chunk) for chunk in chunks]
        full = [chunk for chunk in chunks if len(chunk.frame_index)]
        found: Iterator[_Outcome] = iter(())
        try:
            if full:
                found = iter(model.detect_parts([_part(chunk) for chunk in full]))
        except Exception as failure:  # noqa: BLE001  becomes an error of the videos
            found = iter([failure] * len(full))
        return [next(found) if len(chunk.frame_index) else () for chunk in chunks]

    def _ask_alone(self, chunk: FrameChunk) -> _Outcome:
        infos = [chunk.info] * len(chunk.frame_index)
        try:
            return self._results(chunk.frames, infos)
        except Exception as failure:  # noqa: BLE001  becomes an error of the video
            return failure

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
        if not len(infos) == len(frame_index) <= len(frames):
            raise ValueError(
                f"infos: got {len(infos)} and {len(frame_index)} numbers of {len(frames)} frames, "
                "expected one of each per frame; only padding may follow"
            )
        results = self._results(frames, infos)
        return _checked(results, frame_index), sum(result.num_capped for result in results)

    def _results(
        self, frames: NDArray[np.uint8], infos: Sequence[VideoInfo]
    ) -> Sequence[FoundInFrame]:
        letterboxes = _letterboxes(frames, infos)
        if not infos:
            return ()
        with nullcontext() if self.takes_several else self._lock:
            return self._model.detect(frames, letterboxes)

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
            with nullcontext() if self.takes_several else self._lock:
                if isinstance(self._model, Reader):
                    results, embedded = (
                        self._model.read(frames, boxes, people) if boxes else ([], [])
                    )
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
        embedder = self._embedder()
        with nullcontext() if self.takes_several else self._lock:
            vectors = embedder.embed(box.apply(picture), box, tlbr)
        if not np.isfinite(vectors).all():
            raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", 0)
        return np.asarray(vectors, np.float32)


def _letterboxes(frames: NDArray[np.uint8], infos: Sequence[VideoInfo]) -> list[Letterbox]:
    check_frames(frames)
    height, width = frames.shape[1:3]
    return [Letterbox(info.width, info.height, width, height) for info in infos]


def _part(chunk: FrameChunk) -> Part:
    return chunk.frames, _letterboxes(chunk.frames, [chunk.info] * len(chunk.frame_index))


def _answer(chunk: FrameChunk, outcome: _Outcome) -> DetectionChunk:
    """What the association gets for a chunk.

    Raises:
        Exception: The failure itself if the device is broken.
    """
    found: list[Detections] = []
    error: VideoError | None = None
    try:
        if isinstance(outcome, Exception):
            raise outcome
        found = _checked(outcome, chunk.frame_index)
    except VideoError as refused:
        error = refused
    except Exception as failure:
        logger.exception("detection in chunk %d failed", chunk.chunk_index)
        error = _to_video_error(failure, int(chunk.frame_index[:1].sum()))
    results = () if isinstance(outcome, Exception) or error is not None else outcome
    kept = (
        *("video_id", "attempt", "chunk_index"),
        *("info", "is_last", "num_damaged", "decode_whole", "is_partial"),
    )
    return DetectionChunk(
        **{name: getattr(chunk, name) for name in kept},
        frame_index=chunk.frame_index if error is None else chunk.frame_index[:0],
        time_s=chunk.time_s if error is None else chunk.time_s[:0],
        camera_motion=chunk.camera_motion if error is None else None,
        detections=found,
        num_capped=sum(result.num_capped for result in results),
        num_crops=sum(getattr(result, "num_crops", 0) for result in results),
        error=error,
    )


def _checked(
    results: Sequence[FoundInFrame], frame_index: Sequence[int] | NDArray[np.int64]
) -> list[Detections]:
    return [_check(int(frame), result) for frame, result in zip(frame_index, results, strict=True)]


def _check(frame: int, result: FoundInFrame) -> Detections:
    """Detections of a frame in the form that chunks hold.

    Raises:
        VideoError: If a number is not finite.
    """
    told = getattr(result, "quality", None)  # most networks tell none
    numbers = (result.tlbr, result.scores, result.embeddings, 0.0 if told is None else told)
    if not all(np.isfinite(values).all() for values in numbers):
        raise VideoError(Reason.NON_FINITE_OUTPUT, "the model gave NaN or Inf", frame)
    scores = np.asarray(result.scores, np.float32)
    tlbr = np.asarray(result.tlbr, np.float32)
    quality = None if told is None else np.asarray(told, np.float32)
    return Detections(tlbr, scores, np.asarray(result.embeddings, np.float16), quality)


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
