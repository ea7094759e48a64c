"""Pastes people cut out of one image into another, which makes crowds."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.training.data.augmentation import Example
from jde_ray.pipelines.training.data.labelled_image import Image, LabelledImage

MIN_CUT_PX = 32  # smallest height of a person to cut out
COVERED = 0.6  # people of whom a larger share is hidden become ignored regions


def paste_people(
    example: Example,
    donor: LabelledImage,
    rng: np.random.Generator,
    most: int = 4,
    crowding: float = 0.0,
) -> Example:
    """Paste up to `most` people of `donor` onto an augmented image.

    Each pasted person is the donor's box, scaled like the people already present, with an elliptic
    edge that fades out. People of whom it covers more than .6 become ignored regions.

    Args:
        example: Augmented image that teaches detection.
        donor: Image to cut people from, except those that are ignored, small or overlapped.
        rng: Random numbers.
        most: Maximum number of people to paste.
        crowding: Share of them that stand beside somebody, so that they overlap.
    """
    candidates = _worth_cutting(donor)
    if not len(candidates):
        return example
    chosen = rng.choice(candidates, min(most, len(candidates), int(rng.integers(1, most + 1))))
    image = example.image.copy()
    for row in chosen:
        beside = crowding > 0 and rng.random() < crowding
        example = _paste(image, example, donor, int(row), rng, beside=beside)
    return replace(example, image=image)


def _worth_cutting(donor: LabelledImage) -> IntArray:
    """Rows of people who are tall enough, entirely inside their image and not overlapped."""
    tlbr = donor.tlbr
    if not len(tlbr):
        return np.zeros(0, np.int64)
    height, width = donor.image.shape[:2]
    overlap = iou_matrix(tlbr, tlbr)
    np.fill_diagonal(overlap, 0)
    whole = (tlbr[:, :2] >= 0).all(1) & (tlbr[:, 2] <= width) & (tlbr[:, 3] <= height)
    size = tlbr[:, 2:] - tlbr[:, :2]
    good = whole & (size[:, 1] >= MIN_CUT_PX) & (size[:, 0] >= 8) & (overlap.max(1) < 0.1)
    return np.nonzero(good & ~donor.ignore)[0]


def _paste(
    image: Image,
    example: Example,
    donor: LabelledImage,
    row: int,
    rng: np.random.Generator,
    *,
    beside: bool,
) -> Example:
    """Draw one person onto `image`; return the labels with that person."""
    left, top, right, bottom = np.rint(donor.tlbr[row]).astype(int)
    cut = donor.image[top:bottom, left:right]
    canvas_height, canvas_width = image.shape[:2]
    present = example.tlbr[~example.ignore]
    usual = float(np.median(present[:, 3] - present[:, 1])) if len(present) else canvas_height / 3
    tall = int(np.clip(usual * rng.uniform(0.7, 1.4), MIN_CUT_PX / 2, canvas_height - 1))
    wide = int(np.clip(cut.shape[1] * tall / cut.shape[0], 4, canvas_width - 1))
    x = int(rng.integers(0, canvas_width - wide))
    y = int(rng.integers(0, canvas_height - tall))
    if beside and len(present):
        left, _, right, feet = present[rng.integers(len(present))]
        middle = (left + right) / 2 + rng.uniform(-0.9, 0.9) * (right - left)
        x = int(np.clip(middle - wide / 2, 0, canvas_width - wide - 1))
        y = int(np.clip(feet - tall * rng.uniform(0.9, 1.1), 0, canvas_height - tall - 1))
    shrinks = tall < cut.shape[0]
    person = cv2.resize(
        cut, (wide, tall), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )
    alpha = _ellipse(wide, tall)[:, :, None]
    place = image[y : y + tall, x : x + wide]
    place[:] = np.rint(alpha * person + (1 - alpha) * place).astype(np.uint8)
    box = np.array([[x, y, x + wide, y + tall]], np.float32)
    return replace(
        example,
        tlbr=np.concatenate([example.tlbr, box]),
        identity=np.append(example.identity, donor.identity[row]),
        ignore=np.append(example.ignore | (_covered(example.tlbr, box[0]) > COVERED), False),
        appearance=np.concatenate([example.appearance, donor.appearance[row : row + 1]]),
    )


def _ellipse(width: int, height: int) -> FloatArray:
    """`(height, width)` opacity: 1 inside, fading out towards the corners of the box."""
    y, x = np.mgrid[:height, :width]
    radius = ((x + 0.5) / width * 2 - 1) ** 2 + ((y + 0.5) / height * 2 - 1) ** 4
    opacity: FloatArray = np.clip((1.25 - radius) / 0.35, 0, 1).astype(np.float32)
    return opacity


def _covered(tlbr: FloatArray, box: FloatArray) -> FloatArray:
    """`(G,)` share of each box that `box` `(4,)` covers."""
    corner = np.maximum(tlbr[:, :2], box[:2])
    size = np.maximum(np.minimum(tlbr[:, 2:], box[2:]) - corner, 0)
    area = np.maximum((tlbr[:, 2:] - tlbr[:, :2]).prod(1), 1e-6)
    share: FloatArray = size.prod(1) / area
    return share
