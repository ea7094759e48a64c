"""How much the motion speaks for one person on both sides of a gap.

Again the video sets the scale: hidden stretches of its own tracks say how far people stray from a
straight walk, or from where they stood, in gaps of every length. That includes the camera's motion.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories

_VELOCITY_S = 0.4  # seconds from which a velocity is taken
_SAMPLES = 6000
_BINS, _FEWEST = 8, 30  # of the gap's length; samples in each
_LEAST_SPREAD = 0.01  # heights: boxes are not exact
# slope over log(frames) and log(median) of the errors, where a video is too short to tell
_USUAL = ((0.5, -3.9), (0.8, -4.6), (0.4, -3.9))


@dataclass(frozen=True)
class MotionEvidence:
    """Log-likelihood ratio of two boxes being of one person or two.

    Attributes:
        tracks: Tracks of the video.
        before: `(n, 2)` velocity of each row in pixels per frame, from the rows up to it.
        after: `(n, 2)` the same from the rows after it.
        spread: Slope and offset of the logarithm of the median error over that of the gap in
            frames: for a person who stands, one who walks on, and the logarithm of the height.
        area: Of the part of the frame where people are, in square pixels.
        height_spread: Standard deviation of the logarithm of the height between people.
    """

    tracks: Trajectories
    before: FloatArray
    after: FloatArray
    spread: tuple[tuple[float, float], ...]
    area: float
    height_spread: float

    def ratio(self, last: IntArray, first: IntArray) -> FloatArray:
        """`(k,)` natural logarithms; above 0 speaks for one person.

        Places follow Student's distribution with two degrees of freedom around where the person
        stood or would have walked; those of another person are uniform.

        Args:
            last: `(k,)` rows before the gaps.
            first: `(k,)` rows after them, in later frames.
        """
        time = np.log(np.maximum(self.tracks.frame[first] - self.tracks.frame[last], 1))
        stood, walked, grown = _errors(self.tracks, self.before, self.after, last, first)
        place = np.logaddexp(
            _student_plane(stood, self._median(0, time)),
            _student_plane(walked, self._median(1, time)),
        )
        heights = _heights(self.tracks)
        uniform = np.log(heights[last] * heights[first] / self.area)
        deviation = np.hypot(self._median(2, time) / 0.8165, 0.02)
        size = -np.log(2.83 * deviation) - 1.5 * np.log1p((grown / deviation) ** 2 / 2)
        usual = -((grown / self.height_spread) ** 2) / 2 - np.log(2.5066 * self.height_spread)
        result: FloatArray = place - np.log(2) - uniform + size - usual
        return result

    def _median(self, which: int, time: FloatArray) -> FloatArray:
        slope, offset = self.spread[which]
        result: FloatArray = np.exp(slope * time + offset)
        return result


def observe(tracks: Trajectories, pieces: IntArray, frames_per_second: float) -> MotionEvidence:
    """Learn how people move in a video.

    Args:
        tracks: Tracks of the video, at least one row.
        pieces: `(p, 2)` first row of each stretch that shows one person, and the one after its
            last.
        frames_per_second: Rate of the video.
    """
    before, after = _velocities(tracks, pieces, max(3, round(_VELOCITY_S * frames_per_second)))
    length = pieces[:, 1] - pieces[:, 0]
    chance = np.maximum(length - 1, 0).astype(np.float64)
    spread: tuple[tuple[float, float], ...] = _USUAL
    if chance.sum():
        dice = np.random.default_rng(0)
        piece = dice.choice(len(pieces), _SAMPLES, p=chance / chance.sum())
        u = dice.random((2, _SAMPLES))
        last = pieces[piece, 0] + np.floor(u[0] * (length[piece] - 1)).astype(np.int64)
        most = pieces[piece, 1] - 1 - last
        first = last + np.floor(np.exp(u[1] * np.log(most + 0.999))).astype(np.int64)
        spread = _fit(tracks, before, after, last, np.minimum(first, last + most))
    heights = _heights(tracks)
    centres = _centres(tracks)
    sides = np.maximum(np.ptp(centres, axis=0), heights.mean())
    deviation = max(float(np.std(np.log(heights))) * np.sqrt(2), 0.1)
    return MotionEvidence(tracks, before, after, spread, float(np.prod(sides)), deviation)


def in_heights(tracks: Trajectories, last: IntArray, first: IntArray) -> FloatArray:
    """`(k,)` distances of two boxes in heights of the smaller one."""
    apart = np.linalg.norm(_centres(tracks, first) - _centres(tracks, last), axis=-1)
    heights = _heights(tracks)
    result: FloatArray = apart / np.minimum(heights[last], heights[first])
    return result


def _centres(tracks: Trajectories, rows: IntArray | slice = slice(None)) -> FloatArray:
    tlbr = tracks.tlbr[rows]
    centres: FloatArray = (tlbr[..., :2] + tlbr[..., 2:]) / 2
    return centres


def _heights(tracks: Trajectories) -> FloatArray:
    heights: FloatArray = np.maximum(tracks.tlbr[:, 3] - tracks.tlbr[:, 1], 1e-6)
    return heights


def _velocities(tracks: Trajectories, pieces: IntArray, most: int) -> tuple[FloatArray, FloatArray]:
    """Velocity from up to `most` rows before each row, and after it; 0 from fewer than three."""
    before, after = np.zeros((2, len(tracks), 2))
    centres = _centres(tracks)
    for start, end in pieces.tolist():
        count = end - start
        if count < 3:
            continue
        time = (tracks.frame[start:end] - tracks.frame[start]).astype(np.float64)
        place = centres[start:end]
        columns = np.column_stack([np.ones(count), time, time * time, place, place * time[:, None]])
        sums = np.concatenate([np.zeros((1, 7)), np.cumsum(columns, axis=0)])
        row = np.arange(count)
        before[start:end] = _slope(sums[row + 1] - sums[np.maximum(row + 1 - most, 0)])
        after[start:end] = _slope(sums[np.minimum(row + most, count)] - sums[row])
    return before, after


def _slope(sums: FloatArray) -> FloatArray:
    """Least-squares slope from sums of 1, t, t^2, (x, y) and (xt, yt)."""
    count, time, square = sums[:, 0], sums[:, 1], sums[:, 2]
    spread = np.maximum(count * square - time**2, 1e-9)[:, None]
    slope = (count[:, None] * sums[:, 5:] - time[:, None] * sums[:, 3:5]) / spread
    slope[count < 3] = 0
    result: FloatArray = slope
    return result


def _errors(
    tracks: Trajectories, before: FloatArray, after: FloatArray, last: IntArray, first: IntArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Errors of "stood" and "walked on" in heights, and change of the height's logarithm."""
    heights = _heights(tracks)
    scale = np.sqrt(heights[last] * heights[first])
    way = _centres(tracks, first) - _centres(tracks, last)
    frames = (tracks.frame[first] - tracks.frame[last])[:, None]
    walked = way - frames * (before[last] + after[first]) / 2
    grown = np.abs(np.log(heights[first] / heights[last]))
    return np.linalg.norm(way, axis=1) / scale, np.linalg.norm(walked, axis=1) / scale, grown


