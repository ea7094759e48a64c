from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from original_layouts import (
    cell,
    citypersons,
    convert_tree,
    labels,
    mat,
    png,
    read_tree,
    struct_array,
)

IMAGE = "Cityscapes/images/train/aachen/aachen_00000{}_000019_leftImg8bit.png"
NAMES = ("cityname", "im_name", "bbs")


def annotate(root: Path, *rows: tuple[object, ...]) -> None:
    pictures = cell([struct_array(NAMES, [row]) for row in rows])
    mat(root / "in" / "annotations" / "anno_train.mat", anno_train_aligned=pictures)


def test_pictures_with_a_person_of_classes_1_to_5_without_ignored_regions(tmp_path: Path):
    citypersons(tmp_path / "in")
    done = convert_tree("citypersons", tmp_path)
    assert labels(tmp_path / "out", "citypersons.train") == {
        IMAGE.format(0): [(-1, [10, 5, 8, 20]), (-1, [30, 5, 20, 20])],
        IMAGE.format(1): [(-1, [-6, 5, 10, 25])],
    }
    assert [(one.num_images, one.num_boxes, one.num_classes) for one in done.lists] == [
        (2, 3, 0)
    ] * 2
    assert done.left_out == {"ignored region": 4}


def test_other_classes_and_visible_boxes(tmp_path: Path):
    citypersons(tmp_path / "in")
    convert_tree("citypersons", tmp_path, classes=("1", "5"), box="visible")
    found = labels(tmp_path / "out", "citypersons.train")
    assert found == {IMAGE.format(0): [(-1, [10, 5, 8, 10]), (-1, [30, 5, 20, 20])]}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (("../../etc", "a.png", np.ones((1, 10))), "picture 1: got the name '../../etc'"),
        (("aachen", "/etc/passwd", np.ones((1, 10))), "got the name '/etc/passwd'"),
        (("aachen", "a\nb.png", np.ones((1, 10))), "got the name"),
        (("aachen", "none.png", np.ones((1, 10))), "there is no aachen/none.png"),
        (("aachen", "a.png", np.ones((1, 5))), "got 1x5 numbers, expected numbers in 10 columns"),
        (("aachen", 5.0, np.ones((1, 10))), "expected text"),
    ],
)
def test_a_damaged_row_is_refused_with_file_and_reason(tmp_path: Path, row, reason):
    good = "good.png"
    path = tmp_path / "in" / "leftImg8bit" / "train" / "aachen" / good
    path.parent.mkdir(parents=True)
    path.write_bytes(png())
    annotate(tmp_path, row, ("aachen", good, np.array([[1, 2, 3, 9, 20, 0, 2, 3, 9, 20]])))
    pictures, problems = read_tree("citypersons", tmp_path)
    (wrong,) = problems.found
    assert "anno_train.mat: " in wrong
    assert reason in wrong
    assert len(pictures) == 1
