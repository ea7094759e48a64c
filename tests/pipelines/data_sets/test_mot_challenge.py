from __future__ import annotations

from pathlib import Path

import pytest
from original_layouts import convert_tree, labels, mot, read_tree

IMAGE = "MOT17/images/train/{}/img1/00000{}.jpg"


def test_flagged_people_of_every_frame_without_distractors(tmp_path: Path):
    mot(tmp_path / "in", "MOT17-02-SDP")
    done = convert_tree("mot17", tmp_path)
    assert labels(tmp_path / "out", "mot17.train") == {
        IMAGE.format("MOT17-02-SDP", 1): [(3, [11, 6, 10, 20]), (1, [31, 6, 10, 20])],
        IMAGE.format("MOT17-02-SDP", 2): [(3, [12, 6, 10, 20])],
        IMAGE.format("MOT17-02-SDP", 3): [],
    }
    assert done.left_out == {"not flagged": 1, "another class": 2, "outside the picture": 1}


def test_ids_of_two_sequences_are_different_people_and_one_copy_is_taken(tmp_path: Path):
    names = ("MOT17-04-DPM", "MOT17-02-DPM", "MOT17-02-FRCNN", "MOT17-02-SDP")
    mot(tmp_path / "in", *names)
    convert_tree("mot17", tmp_path)
    found = labels(tmp_path / "out", "mot17.train")
    assert [who for who, _ in found[IMAGE.format("MOT17-02-SDP", 1)]] == [3, 1]
    assert [who for who, _ in found[IMAGE.format("MOT17-04-DPM", 1)]] == [6, 4]
    assert len(found) == 6


def test_hidden_people_may_be_left_out(tmp_path: Path):
    mot(tmp_path / "in", "MOT17-02-SDP")
    done = convert_tree("mot17", tmp_path, min_visible=0.5, numbering="compact")
    assert (done.lists[0].num_boxes, done.lists[0].num_classes) == (1, 1)
    assert done.left_out["too hidden"] == 3


def test_mot15_has_ten_columns_sorted_by_frame(tmp_path: Path):
    text = "1,1,5,5,9,20,1,-1,-1,-1\n1,2,25,5,9,20,0,-1,-1,-1\n2,1,6,5,9,20,1,3.5,2,0\n"
    mot(tmp_path / "in", "Venice-2", text=text)
    done = convert_tree("mot15", tmp_path)
    assert (done.lists[0].num_images, done.lists[0].num_boxes) == (3, 2)
    assert (tmp_path / "out/MOT15/images/train/Venice-2/img1/000001.jpg").is_file()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("9,1,5,5,9,20,1,1,1", "frame 9 has no img1/"),
        ("1,7,5,5,9,20,1,1,1", "got id 7 twice in frame 1"),
        ("1,x,5,5,9,20,1,1,1", "expected numbers"),
        ("1,1,5,5", "got 4 columns"),
        ("1,1.5,5,5,9,20,1,1,1", "got 1.5, expected -1 or 0, 1"),
    ],
)
def test_a_damaged_row_is_refused_with_file_and_line(tmp_path: Path, line, reason):
    mot(tmp_path / "in", "MOT17-02-SDP", "MOT17-04-SDP")
    truth = tmp_path / "in" / "train" / "MOT17-02-SDP" / "gt" / "gt.txt"
    truth.write_text(truth.read_text() + line + "\n")
    pictures, problems = read_tree("mot17", tmp_path)
    (wrong,) = problems.found
    assert "MOT17-02-SDP/gt/gt.txt:8: " in wrong
    assert reason in wrong
    assert len(pictures) == 6