def _fit(
    tracks: Trajectories, before: FloatArray, after: FloatArray, last: IntArray, first: IntArray
) -> tuple[tuple[float, float], ...]:
    time = np.log(tracks.frame[first] - tracks.frame[last])
    bins = np.minimum((time / (time.max() + 1e-6) * _BINS).astype(np.int64), _BINS - 1)
    filled = [k for k in range(_BINS) if (bins == k).sum() >= _FEWEST]
    if len(filled) < 2:
        return _USUAL
    at = [time[bins == k].mean() for k in filled]
    trust = [np.sqrt((bins == k).sum()) for k in filled]
    fitted = []
    for errors in _errors(tracks, before, after, last, first):
        medians = [np.log(np.median(errors[bins == k]) + 1e-3) for k in filled]
        slope, offset = np.polyfit(at, medians, 1, w=trust)
        fitted.append((float(np.clip(slope, 0.1, 1.5)), float(offset)))
    return tuple(fitted)


def _student_plane(error: FloatArray, median: FloatArray) -> FloatArray:
    """Log-density of a place in the plane, by Student with two degrees of freedom."""
    variance = median**2 / 2 + _LEAST_SPREAD**2
    result: FloatArray = -np.log(2 * np.pi * variance) - 2 * np.log1p(error**2 / (2 * variance))
    return result
