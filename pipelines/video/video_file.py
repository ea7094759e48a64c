"""Frames of a video file in order, upright and with rising times.

* Decoding uses one thread and no hardware, so that the same file yields the same pixels.
* The frame number is the rank in decode output order. The container's own frame count and rate
  are not used, since they are wrong at variable rates.
* The time is the presentation time stamp from the container's start. If it is missing or does not
  rise, the time lies between those of the neighbours (`pipelines.video.stamps`).
* If the decoder is known to have left out a frame, the video fails: no frame has a wrong number.
* Damage fails the video too, unless the segment keeps the frames before it.
* Display rotation and mirroring are applied. Non-square pixels stay as stored.
* Frames of another size are scaled to the size of the first one, as players do.
* swscale converts colours by their tags: BT.709, BT.2020 or BT.601 matrix and limited or full
  range; without a tag BT.601 limited, like OpenCV.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import PictureType
from av.video.reformatter import Interpolation, VideoReformatter

from jde_ray.pipelines.errors import DAMAGE, CutShortError, Reason, VideoError
from jde_ray.pipelines.structures import Keyframe, Segment, VideoInfo
from jde_ray.pipelines.video.containers import (
    IMAGE_CODECS,
    Opened,
    cut_detail,
    opened,
    packets,
    packets_before_damage,
    promised_frames,
    to_video_error,
)
from jde_ray.pipelines.video.frame import Frame, RGBArray, check_size
from jde_ray.pipelines.video.image_headers import check_packet
from jde_ray.pipelines.video.recording_start import recording_start
from jde_ray.pipelines.video.source_file import file_version, source_file
from jde_ray.pipelines.video.stamps import Clock, Unseen

_LEAD_IN_PACKETS = 1000  # may fail to decode at a start between keyframes
_INTERPOLATION = Interpolation.AREA


def decode_file(segment: Segment) -> Iterator[Frame]:
    """Frames of a segment of a video file in decode output order, from its `start_frame`.

    Frames, numbers and times are the same as in the whole file: after a seek the decoder must
    return the expected keyframe first, else decoding starts at the beginning and counts; and the
    frame after the last one must have the expected stamp.

    Raises:
        VideoError: If the file cannot be read to its end, with the number of frames decoded before.
        CutShortError: If it is damaged, the segment keeps the frames before the damage, and they
            were all yielded.
        MiscountError: If a frame was numbered wrongly, because packets and frames differ.
    """
    with source_file(segment.video.uri, segment.version) as file:
        version = file_version(file)
        if segment.seek is not None:
            with opened(file, segment.video) as source:
                decoding = _Decoding(source, version, keep_partial=segment.keep_partial)
                frames = decoding.seek(segment.seek)
                if frames is not None:
                    yield from decoding.segment_frames(segment, frames)
                    return
        with opened(file, segment.video) as source:
            decoding = _Decoding(source, version, keep_partial=segment.keep_partial)
            decoding.refuse_cut_file()
            yield from decoding.segment_frames(segment, decoding.frames())


class MiscountError(Exception):
    """A segment's frames differ from its packets; the video must be decoded as one segment."""


