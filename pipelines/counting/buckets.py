"""Counts per minute, hour or day, from the events and recording times of one camera.

Times are microseconds, since 1970 or since the start of a video. Works without Ray.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray

By = Literal["minute", "hour", "day"]
SECONDS = {"minute": 60, "hour": 3600, "day": 86_400}
MOST_BUCKETS = (
    1_100_000  # of a camera, two years of minutes: a clock that was never set would fill the memory
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = 1_000_000


@dataclass(frozen=True)
class Spans:
    """Spans of time: `(n,)` begins and `(n,)` ends in microseconds."""

    begin: IntArray
    end: IntArray

    def merged(self) -> Spans:
        """The same time in spans that do not overlap."""
        order = np.argsort(self.begin, kind="stable")
        begin, end = self.begin[order], np.maximum.accumulate(self.end[order])
        is_first = np.append(True, begin[1:] > end[:-1]) if len(begin) else np.zeros(0, np.bool_)
        is_last = np.append(is_first[1:], True) if len(begin) else is_first
        return Spans(begin[is_first], end[is_last])

    def overlap(self) -> int:
        """Microseconds that lie in more than one span."""
        merged = self.merged()
        return int((self.end - self.begin).sum() - (merged.end - merged.begin).sum())

    def seconds_in(self, edges: IntArray) -> FloatArray:
        """`(k,)` seconds of all spans within each of the buckets between `(k + 1,)` edges."""
        before = _sum_below(self.end, edges) - _sum_below(self.begin, edges)
        seconds: FloatArray = np.diff(before) / _US
        return seconds

    def number_in(self, edges: IntArray) -> IntArray:
        """`(k,)` spans that touch each bucket."""
        begun = np.searchsorted(np.sort(self.begin), edges[1:], side="left")
        ended = np.searchsorted(np.sort(self.end), edges[:-1], side="left")
        return begun - ended

    def most_in(self, edges: IntArray) -> IntArray:
        """`(k,)` largest number of spans at one moment of each bucket; ends belong to spans."""
        count = len(self.begin)
        times = np.concatenate([self.begin, edges[:-1], self.end])
        # at one moment: spans begin, then a bucket begins, then spans end
        steps = np.repeat([1, 0, -1], [count, len(edges) - 1, count])
        order = np.lexsort((-steps, times))
        present = np.cumsum(steps[order])
        bucket = np.searchsorted(edges, times[order], side="right") - 1
        most = np.zeros(len(edges) - 1, np.int64)
        inside = (bucket >= 0) & (bucket < len(most))
        np.maximum.at(most, bucket[inside], present[inside])
        return most


def _sum_below(values: IntArray, edges: IntArray) -> IntArray:
    """For each edge the sum over values of the smaller of both, up to a constant."""
    ordered = np.sort(values).astype(np.int64)
    # relative to the first edge, so that sums of a million times since 1970 do not overflow
    origin = int(edges[0])
    total = np.append(0, np.cumsum(ordered - origin))
    below = np.searchsorted(ordered, edges)
    sums: IntArray = total[below] + (edges - origin) * (len(values) - below)
    return sums


def bucket_edges(spans: Spans, by: By, zone: tzinfo | None) -> IntArray:
    """Edges of the buckets that hold all spans, ascending: one more than there are buckets.

    Args:
        spans: When the camera recorded, at least one span.
        by: Length of a bucket.
        zone: Hours and days begin in this time zone; None for times since the start of a video.

    Raises:
        ValueError: If there are too many buckets.
    """
    length = SECONDS[by] * _US
    low, high = int(spans.begin.min()), max(int(spans.end.max()), int(spans.begin.max()) + 1)
    if (high - low) // length > MOST_BUCKETS:
        dates = [str(_EPOCH + timedelta(microseconds=one))[:10] for one in (low, high)]
        raise ValueError(
            f"by: {(high - low) // length:,} {by}s lie between the first recording ({dates[0]}) "
            f"and the last ({dates[1]}), expected at most {MOST_BUCKETS:,}"
        )
    if zone in (None, UTC) or by == "minute":
        first = low // length * length
        return np.arange(first, first + (-(-(high - first) // length) + 1) * length, length)
    assert zone is not None  # noqa: S101
    edges = [_begin(low, by, zone)]
    while edges[-1] < high:
        edges.append(_next(edges[-1], by, zone))
    return np.array(edges, np.int64)


def _begin(moment: int, by: By, zone: tzinfo) -> int:
    local = (_EPOCH + timedelta(microseconds=moment)).astimezone(zone)
    begin = local.replace(minute=0, second=0, microsecond=0)
    if by == "day":
        begin = begin.replace(hour=0, fold=0)
    return (begin.astimezone(UTC) - _EPOCH) // timedelta(microseconds=1)


def _next(edge: int, by: By, zone: tzinfo) -> int:
    """The next edge: one length later, or up to two hours from there where clocks were changed."""
    ahead = edge + SECONDS[by] * _US
    for hours in range(3):
        begin = _begin(ahead + hours * SECONDS["hour"] * _US, by, zone)
        if begin > edge:
            return begin
    return ahead


def count_in(times: IntArray, edges: IntArray) -> IntArray:
    """`(k,)` number of times in each bucket; those outside all count for the nearest."""
    number = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, len(edges) - 2)
    counted: IntArray = np.bincount(number, minlength=len(edges) - 1)
    return counted


def mean_in(values: FloatArray, times: IntArray, edges: IntArray) -> NDArray[np.float64]:
    """`(k,)` mean of the finite values whose times are in each bucket; NaN where there are none."""
    known = np.isfinite(values)
    number = np.clip(np.searchsorted(edges, times[known], side="right") - 1, 0, len(edges) - 2)
    total = np.bincount(number, weights=values[known], minlength=len(edges) - 1)
    count = np.bincount(number, minlength=len(edges) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean: NDArray[np.float64] = np.where(count > 0, total / count, np.nan)
    return mean
