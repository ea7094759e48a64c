"""YOLO labels: `labels/NAME/000001.txt` per processed frame, numbered from 1.

A line is `class x y width height [id]`: the box's centre and size as shares of the picture, in the
order of `yolo track save_txt=True`. Trainers accept lines without the id only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jde_ray.pipelines.formats.exchange.video_tracks import (
    PERSON,
    SHARE_DIGITS,
    Choices,
    VideoTracks,
)

CLASSES = (PERSON,)  # by their number


def folder(name: str) -> str:
    """Prefix of the labels of a video."""
    return f"labels/{name}/"


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """One file per processed frame, empty if nobody is in it.

    Raises:
        ValueError: If a class has no number.
    """
    shares = video.shares
    centre, sides = (shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]
    lines = [
        f"{_number(video, label)} " + " ".join(f"{value:.{SHARE_DIGITS}f}" for value in box)
        for label, box in zip(video.label, np.concatenate([centre, sides], 1).tolist(), strict=True)
    ]
    if choices.track_ids:
        lines = [f"{line} {own}" for line, own in zip(lines, video.track_id.tolist(), strict=True)]
    return {
        f"{folder(video.name)}{frame + 1:06d}.txt": "".join(
            f"{lines[row]}\n" for row in rows
        ).encode()
        for frame, rows in video.rows_by_frame()
    }


def finish(videos: Sequence[tuple[str, str]]) -> Mapping[str, bytes]:
    """`data.yaml`, which names the classes; pictures belong into `images/NAME/`."""
    names = "".join(f"  {number}: {name}\n" for number, name in enumerate(CLASSES))
    return {"data.yaml": f"train: images\nval: images\nnames:\n{names}".encode()}


def _number(video: VideoTracks, label: str) -> int:
    if label not in CLASSES:
        raise ValueError(f"{video.name}: got class {label}, expected {', '.join(CLASSES)} for yolo")
    return CLASSES.index(label)
