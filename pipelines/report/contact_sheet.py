"""Four pictures of a switch, cropped around the person, with the reported boxes and ids.

Before, at the last sighting, at the switch and later; the white frame is the person in the truth.
All four show the same number of source pixels, so that sizes can be compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.switches import Switch
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.report.pictures import picture_address
from jde_ray.pipelines.video.drawing import draw_tracks
from jde_ray.pipelines.video.frame import Image

AWAY = 10  # processed frames from the last sighting back, and from the switch on
WIDTH, HEIGHT = 240, 300  # of a picture, in pixels
_MARGIN = 1.7  # side of the crop over that of the person's largest box
_LEAST_HEIGHT = 90.0  # source pixels


@dataclass(frozen=True)
class Shot:
    """A frame to show.

    Attributes:
        label: What it shows.
        frame: Its number, from 0.
        tlbr: `(4,)` box of the person in the truth.
    """

    label: str
    frame: int
    tlbr: FloatArray


def shots_of(switch: Switch, person: BoxRows, stride: int = 1) -> list[Shot]:
    """The frames that show a switch, by time.

    Args:
        switch: The switch.
        person: All rows of its person in the truth.
        stride: Every n-th frame was processed.

    Returns:
        Up to four; fewer if the truth of the person begins or ends at the switch.
    """
    order = np.argsort(person.frame)
    frames, boxes = person.frame[order], person.tlbr[order]
    away = AWAY * stride
    chosen = {
        "before": _nearest(frames, switch.last_frame - away, frames < switch.last_frame),
        "last seen": _nearest(frames, switch.last_frame, frames == switch.last_frame),
        "switch": _nearest(frames, switch.frame, frames == switch.frame),
        "later": _nearest(frames, switch.frame + away, frames > switch.frame),
    }
    return [
        Shot(label, int(frames[at]), boxes[at]) for label, at in chosen.items() if at is not None
    ]


def picture_of(image: Image, shot: Shot, shots: Sequence[Shot], tracks: BoxRows) -> str:
    """A crop of a frame, as the `src` of an image.

    Args:
        image: `(H, W, 3)` uint8 RGB in source pixels.
        shot: What to show of it.
        shots: All shots of the switch; their largest box decides the size of the crop.
        tracks: Reported boxes of the frame.

    Returns:
        A `data:` address of a JPEG of `WIDTH` x `HEIGHT` pixels.
    """
    sizes = np.array([one.tlbr[2:] - one.tlbr[:2] for one in shots])
    tall = max(_LEAST_HEIGHT, _MARGIN * max(sizes[:, 1].max(), sizes[:, 0].max() * HEIGHT / WIDTH))
    scale = HEIGHT / tall
    size = np.array([WIDTH, HEIGHT]) / scale
    room = np.array(image.shape[1::-1]) - size  # below 0 where the crop is larger than the frame
    corner = (shot.tlbr[:2] + shot.tlbr[2:] - size) / 2
    corner = np.clip(corner, np.minimum(room, 0), np.maximum(room, 0))
    affine = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
    turned = cv2.warpAffine(image, affine, (WIDTH, HEIGHT), borderValue=(96, 96, 96))
    crop = np.asarray(turned, np.uint8)
    shift = np.tile(corner, 2)
    _draw_truth(crop, (shot.tlbr - shift) * scale)
    boxes = (tracks.tlbr - shift) * scale
    seen = (boxes[:, 2:] > 0).all(1) & (boxes[:, :2] < (WIDTH, HEIGHT)).all(1)
    drawn = draw_tracks(crop, tracks.track_id[seen], boxes[seen], None)
    return picture_address(drawn)


def _nearest(frames: IntArray, wanted: int, allowed: NDArray[np.bool_]) -> int | None:
    """Index of the allowed frame nearest to the wanted one; None if none is allowed."""
    at = np.flatnonzero(allowed)
    return int(at[np.argmin(np.abs(frames[at] - wanted))]) if len(at) else None


def _draw_truth(canvas: Image, tlbr: FloatArray) -> None:
    left, top, right, bottom = np.round(tlbr).astype(int).tolist()
    for colour, line in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, line)
