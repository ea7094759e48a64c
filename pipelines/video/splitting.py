"""Split a long video at keyframes into segments that are decoded in parallel.

Only packets are read; nothing is decoded. A video is split only if its container numbers frames
reliably (mp4, mov, mkv, webm, with a distinct stamp per packet); any other becomes one segment.
Segments start and end at chunk boundaries, so the chunks, and with them the network's input, are
the same as for an unsplit video.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import av
import numpy as np
from numpy.typing import NDArray

from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.structures import Keyframe, Segment
from jde_ray.pipelines.video.containers import Opened, opened, packets
from jde_ray.pipelines.video.image_folder import images_version, list_images
from jde_ray.pipelines.video.source_file import file_version, source_file

_CONTAINERS = ("iso", "matroska")
_CODECS = ("h264", "hevc", "av1", "libdav1d", "libaom-av1", "vp9", "libvpx-vp9", "mpeg4", "mjpeg")


def split_segment(
    segment: Segment,
    *,
    segment_frames: int,
    step: int,
    max_frames: int | None = None,
    lead: int = 0,
) -> list[Segment]:
    """Split the frames of a segment from its `start_frame` on.

    Args:
        segment: The remaining frames of a video.
        segment_frames: Desired length of a segment; a video shorter than two is not split.
        step: Source frames per chunk; segments start at multiples of it.
        max_frames: Number of source frames to process; None for all.
        lead: Frames before a segment that are decoded too; its keyframe is not after them.

    Returns:
        Segments in order, the last one without an end; `[segment]` if it cannot be split.
    """
    try:
        if segment.video.is_image_folder:
            return _split_folder(segment, segment_frames, step, max_frames)
        with source_file(segment.video.uri, segment.version) as file:
            version = file_version(file)
            with opened(file, segment.video) as source:
                if not _is_worth_it(source, segment, segment_frames):
                    return [segment]
                index = _read_index(source)
    except (VideoError, av.error.FFmpegError, OSError, ValueError):
        return [segment]  # decoding will report the error
    if index is None:
        return [segment]
    segments = list(_segments(segment, index, segment_frames, step, max_frames, lead))
    is_whole = len(segments) == 1 and not segment.start_frame
    return [segment] if is_whole else [replace(one, version=version) for one in segments]


def _split_folder(
    segment: Segment, segment_frames: int, step: int, max_frames: int | None
) -> list[Segment]:
    version = segment.version or images_version(segment.video.uri)
    length = -(-segment_frames // step) * step
    num_images = len(list_images(segment.video.uri))
    stop = min(num_images, max_frames or num_images)
    if stop - segment.start_frame < 2 * length:
        return [segment]
    starts = list(range(segment.start_frame, stop, length))
    return [
        replace(segment, start_frame=start, stop_frame=end, version=version)
        for start, end in zip(starts, [*starts[1:], None], strict=True)
    ]


def _is_worth_it(source: Opened, segment: Segment, segment_frames: int) -> bool:
    """Whether the duration in the header is long enough; avoids reading short videos."""
    if source.structure.container not in _CONTAINERS:
        return False
    if source.structure.promised_bytes > source.num_bytes:
        return False
    if source.stream.codec_context.name not in _CODECS:
        return False
    seconds = (source.container.duration or 0) / av.time_base
    return segment.start_frame > 0 or seconds * source.rate >= 2 * segment_frames


@dataclass(frozen=True)
class _Index:
    """Stamps of all frames of a video.

    Attributes:
        pts: `(n,)` stamps in display order.
        keys: Frames at which decoding can start, ascending.
    """

    pts: NDArray[np.int64]
    keys: list[Keyframe]


def _read_index(source: Opened) -> _Index | None:
    """Read all packets; None if their stamps do not determine the number of every frame."""
    stamps: list[int] = []
    key_stamps: list[int] = []
    latest = -(2**63)
    for packet in packets(source):
        if not packet.size or packet.is_discard:
            continue
        if packet.pts is None or packet.is_corrupt:
            return None
        # frames decoded before a keyframe must be shown before it
        if packet.is_keyframe and packet.pts > latest:
            key_stamps.append(packet.pts)
        latest = max(latest, packet.pts)
        stamps.append(packet.pts)
    pts = np.sort(np.array(stamps, np.int64))
    if len(pts) == 0 or (np.diff(pts) == 0).any():
        return None
    numbers = np.searchsorted(pts, key_stamps)
    keys = [Keyframe(int(n), p) for n, p in zip(numbers, key_stamps, strict=True)]
    return _Index(pts, keys)


def _segments(
    segment: Segment,
    index: _Index,
    segment_frames: int,
    step: int,
    max_frames: int | None,
    lead: int,
) -> Iterator[Segment]:
    total = len(index.pts)
    wanted = total if max_frames is None else min(total, max_frames)
    starts = list(_starts(segment.start_frame, index.keys, wanted, segment_frames, step, lead))
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        earlier = [key for key in index.keys if 0 < key.frame <= start - lead]
        yield replace(
            segment,
            start_frame=start,
            stop_frame=stop,
            seek=earlier[-1] if start and earlier else None,
            stop_pts=None if stop is None else int(index.pts[stop]),
            num_frames=total,
        )


def _starts(
    first: int, keys: list[Keyframe], wanted: int, segment_frames: int, step: int, lead: int
) -> Iterator[int]:
    """First frames of the segments: chunk boundaries, the first ones `lead` after a keyframe."""
    last = first
    yield first
    for key in keys:
        start = -(-(key.frame + lead) // step) * step
        if start - last >= segment_frames and wanted - start >= segment_frames / 2:
            yield start
            last = start
