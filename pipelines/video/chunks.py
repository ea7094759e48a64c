"""Decode a video into chunks of letterboxed frames, or into frames in full size.

`decode_segment` never raises: an error becomes a last chunk that holds it, so that one video cannot
end the run and a replay returns the same number of rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.pipelines.errors import CutShortError, Reason, VideoError
from jde_ray.pipelines.structures import FrameChunk, Segment, Video, VideoInfo
from jde_ray.pipelines.video.camera_motion import CameraMotion, Motion
from jde_ray.pipelines.video.containers import to_video_error
from jde_ray.pipelines.video.frame import Frame
from jde_ray.pipelines.video.image_folder import decode_images
from jde_ray.pipelines.video.video_file import MiscountError, decode_file

UNKNOWN_INFO = VideoInfo(0, 0, 0.0)  # for a video that could not be opened


def decode_segment(
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
    """Decode, letterbox and pack the frames of a segment.

    Args:
        segment: Segment to decode.
        size: Width and height of the network's input in pixels.
        resize: `fast` (one swscale pass to the letterboxed size) or `published` (RGB in full
            size, then OpenCV's INTER_AREA). With either, OpenCV resizes images and frames that are
            enlarged.
        chunk_frames: T, the number of frames per chunk.
        vid_stride: Take every n-th frame; `frame_index` counts all frames of the source.
        max_frames: Stop after this many taken frames.
        rect: Fit the input to the shape of the video's first frame, with the area of `size`.
        camera_motion: Estimate the camera's motion. A part of a video then begins with the frame
            taken before its first one, which is in none of its chunks.

    Yields:
        Chunks of exactly T frames, numbered over the whole video. The last one is padded with
        zeros; at the end of the video it has `is_last`. After an error the last chunk has n = 0,
        and frames decoded since the last full chunk are left out, unless the segment keeps the
        frames before damage.
    """
    taken_before = -(-segment.start_frame // vid_stride)
    first_chunk = taken_before // chunk_frames
    packer = _Packer(segment, size, chunk_frames, first_chunk=first_chunk, rect=rect)
    camera = CameraMotion() if camera_motion else None
    try:
        to_network = _letterbox_published if resize == "published" else _letterbox_fast
        wanted = None if max_frames is None else max(0, max_frames - taken_before)
        lead = int(camera is not None and taken_before > 0 and wanted != 0)
        source = replace(segment, start_frame=segment.start_frame - lead * vid_stride)
        frames = _every(decode_frames(source), vid_stride)
        for frame in islice(frames, None if wanted is None else wanted + lead):
            packer.fit(frame)
            pixels, motion = to_network(frame, packer.size), None
            if camera is not None:
                motion = camera.estimate(pixels, _letterbox(frame, packer.size))
            if frame.frame_index >= segment.start_frame:
                yield from packer.add(frame, pixels, motion)
        yield packer.finish()
    except MiscountError:
        misfit = VideoError(Reason.INTERNAL, "its segments do not fit together", packer.num_seen)
        yield packer.fail(misfit, decode_whole=True)
    except CutShortError as damage:
        yield from packer.flush()
        yield packer.fail(damage, is_partial=True)
    except Exception as error:  # noqa: BLE001  the contract: an error is a row, never an end
        yield packer.fail(to_video_error(error, packer.num_seen))


def read_frames(
    video: Video, *, keep_partial: bool = False
) -> Iterator[tuple[int, float, NDArray[np.uint8]]]:
    """Frame number, time in seconds and upright RGB `(H, W, 3)` of every frame in source pixels.

    Args:
        video: The video to read.
        keep_partial: End at damage, after the frames before it.

    Raises:
        VideoError: If the video cannot be read to its end; other exceptions are mapped to it.
    """
    index = 0
    try:
        for frame in decode_frames(Segment(video, keep_partial=keep_partial)):
            index = frame.frame_index
            yield index, frame.time_s, frame.rgb()
    except CutShortError:
        return
    except Exception as error:
        raise to_video_error(error, index) from error


def read_some_frames(
    video: Video, wanted: Collection[int]
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Number and upright RGB `(H, W, 3)` in source pixels of the frames with these numbers.

    They come in ascending order; those beyond the end or behind damage are missing.

    Args:
        video: The video to read.
        wanted: Numbers of frames, from 0.

    Raises:
        VideoError: If the video cannot be read; other exceptions are mapped to it.
    """
    last, index = max(wanted, default=-1), 0
    try:
        for frame in decode_frames(Segment(video, keep_partial=True)) if wanted else ():
            index = frame.frame_index
            if index in wanted:
                yield index, frame.rgb()
            if index >= last:
                return
    except CutShortError:
        return
    except Exception as error:
        raise to_video_error(error, index) from error


def decode_frames(segment: Segment) -> Iterator[Frame]:
    """Frames of a video file or an image folder, converted on demand."""
    is_folder = segment.video.is_image_folder
    return decode_images(segment) if is_folder else decode_file(segment)


def _every(frames: Iterator[Frame], stride: int) -> Iterator[Frame]:
    return (frame for frame in frames if frame.frame_index % stride == 0)


def _letterbox(frame: Frame, size: tuple[int, int]) -> Letterbox:
    return Letterbox(frame.info.width, frame.info.height, *size)


def _letterbox_fast(frame: Frame, size: tuple[int, int]) -> NDArray[np.uint8]:
    letterbox = _letterbox(frame, size)
    if letterbox.ratio >= 1:  # OpenCV enlarges faster (docs/decisions/0005)
        return _letterbox_published(frame, size)
    return letterbox.place(frame.scaled(*letterbox.scaled_size))


def _letterbox_published(frame: Frame, size: tuple[int, int]) -> NDArray[np.uint8]:
    return _letterbox(frame, size).apply(np.ascontiguousarray(frame.rgb()))


class _Packer:
    """Packs frames into chunks; it holds back one chunk so that the last one can be marked."""

    def __init__(
        self,
        segment: Segment,
        size: tuple[int, int],
        chunk_frames: int,
        *,
        first_chunk: int,
        rect: bool,
    ) -> None:
        self._segment = segment
        self.size, self._chunk_frames, self._to_fit = size, chunk_frames, rect
        self._info = UNKNOWN_INFO
        self._next_chunk = first_chunk
        self.num_seen = segment.start_frame
        self._start_chunk()

    def fit(self, frame: Frame) -> None:
        """Set the input size from the first frame if `rect` is set."""
        if self._to_fit:
            self.size = fitted_size(frame.info.width, frame.info.height, self.size)
            self._to_fit = False
            self._start_chunk()

    def _start_chunk(self) -> None:
        width, height = self.size
        self._frames = np.zeros((self._chunk_frames, height, width, 3), np.uint8)
        self._index: list[int] = []
        self._time: list[float] = []
        self._motion: list[Motion] = []
        self._num_damaged = 0

    def add(
        self, frame: Frame, pixels: NDArray[np.uint8], motion: Motion | None
    ) -> Iterator[FrameChunk]:
        """Add a frame; yield the full chunk before it, if any."""
        if len(self._index) == self._chunk_frames:
            yield self._chunk(is_last=False)
            self._start_chunk()
        self._frames[len(self._index)] = pixels
        self._index.append(frame.frame_index)
        self._time.append(frame.time_s)
        if motion is not None:
            self._motion.append(motion)
        self._num_damaged += frame.is_damaged
        self._info = frame.info
        self.num_seen = frame.frame_index + 1

    def flush(self) -> Iterator[FrameChunk]:
        """The frames since the last full chunk, as a chunk that is not the last one."""
        if self._index:
            yield self._chunk(is_last=False)

    def finish(self) -> FrameChunk:
        return self._chunk(is_last=self._segment.stop_frame is None)

    def fail(self, error: VideoError, **how: bool) -> FrameChunk:
        self._start_chunk()
        return self._chunk(is_last=True, error=error, **how)

    def _chunk(self, *, is_last: bool, error: VideoError | None = None, **how: bool) -> FrameChunk:
        chunk = FrameChunk(
            video_id=self._segment.video.video_id,
            attempt=self._segment.attempt,
            chunk_index=self._next_chunk,
            frame_index=np.array(self._index, np.int64),
            time_s=np.array(self._time, np.float64),
            frames=self._frames,
            info=self._info,
            is_last=is_last,
            error=error,
            num_damaged=self._num_damaged,
            camera_motion=np.stack(self._motion) if self._motion else None,
            **how,
        )
        self._next_chunk += 1
        return chunk
