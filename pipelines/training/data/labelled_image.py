"""Labelled images in memory or on disk, and the numbering of their identities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.video.image_folder import read_image_file

Image = NDArray[np.uint8]
LEAST_TO_KNOW_PX = 40  # height in the picture


@dataclass(frozen=True)
class LabelledImage:
    """One image and its people.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        tlbr: `(G, 4)` float32 corners in its pixels.
        identity: `(G,)` int64, unique over the training set, -1 for unknown.
        ignore: `(G,)` bool, neither person nor background.
        group: Index of its source; sources are drawn by weight.
        squashed: Whether the image was stretched to a square, so that its people are too thin.
        appearance: `(G, D)` float32 teacher vectors, zeros for boxes without one.
        origin: File (and frame) it comes from, for error messages.
        sequence: Name of the video that it is a frame of; empty for a single image. The frames of a
            video are consecutive.
    """

    image: Image
    tlbr: FloatArray
    identity: IntArray
    ignore: NDArray[np.bool_]
    group: int
    squashed: bool = False
    appearance: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    origin: str = ""
    sequence: str = ""

    def open(self) -> LabelledImage:
        """Return the image, which is in memory already."""
        return self


@dataclass(frozen=True)
class ListedImage:
    """One image of a list, read from disk each time it is drawn.

    `identity`, `ignore`, `group`, `appearance` and `sequence` are those of `LabelledImage`.

    Attributes:
        path: JPEG, PNG or BMP file.
        tlbr: `(G, 4)` float32 corners relative to its width and height.
        longest_side: Limit in pixels; a larger image is shrunk to it.
    """

    path: Path
    tlbr: FloatArray
    identity: IntArray
    ignore: NDArray[np.bool_]
    group: int
    longest_side: int
    appearance: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    sequence: str = ""

    @property
    def origin(self) -> str:
        """Path of the file, for error messages."""
        return str(self.path)

    def open(self) -> LabelledImage:
        """Read the image.

        Raises:
            ValueError: If the file is missing, not an image, truncated or too large.
        """
        image, _ = read_image(self.path, self.longest_side)
        size = np.array([image.shape[1], image.shape[0]] * 2, np.float32)
        return LabelledImage(
            image,
            self.tlbr * size,
            self.identity,
            self.ignore,
            self.group,
            appearance=self.appearance,
            origin=self.origin,
            sequence=self.sequence,
        )


TrainingImage = LabelledImage | ListedImage


def read_image(path: Path, longest_side: int) -> tuple[Image, float]:
    """RGB image with its longest side at most `longest_side`, and the scale applied.

    The EXIF orientation is applied, as in annotation tools, and the image passes the checks of
    tracking (format, size, scans) before it is decoded.

    Raises:
        ValueError: If the file is missing, not an image, truncated or too large.
    """
    try:
        loaded = read_image_file(path, apply_orientation=True)
    except VideoError as error:
        if error.reason in (Reason.TOO_LARGE, Reason.TRUNCATED):
            raise ValueError(f"training image: {path} is refused ({error.detail})") from error
        raise ValueError(f"training image: {path} is missing or no image") from error
    except (OSError, ValueError) as error:  # ValueError: an impossible file name
        raise ValueError(f"training image: {path} is missing or no image") from error
    return shrink(loaded, longest_side)


def shrink(image: Image, longest_side: int) -> tuple[Image, float]:
    """The image with its longest side at most `longest_side`, and the scale applied (1 or less)."""
    height, width = image.shape[:2]
    scale = min(1.0, longest_side / max(height, width))
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    return image, scale


def tell_apart(images: Sequence[TrainingImage]) -> list[TrainingImage]:
    """Give everybody without an identity one of their own: unrelated pictures show no one twice.

    Those whose box is lower than `LEAST_TO_KNOW_PX` stay unknown, since nobody can be known again
    by so few pixels, and ignored boxes have no identity.

    Args:
        images: Images of one source, whose boxes are in pixels (not those of a list).
    """
    known = [image.identity.max(initial=-1) for image in images]
    following, found = int(max(known, default=-1)) + 1, []
    for image in images:
        height = image.tlbr[:, 3] - image.tlbr[:, 1]
        alone = (image.identity < 0) & ~image.ignore & (height >= LEAST_TO_KNOW_PX)
        identity = image.identity.copy()
        identity[alone] = np.arange(following, following + np.count_nonzero(alone))
        following += int(np.count_nonzero(alone))
        found.append(replace(image, identity=identity))
    return found


def with_unique_identities(
    groups: Sequence[Sequence[TrainingImage]], declared: Sequence[int | None] | None = None
) -> tuple[list[TrainingImage], int]:
    """Number identities over all sources; in one source a number means one person.

    If a source declares how many identities it uses, its numbers are kept, offset by those of
    earlier sources, and there is one class more than identities, as in the published code, so that
    the published classifier fits. People of other sources are numbered in order of occurrence.

    Args:
        groups: Images of each source, in order.
        declared: Number of identities that each source declares; None if it declares none.

    Returns:
        The images of all sources, and the number of classes.
    """
    images: list[TrainingImage] = []
    first = 0
    for group, count in zip(groups, declared or [None] * len(groups), strict=True):
        known: dict[int, int] = {}
        if count is not None:
            known = {number: first + number for number in range(count)}
        for image in group:
            identity = [
                known.setdefault(int(i), first + len(known)) if i >= 0 and not ignored else -1
                for i, ignored in zip(image.identity, image.ignore, strict=True)
            ]
            images.append(replace(image, identity=np.array(identity, np.int64)))
        first += len(known)
    return images, first + any(count is not None for count in declared or ())
