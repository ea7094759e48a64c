"""Two charts of a committed video, as SVG text: people over time, and their paths.

Row groups are read one after the other; memory holds one number per frame and, for each track, its
time span and a few points. For a long video at most `MAX_GROUPS` row groups are read, evenly over
its length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.formats.tracks import read_foot_points, read_times, read_uri
from jde_ray.pipelines.output.layout import tracks_key
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.video.drawing import Point, track_colour

MAX_GROUPS = 24  # row groups read per video, enough for a full hour with five people
MAX_PATHS = 80  # paths drawn per video, the longest ones
_PATH_POINTS = 40  # points per track, evenly over its rows, plus the last one
_COLUMNS = 320  # columns of the chart over time
_STEPS_S = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400)


@dataclass(frozen=True, kw_only=True)
class TrackedVideo:
    """Data of a committed video for its charts.

    Attributes:
        uri: URI of the video; empty if it has no rows.
        width: Width of a frame in source pixels.
        height: Height of a frame in source pixels.
        duration_s: Duration at the nominal frame rate.
        people: `(num_frames,)` float64, tracks present in each processed frame; interpolated
            linearly between the row groups that were read.
        num_rows: Rows in the file.
        partial: Damage at which the tracks end; empty for a whole video.
        num_tracks: Tracks in the file; for row format 1, tracks in the row groups that were read.
        rows: Number of rows, first and last time in seconds by track id, in the row groups that
            were read.
        share: Number of row groups that were read, and of all row groups.
        paths: Foot points in source pixels by track id, in order of time; only the longest tracks.
    """

    uri: str
    width: int
    height: int
    duration_s: float
    people: NDArray[np.float64]
    num_rows: int
    partial: str
    num_tracks: int
    rows: dict[int, tuple[int, float, float]]
    share: tuple[int, int]
    paths: dict[int, list[Point]]

    @property
    def is_sample(self) -> bool:
        """Whether only parts of the file were read."""
        return self.share[0] < self.share[1]

    @property
    def median_track_s(self) -> float | None:
        """Median time from a track's first row to its last one; None if it is unknown."""
        if self.is_sample:
            return None
        spans = [last - first for _, first, last in self.rows.values()]
        return float(np.median(spans)) if spans else None


