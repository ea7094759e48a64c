"""A decoder and a model that cost next to nothing, to measure the cost of moving the data.

A "video" is a text file with its number of frames. Every frame carries its number in its first
pixels, and the model finds people who walk by that number, so that rows can be checked too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.model import FoundInFrame, in_source_pixels
from jde_ray.pipelines.structures import FrameChunk, Segment, VideoInfo
from jde_ray.pipelines.tracking.components import Components

SIZE = (96, 64)
RATE = 25.0
_DIM = 128


def config(num_people: int = 20) -> TrackConfig:
    """A configuration for these components.

    Args:
        num_people: People in every frame.
    """
    detection = DetectionConfig(weights=str(num_people), weights_sha256="0" * 64, size=SIZE)
    return TrackConfig(detection=replace(detection, precision="fp32"), min_box_area=0.0)


def write_videos(folder: Path, number: int, num_frames: int) -> Path:
    """Make `number` videos of `num_frames` frames each."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        (folder / f"v{index:06d}.mp4").write_text(str(num_frames))
    return folder


def decode(
    segment: Segment,
    *,
    size: tuple[int, int],
    chunk_frames: int,
    vid_stride: int = 1,
    max_frames: int | None = None,
    resize: str = "fast",
    rect: bool = False,
    camera_motion: bool = False,
) -> Iterator[FrameChunk]:
    """Like `pipelines.video.chunks.decode_segment`; ignores arguments about pixels."""
    total = int(Path(segment.video.uri).read_text())
    wanted = range(0, total, vid_stride)[:max_frames]
    step = chunk_frames * vid_stride
    for start in range(segment.start_frame, min(segment.stop_frame or total, total), step):
        taken = wanted[start // vid_stride : start // vid_stride + chunk_frames]
        if not taken:
            return
        index = np.array(taken, np.int64)
        frames = np.zeros((chunk_frames, size[1], size[0], 3), np.uint8)
        frames.reshape(chunk_frames, -1)[: len(index), :8] = index[:, None].view(np.uint8)
        yield FrameChunk(
            video_id=segment.video.video_id,
            attempt=segment.attempt,
            chunk_index=start // step,
            frame_index=index,
            time_s=index / RATE,
            frames=frames,
            info=VideoInfo(10 * size[0], 10 * size[1], RATE),
            is_last=taken[-1] == wanted[-1],
            camera_motion=np.tile(np.eye(2, 3), (len(index), 1, 1)) if camera_motion else None,
        )


def split(
    segment: Segment,
    *,
    segment_frames: int,
    step: int,
    max_frames: int | None = None,
    lead: int = 0,
) -> list[Segment]:
    """Like `pipelines.video.splitting.split_segment`."""
    total = int(Path(segment.video.uri).read_text())
    length = -(-segment_frames // step) * step
    starts = list(range(segment.start_frame, min(total, max_frames or total), length))
    return [
        replace(segment, start_frame=start, stop_frame=stop)
        for start, stop in zip(starts, [*starts[1:], None], strict=True)
    ]


@dataclass(frozen=True)
class _Found:
    tlbr: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    num_capped: int = 0


class WalkersModel:
    """People on straight paths, each with a different embedding.

    Args:
        config: Its `weights` is the number of people.
        resources: Not used.
    """

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        count = int(config.weights)
        rng = np.random.default_rng(0)
        self._start = rng.uniform((22, 2), (66, 38), (count, 2))  # away from the border
        self._speed = rng.uniform((-0.1, 0), (0.1, 0), (count, 2))
        looks = rng.normal(size=(count, _DIM)).astype(np.float32)
        self._looks = looks / np.linalg.norm(looks, axis=1, keepdims=True)
        self._scores = np.full(count, 0.9, np.float32)

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """The people of every frame, which follow from the number in its pixels."""
        numbers = frames.reshape(len(frames), -1)[:, :8].copy().view(np.int64)[:, 0]
        return in_source_pixels([self._find(int(number)) for number in numbers], letterboxes)

    def _find(self, number: int) -> _Found:
        # back and forth, so that people stay in the frame for any number of frames
        phase = abs(number % 400 - 200)
        corner = self._start + self._speed * phase
        tlbr = np.concatenate([corner, corner + np.array([8.0, 24.0])], axis=1).astype(np.float32)
        return _Found(tlbr, self._scores, self._looks)


COMPONENTS = Components(decode=decode, split=split, build_model=WalkersModel)
