from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from original_layouts import cell, convert_tree, cuhk_sysu, labels, mat, read_tree, struct_array

IMAGE = "CUHKSYSU/images/{}.jpg"
PERSON, SCENE = ("idname", "nAppear", "scene"), ("imname", "idlocate", "ishard")


def test_people_get_their_numbers_by_their_boxes(tmp_path: Path):
    cuhk_sysu(tmp_path / "in")
    done = convert_tree("cuhksysu", tmp_path)
    assert labels(tmp_path / "out", "cuhksysu.train") == {
        IMAGE.format("s1"): [(11930, [5, 6, 10, 20]), (-1, [30, 6, 10, 20])],
        IMAGE.format("s10"): [],
        IMAGE.format("s2"): [(11930, [6, 7, 10, 20])],
    }
    assert labels(tmp_path / "out", "cuhksysu.val") == {
        IMAGE.format("s20"): [(9, [8, 9, 12, 22])],
        IMAGE.format("s3"): [(9, [7, 8, 11, 21]), (-1, [20, 8, 11, 21])],
    }
    assert [(one.num_identities, one.num_classes) for one in done.lists] == [
        (1, 11931),
        (1, 10),
        (1, 10),
    ]
    assert done.left_out == {
        "no area": 1, "second copy": 1, "no identity (kept as a person)": 2, "identity of no box": 1
    }  # fmt: skip


def test_compact_numbers_hold_for_training_and_test(tmp_path: Path):
    cuhk_sysu(tmp_path / "in")
    convert_tree("cuhksysu", tmp_path, numbering="compact")
    table = (tmp_path / "out" / "cuhksysu.identities.csv").read_text().split()
    assert table == ["number,part,original", "0,,7", "1,,9", "2,,11930"]


@pytest.mark.parametrize(
    ("person", "reason"),
    [
        (("pedro", np.array([[5, 6, 10, 20]])), "got the idname 'pedro'"),
        (("p٣", np.array([[5, 6, 10, 20]])), "got the idname"),
        (("p5", np.array([[5, 6, 10]])), "expected numbers in 4 columns"),
        (("p5", cell(["x"])), "expected numbers in 4 columns"),
    ],
)
def test_a_damaged_person_is_refused_with_file_and_reason(tmp_path: Path, person, reason):
    cuhk_sysu(tmp_path / "in")
    name, box = person
    scene = struct_array(SCENE, [("s1.jpg", box, 0.0)])
    path = tmp_path / "in/dataset/annotation/test/train_test/Train.mat"
    mat(path, Train=cell([struct_array(PERSON, [(name, 1.0, scene)])]))
    pictures, problems = read_tree("cuhksysu", tmp_path)
    (wrong,) = problems.found
    assert "Train.mat: row: person 1: " in wrong
    assert reason in wrong
    assert {who for one in pictures if "s3" not in one.name for who in one.identity} == {-1, 9}


def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path):
    cuhk_sysu(tmp_path / "in")
    one = struct_array(("imname", "nAppear", "box"), [("../../s1.jpg", 0.0, np.zeros((0, 0)))])
    mat(tmp_path / "in/dataset/annotation/Images.mat", Img=one)
    pictures, problems = read_tree("cuhksysu", tmp_path)
    assert (pictures, len(problems.found)) == ([], 1)
    assert "Images.mat: row: ../../s1.jpg: got the name" in problems.found[0]


def test_a_missing_file_is_refused(tmp_path: Path):
    cuhk_sysu(tmp_path / "in")
    (tmp_path / "in/dataset/annotation/pool.mat").unlink()
    pictures, problems = read_tree("cuhksysu", tmp_path)
    assert (pictures, problems.counts) == ([], {"unreadable file": 2})