def read_tracked_video(
    store: ObjectStore, video_id: str, vid_stride: int, max_groups: int = MAX_GROUPS
) -> TrackedVideo:
    """Read a video's committed rows, or a sample of their row groups.

    Args:
        store: OUT.
        video_id: Id of a committed video.
        vid_stride: The run processed every n-th frame.
        max_groups: Maximum number of row groups to read.

    Raises:
        OSError: If the object cannot be read.
        ValueError: If it is not a Parquet file.
        KeyError: If it was not written by a run.
    """
    file = open_parquet(store, tracks_key(video_id))
    facts = FileFacts.of(file.metadata)
    (width, height), num_frames, rate = facts.size, facts.num_frames, facts.frames_per_second
    if not min(width, height, num_frames, rate) > 0:
        raise ValueError(f"metadata: got {width} x {height}, {num_frames} frames, {rate} frames/s")
    total = file.num_row_groups
    groups = np.unique(np.linspace(0, max(0, total - 1), min(total, max_groups)).astype(np.int64))
    people = np.zeros(num_frames, np.int64)
    is_known = np.full(num_frames, len(groups) == total)
    rows: dict[int, tuple[int, float, float]] = {}
    for group in groups.tolist():
        frame, time_s, track_id = read_times(file, group)
        seen = np.clip(frame // vid_stride, 0, len(people) - 1)
        people += np.bincount(seen, minlength=len(people))
        if len(seen):  # rows of its first and last frame may be in the neighbouring groups
            is_known[seen[0] + 1 : seen[-1]] = True
        ids, first, count = np.unique(track_id, return_index=True, return_counts=True)
        last = len(track_id) - 1 - np.unique(track_id[::-1], return_index=True)[1]
        for one, start, end, number in zip(ids, time_s[first], time_s[last], count, strict=True):
            before = rows.get(int(one), (0, float(start), 0.0))
            rows[int(one)] = (before[0] + int(number), before[1], float(end))
    known = np.flatnonzero(is_known)
    every = np.arange(num_frames)
    return TrackedVideo(
        uri=read_uri(file),
        width=width,
        height=height,
        duration_s=num_frames * vid_stride / rate,
        people=np.interp(every, known, people[known]) if len(known) else people.astype(np.float64),
        num_rows=file.metadata.num_rows,
        partial=facts.partial,
        num_tracks=len(rows) if facts.num_tracks is None else facts.num_tracks,
        rows=rows,
        share=(len(groups), total),
        paths=_paths(file, groups.tolist(), rows),
    )


def _paths(
    file: pq.ParquetFile, groups: Sequence[int], rows: dict[int, tuple[int, float, float]]
) -> dict[int, list[Point]]:
    longest = sorted(rows, key=lambda one: (-rows[one][0], one))[:MAX_PATHS]
    points: dict[int, list[Point]] = {one: [] for one in sorted(longest)}
    seen = dict.fromkeys(points, 0)
    for group in groups:
        track_id, feet = read_foot_points(file, group)
        for one, path in points.items():
            own = np.flatnonzero(track_id == one)
            number, total = seen[one] + np.arange(len(own)), rows[one][0]
            wanted = (number % -(-total // _PATH_POINTS) == 0) | (number == total - 1)
            path += [(x, y) for x, y in feet[own[wanted]].tolist()]
            seen[one] += len(own)
    return points


def draw_people(video: TrackedVideo, width: int = 640, height: int = 170) -> str:
    """People present over time, as SVG."""
    left, right, top, bottom = 30, 12, 8, 22
    wide, tall = width - left - right, height - top - bottom
    num_frames = len(video.people)
    edges = np.linspace(0, num_frames, min(num_frames, _COLUMNS) + 1).astype(np.int64)
    mean = np.add.reduceat(video.people, edges[:-1]) / np.diff(edges)
    step = next(s for s in _count_steps() if mean.max() <= 4 * s)
    most = max(1, -(-int(np.ceil(mean.max())) // step)) * step
    x = left + edges / num_frames * wide
    y = top + (1 - mean / most) * tall
    path = f"M{left} {top + tall}" + "".join(
        f"V{level:.1f}H{end:.1f}" for level, end in zip(y, x[1:], strict=True)
    )
    parts = []
    for number in range(0, most + 1, step):
        at = top + (1 - number / most) * tall
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at:.1f}" '
                     f'y2="{at:.1f}"/><text x="{left - 6}" y="{at + 4:.1f}" '
                     f'text-anchor="end">{number}</text>')  # fmt: skip
    parts.append(f'<path class="people" d="{path}V{top + tall}Z"/>')
    every = next((s for s in _STEPS_S if video.duration_s <= 8 * s), video.duration_s / 8)
    for tick in range(int(video.duration_s / every) + 1):
        at = left + tick * every / video.duration_s * wide
        parts.append(f'<text x="{at:.1f}" y="{height - 5}" text-anchor="middle">'
                     f"{format_seconds(tick * every)}</text>")  # fmt: skip
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="people over time">'
        f"{''.join(parts)}</svg>"
    )


def draw_paths(video: TrackedVideo, width: int = 400, height: int = 250) -> str:
    """The frame with the path of each track's feet, in the colours of `--save-video`, as SVG."""
    scale = min(width / video.width, height / video.height)
    wide, tall = round(video.width * scale), round(video.height * scale)
    parts = ['<rect width="100%" height="100%" fill="#20262e"/>']
    for track_id, path in video.paths.items():
        points = " ".join(f"{x * scale:.0f},{y * scale:.0f}" for x, y in path)
        if len(path) == 1:
            points = f"{points} {points}"  # the round line cap draws a dot
        _, first, last = video.rows[track_id]
        colour = "#{:02x}{:02x}{:02x}".format(*track_colour(track_id))
        x, y = path[-1]
        parts.append(
            f'<g><title>track {track_id}: {format_seconds(first)} to {format_seconds(last)}</title>'
            f'<polyline points="{points}" stroke="{colour}"/>'
            f'<circle cx="{x * scale:.0f}" cy="{y * scale:.0f}" r="3.5" fill="{colour}"/></g>'
        )  # fmt: skip
    return (
        f'<svg class="paths" viewBox="0 0 {wide} {tall}" width="{wide}" height="{tall}" '
        f'role="img" aria-label="paths of the tracks">{"".join(parts)}</svg>'
    )


def format_seconds(seconds: float) -> str:
    """A duration in the usual notation.

    >>> format_seconds(9.25), format_seconds(75), format_seconds(7384)
    ('9.2 s', '1:15', '2:03:04')
    """
    if seconds < 60:
        return f"{round(seconds, 1):g} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _count_steps() -> Iterator[int]:
    """1, 2, 5, 10, 20, ...: distances of grid lines."""
    unit = 1
    while True:
        yield from (unit, 2 * unit, 5 * unit)
        unit *= 10
