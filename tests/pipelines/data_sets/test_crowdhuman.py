from __future__ import annotations

import json
from pathlib import Path

import pytest
from original_layouts import convert_tree, crowdhuman, labels, read_tree

IMAGE = "CrowdHuman/images/train/{}.jpg"
NAME = "273271,c9db000d5146c15"
BOX = {"tag": "person", "fbox": [1, 2, 9, 20]}


def test_people_without_masks_and_ignored_ones(tmp_path: Path):
    crowdhuman(tmp_path / "in")
    done = convert_tree("crowdhuman", tmp_path)
    assert labels(tmp_path / "out", "crowdhuman.train") == {
        IMAGE.format(NAME): [(-1, [-4, 5, 12, 30])],
        IMAGE.format("1066405,1b8e00076f5b26a"): [],
    }
    assert [one.name for one in done.lists] == ["crowdhuman.train", "crowdhuman.val"]
    assert done.left_out == {"ignored region": 2, "ignored person": 2}


def test_visible_boxes_and_visibility(tmp_path: Path):
    crowdhuman(tmp_path / "in")
    convert_tree("crowdhuman", tmp_path, box="visible")
    found = labels(tmp_path / "out", "crowdhuman.train")
    assert found[IMAGE.format(NAME)] == [(-1, [0, 5, 8, 10])]
    done = convert_tree("crowdhuman", tmp_path, min_visible=0.5)
    assert done.left_out["too hidden"] == 2


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"ID": "../secret", "gtboxes": []}, "got the name '../secret'"),
        ({"ID": 5, "gtboxes": []}, "got the ID 5"),
        ({"ID": "none", "gtboxes": []}, "missing image: none.jpg"),
        ({"ID": NAME, "gtboxes": [{**BOX, "tag": "dog"}]}, "tag 'dog', expected person | mask"),
        ({"ID": NAME, "gtboxes": [{"tag": "person"}]}, "got fbox None"),
        ({"ID": NAME, "gtboxes": [{**BOX, "fbox": [1, 2, 3, "4"]}]}, "expected numbers"),
        ({"ID": NAME, "gtboxes": [{**BOX, "fbox": [1, 2, 3, 10**400]}]}, "expected pixels"),
        ({"ID": NAME, "gtboxes": [{**BOX, "fbox": [1, 2, 3, float("nan")]}]}, "expected pixels"),
        ({"ID": NAME, "gtboxes": 3}, "expected ID and gtboxes"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_damaged_line_is_refused_with_file_and_line(tmp_path: Path, row, reason):
    crowdhuman(tmp_path / "in")
    path = tmp_path / "in" / "annotation_train.odgt"
    good = path.read_text().splitlines()[1]
    bad = row if isinstance(row, str) else json.dumps(row)
    path.write_text(f"{good}\n{bad}\n")
    pictures, problems = read_tree("crowdhuman", tmp_path)
    (wrong,) = problems.found
    assert "annotation_train.odgt:2: " in wrong
    assert reason in wrong
    assert len(pictures) == 3
