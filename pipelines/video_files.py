"""Frames of a video file, one after the other, upright and with times that rise.

* One thread decodes, and no hardware: the same file gives the same pixels.
* The frame number is the rank in decode output order. The container's own frame count and rate
  are not believed; they lie where the rate varies.
* The time is the presentation time stamp from the container's start. Where it is missing or does
  not rise it is `frame_index / frames_per_second`, or one frame after the last time.
* Display rotation and mirroring are applied. Non-square pixels stay as they are stored.
* A size that changes on the way is scaled to that of the first frame, as players do.
* Pixels are as swscale sees their tags: BT.709, BT.2020 or BT.601 matrix and limited or full
  range; without a tag BT.601 limited, as OpenCV does.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter

from pipelines.containers import Opened, cut_detail, open_source, opened, to_video_error
from pipelines.errors import Reason, VideoError
from pipelines.pictures import Picture, RGBArray, check_size
from pipelines.schema import Video, VideoInfo

_LEAD_IN_PACKETS = 1000  # a recording may start between keyframes: so many may fail to decode
_INTERPOLATION = Interpolation.AREA


def file_pictures(video: Video) -> Iterator[Picture]:
    """Every frame of a video file in decode output order.

    Raises:
        VideoError: Of any reason that says why the file cannot be read to its end, with the
            number of frames decoded before.
    """
    with open_source(video.uri) as file:
        before = os.fstat(file.fileno())
        try:
            with opened(file, video) as source:
                yield from _Decoding(source).pictures()
        except (VideoError, av.error.FFmpegError, OSError):
            _check_unchanged(file, before)  # a file still being written looks cut off
            raise
        _check_unchanged(file, before)


def _check_unchanged(file: BinaryIO, before: os.stat_result) -> None:
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
        raise VideoError(Reason.CHANGED_DURING_READ, "the file was written to while it was read")


def _demux(source: Opened) -> Iterator[Any]:
    """Packets of the video; an empty one at the end makes the decoder give its last frames."""
    while True:
        try:
            yield from source.container.demux(source.stream)
            return
        except IndexError:  # PyAV on a packet of a stream that was not there at the start (TS)
            continue


class _Decoding:
    """State of one pass over the frames of an open container."""

    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._clock = _Clock(opened)
        self._scaler = VideoReformatter()
        self._info: VideoInfo | None = None
        self._orientation = _UPRIGHT
        self._count = 0
        self._num_undecodable = 0
        self._is_end_damaged = False  # of what was seen last

    def pictures(self) -> Iterator[Picture]:
        self._refuse_cut_file()
        for packet in self._packets():
            for frame in self._decode(packet):
                yield self._picture(frame)
        if self._count == 0:
            raise VideoError(Reason.EMPTY, "no frame in it")
        if self._is_end_damaged:
            raise VideoError(Reason.TRUNCATED, "its last frame is cut off", self._count)

    def _refuse_cut_file(self) -> None:
        """Fail before anything is decoded: the frames that are there would be thrown away."""
        opened = self._opened
        structure = opened.structure
        if structure.promised_bytes <= opened.num_bytes:
            return
        if structure.container == "iso" and not structure.is_fragmented:
            entries = opened.stream.index_entries
            present = sum(entry.pos + entry.size <= opened.num_bytes for entry in entries)
            if len(entries) and present == len(entries):
                return  # every frame is there, only the box around them says more
        else:
            present = self._count_packets()
        raise VideoError(Reason.TRUNCATED, cut_detail(structure, opened.num_bytes), present)

    def _count_packets(self) -> int:
        count = 0
        try:
            for packet in _demux(self._opened):
                count += bool(packet.size) and not packet.is_corrupt
        except (av.error.FFmpegError, OSError):
            return count
        return count

    def _packets(self) -> Iterator[Any]:
        try:
            for packet in _demux(self._opened):
                if packet.size:
                    self._is_end_damaged = packet.is_corrupt
                yield packet
        except av.error.InvalidDataError as error:  # libav: the next sample is not in the file
            raise VideoError(Reason.TRUNCATED, "the file ends too early", self._count) from error
        except (av.error.FFmpegError, OSError) as error:
            raise to_video_error(error, self._count) from error

    def _decode(self, packet: Any) -> list[Any]:
        try:
            frames: list[Any] = packet.decode()
        except av.error.EOFError:
            return []
        except av.error.InvalidDataError as error:
            return self._after_invalid_data(error)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise to_video_error(error, self._count) from error
        return frames

    def _after_invalid_data(self, error: Exception) -> list[Any]:
        self._num_undecodable += 1
        if self._count == 0 and self._num_undecodable <= _LEAD_IN_PACKETS:
            return []
        raise to_video_error(error, self._count) from error

    def _picture(self, frame: Any) -> Picture:
        check_size(frame.width, frame.height, self._count)
        if self._info is None:
            self._orientation = _orientation(frame)
            sides = (frame.width, frame.height)
            width, height = sides[::-1] if self._orientation.is_transposed else sides
            self._info = VideoInfo(width, height, self._opened.rate)
        index = self._count
        self._count += 1
        self._is_end_damaged = bool(frame.is_corrupt)

        def scaled(width: int, height: int) -> RGBArray:
            return self._convert(frame, width, height, index)

        time_s = self._clock.time_s(index, frame.pts)
        return Picture(index, time_s, self._info, scaled, self._is_end_damaged)

    def _convert(self, frame: Any, width: int, height: int, index: int) -> RGBArray:
        if self._orientation.is_transposed:
            width, height = height, width
        try:
            rgb = self._scaler.reformat(
                frame, width, height, "rgb24", interpolation=_INTERPOLATION, threads=1
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(Reason.DECODE, "its pixels cannot be converted", index) from error
        plane = rgb.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            :height, : width * 3
        ]
        return self._orientation.apply(rows.reshape(height, width, 3))


@dataclass(frozen=True)
class _Orientation:
    """How a stored frame is turned for display: transposed first, then mirrored."""

    is_transposed: bool = False
    is_mirrored_x: bool = False
    is_mirrored_y: bool = False

    def apply(self, image: RGBArray) -> RGBArray:
        if self.is_transposed:
            image = image.transpose(1, 0, 2)
        step_y, step_x = (-1 if m else 1 for m in (self.is_mirrored_y, self.is_mirrored_x))
        return image[::step_y, ::step_x]


_UPRIGHT = _Orientation()


def _orientation(frame: Any) -> _Orientation:
    """From the display matrix; angles that are no quarter turn are left as they are."""
    matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return _UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(matrix)[:36])
    if abs(a) > 4 * abs(b) and abs(d) > 4 * abs(c):
        return _Orientation(False, a < 0, d < 0)
    if abs(b) > 4 * abs(a) and abs(c) > 4 * abs(d):
        return _Orientation(True, c < 0, b < 0)
    return _UPRIGHT


class _Clock:
    """Presentation times that always rise."""

    def __init__(self, opened: Opened) -> None:
        self._rate = opened.rate
        self._base = float(opened.stream.time_base or 0)
        self._start = (opened.container.start_time or 0) / av.time_base
        # AVI stores no presentation times: with reordered frames libav passes decode times on
        has_times = not (
            opened.structure.container == "avi" and opened.stream.codec_context.has_b_frames
        )
        self._has_times = has_times and self._base > 0
        self._last = -np.inf

    def time_s(self, index: int, pts: int | None) -> float:
        time = index / self._rate
        if pts is not None and self._has_times and pts * self._base - self._start > self._last:
            time = pts * self._base - self._start
        if time <= self._last:
            time = self._last + 1 / self._rate
        self._last = time
        return time
