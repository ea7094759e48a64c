"""Appearance without a network: the colours of a person from head to feet.

A crop is cut into stripes. Of each, a histogram of the lightness and one of the colours is kept, in
which a pixel counts for the bins on either side of its value, and for less the farther it is from
the middle of the crop. Within one scene this tells people apart about as well as what a joint
network has learned elsewhere; nothing is learned, so nobody's licence applies. Histograms of
stripes are an old description of people (Gray and Tao 2008, among others).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray

STRIPES = 4
LIGHTNESS_BINS, COLOUR_BINS = 16, 5  # the latter along each of the two axes of Lab
_WIDTH, _HEIGHT = 16, 48  # of the crops that are described; larger ones tell no more
_MOST_COLOUR = 25.0  # values of a and b beyond it count for the last bin
_SPREAD = 0.375  # standard deviation of the weights from left to right, in half widths
# the first is raised when rows change in another way, such as by the share of these vectors
SETTINGS = (2, STRIPES, LIGHTNESS_BINS, COLOUR_BINS, _WIDTH, _HEIGHT, _MOST_COLOUR, _SPREAD)


class ColourStripes:
    """Describes crops by the colours of `STRIPES` stripes, as a `CropNetwork` of `models.sde`.

    Attributes:
        size: Width and height of the crops that it takes.
        batch: None, since it takes any number at once.
        path: Its name, for error messages.
        outputs: Names of its outputs.
    """

    size = (_WIDTH, _HEIGHT)
    batch: int | None = None
    path = Path("colours")
    outputs: tuple[str, ...] = ("colours",)

    def __init__(self) -> None:
        across = (np.arange(_WIDTH) + 0.5) / _WIDTH * 2 - 1
        down = (np.arange(_HEIGHT) + 0.5) / _HEIGHT * 2 - 1
        weight = np.exp(-(across**2) / (2 * _SPREAD**2)) * np.exp(-(down**6))[:, None]
        self._weight = weight.astype(np.float32)
        self._stripe = np.repeat(np.arange(STRIPES), _HEIGHT // STRIPES * _WIDTH)

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture `(h, w, 3)` at the size that is described."""
        return np.asarray(cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA), np.uint8)

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """`(N, D)` float32 square roots of the histograms, of RGB pictures of that size."""
        count = len(pictures)
        tall = np.concatenate(pictures).astype(np.float32) / 255
        lab = np.asarray(cv2.cvtColor(tall, cv2.COLOR_RGB2Lab), np.float32).reshape(count, -1, 3)
        place = (np.arange(count)[:, None] * STRIPES + self._stripe).ravel()
        weight = np.tile(self._weight.ravel(), count)
        light = _between(lab[..., 0].ravel() / 100, LIGHTNESS_BINS)
        scaled = lab[..., 1:] / (2 * _MOST_COLOUR) + 0.5
        red, blue = (_between(scaled[..., axis].ravel(), COLOUR_BINS) for axis in (0, 1))
        cells = count * STRIPES
        lightness = sum(
            np.bincount(place * LIGHTNESS_BINS + bin_, weight * share, cells * LIGHTNESS_BINS)
            for bin_, share in light
        )
        colours = sum(
            np.bincount(
                (place * COLOUR_BINS + one) * COLOUR_BINS + other,
                weight * share * rest,
                cells * COLOUR_BINS**2,
            )
            for one, share in red
            for other, rest in blue
        )
        parts = [
            _roots(values.reshape(cells, -1)).reshape(count, STRIPES, -1)
            for values in (np.asarray(lightness), np.asarray(colours))
        ]
        return [np.concatenate(parts, axis=2).reshape(count, -1).astype(np.float32)]


def _between(
    values: FloatArray, bins: int
) -> tuple[tuple[NDArray[np.intp], FloatArray], tuple[NDArray[np.intp], FloatArray]]:
    """The bins on either side of values in [0, 1], and their shares."""
    place = np.clip(values, 0, 1) * (bins - 1)
    below = np.minimum(place.astype(np.intp), bins - 2)
    share = place - below
    return (below, 1 - share), (below + 1, share)


def _roots(histograms: FloatArray) -> FloatArray:
    """Square roots of histograms that sum to 1, whose product is their overlap (Bhattacharyya)."""
    total = histograms.sum(axis=1, keepdims=True)
    roots: FloatArray = np.sqrt(histograms / np.maximum(total, 1e-9))
    return roots
