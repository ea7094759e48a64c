from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from original_layouts import cell, convert_tree, labels, mat, prw, read_tree

IMAGE = "PRW/images/{}.jpg"


def test_three_names_of_the_variable_and_people_without_identity(tmp_path: Path):
    prw(tmp_path / "in")
    done = convert_tree("prw", tmp_path)
    assert labels(tmp_path / "out", "prw.train") == {
        IMAGE.format("c1s1_000151"): [(932, [10.5, 6, 10, 20]), (-1, [0, 6, 8.3, 20])],
        IMAGE.format("c1s1_000176"): [(5, [11.5, 6, 10, 20])],
    }
    assert labels(tmp_path / "out", "prw.val") == {
        IMAGE.format("c2s1_000001"): [(5, [30, 6, 10, 20])]
    }
    assert [one.num_classes for one in done.lists] == [933, 6, 6]
    assert done.left_out == {"cut off at the border": 1, "no area": 1}


@pytest.mark.parametrize(
    ("variables", "reason"),
    [
        ({"boxes": np.ones((1, 5))}, "got the variables boxes, expected box_new"),
        ({"box_new": np.ones((1, 4))}, "got 1x4 numbers, expected numbers in 5 columns"),
        ({"box_new": np.array([[-3, 1, 1, 5, 5]])}, "got id -3"),
        ({"box_new": np.array([[1.5, 1, 1, 5, 5]])}, "got id 1.5"),
        ({"box_new": cell([np.ones((1, 5))])}, "got 1x1 cells"),
        ({"box_new": np.array([[1, np.inf, 1, 5, 5]])}, "not finite"),
    ],
)
def test_a_damaged_annotation_is_refused_with_file_and_reason(tmp_path: Path, variables, reason):
    prw(tmp_path / "in")
    mat(tmp_path / "in" / "annotations" / "c1s1_000151.jpg.mat", **variables)
    pictures, problems = read_tree("prw", tmp_path)
    (wrong,) = problems.found
    assert "c1s1_000151.jpg.mat: " in wrong
    assert reason in wrong
    assert len(pictures) == 2


def test_a_frame_that_leaves_the_folder_is_refused(tmp_path: Path):
    prw(tmp_path / "in")
    mat(tmp_path / "in" / "frame_train.mat", img_index_train=cell(["../frames/c1s1_000151"]))
    pictures, problems = read_tree("prw", tmp_path)
    assert len(pictures) == 1  # of the test frames
    assert "frame_train.mat: unreadable file: got the name" in problems.found[0]
