"""A rendered street as a MOTChallenge sequence, for trainings that take seconds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.formats.mot import format_ground_truth, rows_of_frames
from jde_ray.pipelines.formats.sequence_info import SequenceInfo, format_sequence_info


def write_street(folder: Path, seed: int, size: tuple[int, int] = (192, 96)) -> None:
    """Write six frames of four people, `size` pixels wide and high, with their truth."""
    scene = StreetScene(seed, width=size[0], height=size[1], num_people=4, num_frames=6)
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    truths = []
    for index, (image, truth) in enumerate(render(scene)):
        cv2.imwrite(str(folder / "img1" / f"{index + 1:06d}.jpg"), image)
        truths.append(truth)
    rows = rows_of_frames((i, truth.track_id, truth.tlbr) for i, truth in enumerate(truths))
    visibility = np.concatenate([truth.visibility for truth in truths])
    (folder / "gt" / "gt.txt").write_text(format_ground_truth(rows, visibility))
    info = SequenceInfo(folder.name, 10.0, 6, *size, "img1", ".jpg")
    (folder / "seqinfo.ini").write_text(format_sequence_info(info))