class _Decoding:
    """State of one pass over the frames of an open container."""

    def __init__(self, opened: Opened, version: str, *, keep_partial: bool) -> None:
        self._opened, self._version, self._keep_partial = opened, version, keep_partial
        self._cut: VideoError | None = None  # why a file whose frames are kept ends too early
        self._may_lack = False  # whether frames before the damage may be missing
        self._latest = -(2**63)  # stamp of the latest frame that was decoded
        self._clock, self._unseen = Clock(opened), Unseen(opened)
        self._scaler = VideoReformatter()
        self._info: VideoInfo | None = None
        self._orientation = _UPRIGHT
        self._count = 0  # frames returned; one more has been decoded
        self._num_decoded = 0
        self._num_undecodable = 0
        self._is_end_damaged = False  # whether the last packet or frame was damaged

    def seek(self, target: Keyframe) -> Iterator[Any] | None:
        """Seek to a keyframe, which becomes the next frame.

        The first frame of the file is decoded before, since it determines the size and orientation
        of the video.

        Returns:
            Frames from the keyframe on; None if the decoder does not return it.
        """
        frames, container = self.frames(), self._opened.container
        try:
            self._learn(next(frames))
            stream = self._opened.stream
            container.seek(target.pts, stream=stream, backward=True, any_frame=False)
            self._unseen, self._num_decoded = Unseen(self._opened), 0
            frames = self.frames(from_start=False)
            for frame in frames:
                if frame.pts is None or frame.pts > target.pts:
                    return None
                if frame.pts == target.pts:  # earlier frames belong to the previous group
                    is_clean = frame.key_frame and frame.pict_type == PictureType.I
                    if not is_clean or frame.is_corrupt:
                        return None
                    self._count, self._num_decoded = target.frame, target.frame + 1
                    return chain((frame,), frames)
        except (StopIteration, VideoError, av.error.FFmpegError):
            pass  # decoding from the beginning will report the error
        return None

    def segment_frames(self, segment: Segment, frames: Iterator[Any]) -> Iterator[Frame]:
        """Frames of a segment, upright.

        Args:
            segment: Range of frames.
            frames: Frames from `segment.seek` on, or from the beginning.
        """
        found = self._segment_frames(segment, frames)
        if not self._keep_partial:
            yield from found
            return
        number, held = segment.start_frame, None
        try:
            for frame in found:
                if held is not None:
                    yield held
                number = frame.frame_index + (not frame.is_damaged)
                held = frame if frame.is_damaged else None
                if held is None:
                    yield frame
            if held is not None:
                yield held
        except VideoError as error:  # a damaged frame before it belongs to the damage
            if error.reason not in DAMAGE:
                raise
            if segment.seek is not None or segment.stop_pts is not None:
                raise MiscountError from error  # where it ends depends on how it is decoded
            if self._may_lack or self._unseen.count(self._latest):
                raise
            raise CutShortError.if_damage(error, number) from error

    def _segment_frames(self, segment: Segment, frames: Iterator[Any]) -> Iterator[Frame]:
        is_cut = segment.seek is not None or segment.stop_pts is not None
        for frame, time_s, is_own_time in self._clock.timed(frames):
            if self._count == segment.stop_frame:
                if frame.pts != segment.stop_pts or self._unseen.count(frame.pts):
                    raise MiscountError
                return
            # concealed data and interpolated times depend on earlier frames
            if is_cut and (frame.is_corrupt or not is_own_time):
                raise MiscountError
            decoded = self._to_frame(frame, time_s)
            if decoded.frame_index >= segment.start_frame:
                yield decoded
        if self._count == 0:
            raise VideoError(Reason.EMPTY, "no frame in it")
        if self._is_end_damaged:
            raise VideoError(Reason.TRUNCATED, "its last frame is cut off", self._count)
        if segment.stop_frame is not None or segment.num_frames not in (None, self._count):
            raise MiscountError
        lost = self._unseen.count()
        if lost:
            detail = f"{lost} of its frames cannot be decoded"
            raise MiscountError if is_cut else VideoError(Reason.DECODE, detail, self._count)

    def frames(self, *, from_start: bool = True) -> Iterator[Any]:
        """Frames that the decoder returns from the current position on."""
        for packet in self._packets(from_start):
            self._unseen.sent(packet)
            for frame in self._decode(packet):
                self._unseen.got(frame)
                self._is_end_damaged = bool(frame.is_corrupt)
                self._num_decoded += 1
                if frame.pts is not None:
                    self._latest = max(self._latest, frame.pts)
                yield frame

    def refuse_cut_file(self) -> None:
        """Refuse a truncated file before decoding, unless its frames are kept."""
        opened = self._opened
        structure = opened.structure
        if structure.promised_bytes <= opened.num_bytes:
            return
        if structure.container == "iso" and not structure.is_fragmented:
            entries = opened.stream.index_entries
            present = sum(entry.pos + entry.size <= opened.num_bytes for entry in entries)
            if len(entries) and present == len(entries):
                return  # all frames are present; only the enclosing box states more
        elif not self._keep_partial:
            present = self._count_packets()
        detail = cut_detail(structure, opened.num_bytes)
        if not self._keep_partial:
            raise VideoError(Reason.TRUNCATED, detail, present)
        self._cut = VideoError(Reason.TRUNCATED, detail)

    def _count_packets(self) -> int:
        count = 0
        try:
            for packet in packets(self._opened, from_start=False):  # the file is known to be cut
                count += bool(packet.size) and not packet.is_corrupt
        except (av.error.FFmpegError, OSError):
            return count
        return count

    def _packets(self, from_start: bool) -> Iterator[Any]:
        read = packets(self._opened, from_start=from_start)
        if self._keep_partial and from_start:
            read = packets_before_damage(self._opened, self._cut)
        try:
            for packet in read:
                if packet.size:
                    self._is_end_damaged = packet.is_corrupt
                yield packet
        except VideoError as error:
            self._may_lack = not isinstance(error, CutShortError)
            raise
        except av.error.InvalidDataError as error:  # the next sample is not in the file
            raise VideoError(
                Reason.TRUNCATED, "the file ends too early", self._num_decoded
            ) from error
        except (av.error.FFmpegError, OSError) as error:
            raise to_video_error(error, self._num_decoded) from error

    def _decode(self, packet: Any) -> list[Any]:
        if packet.size and self._opened.stream.codec_context.name in IMAGE_CODECS:
            packet = self._checked(packet)
        try:
            frames: list[Any] = packet.decode()
        except av.error.EOFError:
            return []
        except av.error.InvalidDataError as error:
            return self._after_invalid_data(error)
        except (av.error.FFmpegError, ValueError, OSError) as error:
            raise to_video_error(error, self._num_decoded) from error
        return frames

    def _checked(self, packet: Any) -> Any:
        """A packet; one that is an image is checked and stripped of data that slows decoding."""
        data = bytes(packet)
        checked = check_packet(data, self._num_decoded)
        if len(checked) == len(data):
            return packet
        lighter = av.Packet(checked)
        lighter.stream, lighter.time_base = packet.stream, packet.time_base
        lighter.pts, lighter.dts, lighter.is_keyframe = packet.pts, packet.dts, packet.is_keyframe
        return lighter

    def _after_invalid_data(self, error: Exception) -> list[Any]:
        """Return no frames at the start of a recording between keyframes, else raise an error."""
        self._num_undecodable += 1
        is_lead_in = self._num_decoded == 0 and self._num_undecodable <= _LEAD_IN_PACKETS
        if is_lead_in and not self._unseen.is_from_key:
            return []
        raise to_video_error(error, self._num_decoded) from error

    def _to_frame(self, frame: Any, time_s: float) -> Frame:
        check_size(frame.width, frame.height, self._count)
        info = self._learn(frame)
        index = self._count
        self._count += 1

        def scaled(width: int, height: int) -> RGBArray:
            return self._convert(frame, width, height, index)

        return Frame(index, time_s, info, scaled, bool(frame.is_corrupt))

    def _learn(self, frame: Any) -> VideoInfo:
        """Take the size and orientation of the video from its first frame."""
        if self._info is None:
            self._orientation = _orientation(frame)
            sides = (frame.width, frame.height)
            width, height = sides[::-1] if self._orientation.is_transposed else sides
            rate, promised = self._opened.rate, promised_frames(self._opened)
            began = recording_start(self._opened.container, self._opened.stream)
            self._info = VideoInfo(width, height, rate, promised, began, self._version)
        return self._info

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
    """Orientation of a stored frame for display: transpose first, then mirror."""

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
    """Orientation by the display matrix; angles other than quarter turns are ignored."""
    matrix = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return _UPRIGHT
    a, b, _, c, d, *_ = struct.unpack("<9i", bytes(matrix)[:36])
    if abs(a) > 4 * abs(b) and abs(d) > 4 * abs(c):
        return _Orientation(False, a < 0, d < 0)
    if abs(b) > 4 * abs(a) and abs(c) > 4 * abs(d):
        return _Orientation(True, c < 0, b < 0)
    return _UPRIGHT
