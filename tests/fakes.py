"""Fakes that Ray workers can import: videos that are small text files, models that read colours.

A fake video is a file `<name>.mp4` that holds a JSON `Script`; `decode` draws it, `ColourModel`
finds the drawn rectangles again. Marks in the first pixel make the model misbehave.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import numpy as np
from made_videos import read_number

from jde_ray.models.letterbox import PAD_VALUE, Letterbox
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.model import FoundInFrame, in_source_pixels
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import FrameChunk, Segment, Video, VideoInfo
from jde_ray.pipelines.tracking.components import Components

SIZE = (96, 64)
SOURCE = (192, 128)
DIM = 8
PALETTE = np.array([(40 * i + 15, 255 - 30 * i, 10 + 25 * i) for i in range(6)], np.uint8)
NAN, EXIT, EXIT_ONCE = (np.array([255, 0, code], np.uint8) for code in (1, 2, 3))

CONFIG = TrackConfig(detection=DetectionConfig(weights="fake", weights_sha256="f" * 64, size=SIZE))


@dataclass
class Script:
    """What happens in a fake video. Frames are counted from 0."""

    frames: int = 40
    seed: int = 0
    nan_at: int | None = None  # the model gives NaN
    exit_at: int | None = None  # the model ends its process, every time
    exit_once_at: int | None = None  # only the first time
    error_at: int | None = None  # the decoder gives up
    decode_exit_at: int | None = None  # the decoder ends its process, every time
    frame_s: float = 0.0  # time that decoding a frame takes
    pause_at: int | None = None  # the decoder waits here for a file (a minute at most)
    pause_for: str = ""
    start_us: int | None = None  # what the container says of its start

    def await_file(self) -> None:
        end = time.monotonic() + 60
        while not Path(self.pause_for).exists() and time.monotonic() < end:
            time.sleep(0.02)

    def write(self, folder: Path, name: str) -> str:
        path = folder / f"{name}.mp4"
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)))
        return str(path)


def archive(folder: Path, **scripts: Script) -> Path:
    """Write fake videos into a folder."""
    for name, script in scripts.items():
        script.write(folder, name)
    return folder


def draw(script: Script, frame: int) -> np.ndarray:
    """`(H, W, 3)` frame of a script: six walkers, the last too small to be kept."""
    rng = np.random.default_rng(script.seed)
    start, speed = rng.uniform(5, 60, (6, 2)), rng.uniform(-0.6, 0.6, (6, 2))
    image = np.full((SIZE[1], SIZE[0], 3), PAD_VALUE, np.uint8)
    for i, colour in enumerate(PALETTE):
        width, height = (4, 6) if i == 5 else (8, 20 + i)
        if (frame // 10 + i + script.seed) % 5 == 0:
            continue  # away for ten frames
        x, y = (start[i] + speed[i] * frame).astype(int) % np.array([SIZE[0] - 10, SIZE[1] - 26])
        image[y : y + height, x : x + width] = colour
    marks = ((script.nan_at, NAN), (script.exit_at, EXIT), (script.exit_once_at, EXIT_ONCE))
    for at, mark in marks:
        if at == frame:
            image[0, 0] = mark
    return image


def decode(
    segment: Segment,
    *,
    size: tuple[int, int],
    resize: str,
    chunk_frames: int,
    vid_stride: int = 1,
    max_frames: int | None = None,
    rect: bool = False,
    camera_motion: bool = False,
) -> Iterator[FrameChunk]:
    """As `pipelines.video.chunks.decode_segment`, of a script."""
    script = Script(**json.loads(Path(segment.video.uri).read_text()))
    wanted = list(range(0, script.frames, vid_stride))[:max_frames]
    stop = segment.stop_frame or script.frames
    for part, start in enumerate(range(0, len(wanted), chunk_frames)):
        number = part
        if not segment.start_frame <= wanted[start] < stop:
            continue
        index = wanted[start : start + chunk_frames]
        error, before = None, []
        if script.error_at is not None and index[-1] >= script.error_at:
            error = VideoError(Reason.TRUNCATED, "the script says so", script.error_at)
            before, index = [frame for frame in index if frame < script.error_at], []
        if error is not None and segment.keep_partial and before:
            yield _before(script, segment, number, before, chunk_frames, camera_motion)
            number += 1
        frames = np.zeros((chunk_frames, SIZE[1], SIZE[0], 3), np.uint8)
        for i, frame in enumerate(index):
            if frame == script.decode_exit_at:
                os._exit(1)
            time.sleep(script.frame_s)
            if frame == script.pause_at:
                script.await_file()
            frames[i] = draw(script, frame)
        is_last = error is not None or start + chunk_frames >= len(wanted)
        motions = np.array([sway(frame) for frame in index]).reshape(-1, 2, 3)
        yield FrameChunk(
            segment.video.video_id,
            segment.attempt,
            number,
            np.array(index, np.int64),
            np.array(index, np.float64) / 25,
            frames,
            VideoInfo(*SOURCE, 25.0, start_us=script.start_us),
            is_last,
            error,
            is_partial=error is not None and segment.keep_partial,
            camera_motion=motions if camera_motion else None,
        )
        if is_last:
            return


def sway(frame: int) -> np.ndarray:
    """The motion that `decode` claims for its camera, `(2, 3)`; small, so that nobody is lost."""
    size, shift = 1 + 0.002 * ((frame % 3) - 1), 0.2 * ((frame % 5) - 2)
    return np.array([[size, 0.0, shift], [0.0, size, -shift]]) if frame else np.eye(2, 3)


def _before(
    script: Script,
    segment: Segment,
    number: int,
    index: list[int],
    chunk_frames: int,
    camera_motion: bool,
) -> FrameChunk:
    """The chunk of the frames before damage."""
    frames = np.zeros((chunk_frames, SIZE[1], SIZE[0], 3), np.uint8)
    frames[: len(index)] = [draw(script, frame) for frame in index]
    place = (segment.video.video_id, segment.attempt, number)
    numbers, times = np.array(index, np.int64), np.array(index, np.float64) / 25
    motions = np.array([sway(frame) for frame in index]) if camera_motion else None
    info = VideoInfo(*SOURCE, 25.0, start_us=script.start_us)
    return FrameChunk(*place, numbers, times, frames, info, False, camera_motion=motions)


def split(
    segment: Segment, *, segment_frames: int, step: int, max_frames: int | None, lead: int = 0
):
    """As `pipelines.video.splitting.split_segment`, of a script."""
    script = Script(**json.loads(Path(segment.video.uri).read_text()))
    length = -(-segment_frames // step) * step
    starts = list(
        range(segment.start_frame, min(script.frames, max_frames or script.frames), length)
    )
    ends = [*starts[1:], None]
    return [
        replace(segment, start_frame=a, stop_frame=b) for a, b in zip(starts, ends, strict=True)
    ]


def read_frames(
    video: Video, *, keep_partial: bool = False
) -> Iterator[tuple[int, float, np.ndarray]]:
    """As `pipelines.video.chunks.read_frames`, of a script."""
    script = Script(**json.loads(Path(video.uri).read_text()))
    for frame in range(script.frames):
        if frame == script.error_at:
            if keep_partial:
                return
            raise VideoError(Reason.TRUNCATED, "the script says so", frame)
        yield frame, frame / 25, draw(script, frame).repeat(2, 0).repeat(2, 1)


def decode_shuffled(segment: Segment, **settings: object) -> Iterator[FrameChunk]:
    """`decode`, but the chunks of a video come in random order, the same in every try."""
    chunks = list(decode(segment, **settings))  # type: ignore[arg-type]
    random.Random(segment.video.name).shuffle(chunks)
    yield from chunks


def decode_misfit(segment: Segment, **settings: object) -> Iterator[FrameChunk]:
    """`decode`, but at the end of the second part its frames turn out to be other ones."""
    for chunk in decode(segment, **settings):  # type: ignore[arg-type]
        is_wrong = segment.start_frame and segment.may_cut
        error = VideoError(Reason.INTERNAL, "a misfit") if is_wrong else chunk.error
        yield replace(chunk, error=error, decode_whole=bool(is_wrong))


class ColourModel:
    """Finds the rectangles that `draw` drew. `config.weights` may name a folder for its marks."""

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        self._folder = Path(config.weights)

    def detect(
        self, frames: np.ndarray, letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        return in_source_pixels([self._find(frame) for frame in frames], letterboxes)

    def _find(self, frame: np.ndarray) -> SimpleNamespace:
        if (frame[0, 0] == EXIT).all() or ((frame[0, 0] == EXIT_ONCE).all() and self._is_first()):
            os._exit(1)
        boxes, scores, embeddings = [], [], []
        for i, colour in enumerate(PALETTE):
            y, x = np.nonzero((frame == colour).all(-1))
            if len(x):
                boxes.append((x.min(), y.min(), x.max() + 1, y.max() + 1))
                scores.append(0.95 - 0.01 * i)
                embeddings.append(np.eye(DIM)[i] * 0.9 + np.eye(DIM)[i + 1] * 0.1)
        tlbr = np.array(boxes, np.float32).reshape(-1, 4)
        vectors = np.array(embeddings, np.float32).reshape(-1, DIM)
        vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)
        confidence = np.array(scores, np.float32)
        if (frame[0, 0] == NAN).all():
            confidence = confidence * np.nan
        return SimpleNamespace(tlbr=tlbr, scores=confidence, embeddings=vectors, num_capped=0)

    def _is_first(self) -> bool:
        try:
            (self._folder / "has-died").touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class JudgingModel(ColourModel):
    """Also tells the quality of a picture, which differs by person and frame."""

    def _find(self, frame: np.ndarray) -> SimpleNamespace:
        found = super()._find(frame)
        found.quality = (found.tlbr[:, 0] * 7 + found.tlbr[:, 1] * 3) % 10 / 10
        return found


class ReadingModel(ColourModel):
    """Also embeds people by the colours in their boxes, all but the first of a frame."""

    def read(
        self,
        frames: np.ndarray,
        letterboxes: Sequence[Letterbox],
        people: Sequence[np.ndarray],
    ) -> tuple[Sequence[FoundInFrame], list[tuple[np.ndarray, np.ndarray]]]:
        found = self.detect(frames[: len(letterboxes)], letterboxes)
        embedded = []
        for frame, box, tlbr in zip(frames, letterboxes, people, strict=False):
            who = np.arange(1, len(tlbr))
            corners = np.maximum(box.to_network(tlbr), 0).astype(int)
            means = [frame[y1 : y2 + 1, x1 : x2 + 1].mean((0, 1)) for x1, y1, x2, y2 in corners]
            vectors = np.array(means).reshape(-1, 3)[1:] + 1.0
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            embedded.append((who[: len(tlbr)], vectors.astype(np.float32)))
        return found, embedded


class NumberModel:
    """Walkers that follow from the number in a frame of `made_videos`, so that frames count."""

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        pass

    def detect(
        self, frames: np.ndarray, letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        return in_source_pixels([self._find(read_number(frame)) for frame in frames], letterboxes)

    def _find(self, number: int) -> SimpleNamespace:
        left = np.arange(3) * 25 + number % 40
        tlbr = np.stack([left, left * 0 + 4, left + 12, left * 0 + 40 + number % 3], 1)
        vectors = np.eye(DIM, dtype=np.float32)[:3]
        scores = np.full(3, 0.9, np.float32)
        tlbr = tlbr.astype(np.float32)
        return SimpleNamespace(tlbr=tlbr, scores=scores, embeddings=vectors, num_capped=0)


def refuse(*arguments: object, **settings: object) -> NoReturn:
    """A component that fails when it is called."""
    raise RuntimeError("no such component")


COMPONENTS = Components(decode=decode, split=split, build_model=ColourModel)
