"""The best few sightings of each finished track: large, clear, whole, and spread over its time."""

from __future__ import annotations

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.glimpses import cleanness
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories

LEAST_SHARE = 0.25  # of the quality of a track's best sighting; worse ones are not taken
_ENOUGH = (128.0 * 256.0) ** 0.5  # square root of an area in pixels; more shows no more
_BORDER = 2.0  # pixels; a box that comes so near to the border shows a person who is cut off
_AT_BORDER = 0.5  # weight of such a sighting


def best_sightings(tracks: Trajectories, size: tuple[int, int], most: int) -> IntArray:
    """The best sightings of every track.

    The best one by `sighting_quality` is taken first, then the best of those that are at least
    `1 / (2 most)` of the track's time away from all that were taken. A sighting of less than
    `LEAST_SHARE` of the best one's quality is never taken, so a track may have fewer.

    Args:
        tracks: Tracks of one video.
        size: Width and height of its frames in pixels.
        most: Number of sightings per track, from 1.

    Returns:
        `(k,)` rows of `tracks`, by track, the best of each first.
    """
    quality, chosen = sighting_quality(tracks, size), []
    for first, end in zip(*tracks.spans(), strict=True):
        frame, left = tracks.frame[first:end], quality[first:end].copy()
        distance = (frame[-1] - frame[0]) / (2 * most)
        left[left < LEAST_SHARE * left.max()] = 0.0
        for _ in range(most):
            best = int(left.argmax())  # the earliest of equal ones
            if left[best] <= 0.0:
                break
            chosen.append(first + best)
            left[np.abs(frame - frame[best]) < distance] = 0.0
            left[best] = 0.0
    return np.array(chosen, np.int64)


def sighting_quality(tracks: Trajectories, size: tuple[int, int]) -> FloatArray:
    """`(n,)` how well each sighting shows its person, from 0 (outside the frame) to about 1.

    It is the score, times the squared share that no other box overlaps, times the squared share
    inside the frame, times the side length up to that of 128 x 256 pixels; halved at the border.

    Args:
        tracks: Tracks of one video.
        size: Width and height of its frames in pixels.
    """
    low, high = tracks.tlbr[:, :2], tracks.tlbr[:, 2:]
    inside = np.maximum(np.minimum(high, size) - np.maximum(low, 0), 0).prod(axis=1)
    share = inside / np.maximum((high - low).prod(axis=1), 1e-9)
    is_cut = (low < _BORDER).any(axis=1) | (high > np.array(size) - _BORDER).any(axis=1)
    large = np.minimum(np.sqrt(inside) / _ENOUGH, 1.0)
    result: FloatArray = (
        cleanness(tracks) * np.minimum(share, 1.0) ** 2 * large * np.where(is_cut, _AT_BORDER, 1.0)
    )
    return np.where(inside >= 1.0, result, 0.0)
