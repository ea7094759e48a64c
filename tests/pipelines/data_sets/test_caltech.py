from __future__ import annotations

import re
from pathlib import Path

import pytest
from original_layouts import WHOLE, caltech, convert_tree, jpeg, labels, read_tree, seq, vbb

FRAMES = "Caltech/data/images/set00_V000_{}.jpg"
TALL = [5.5, -2.0, 10.0, 20.0]


def test_frames_with_people_who_are_large_and_visible_enough(tmp_path: Path):
    caltech(tmp_path / "in")
    done = convert_tree("caltech", tmp_path, min_height=10.0)
    found = labels(tmp_path / "out", "caltech.train")
    own = {name: rows for name, rows in found.items() if "set00" in name}
    assert own == {
        FRAMES.format(0): [(1, TALL)],
        FRAMES.format(3): [(1, TALL), (3, [40.0, 5.0, 9.0, 20.0])],
    }
    assert (tmp_path / "out" / FRAMES.format(3)).read_bytes() == jpeg(shade=160)  # unchanged
    assert done.left_out == {"too small": 3, "too hidden": 3, "another label": 3}


def test_people_of_two_videos_are_different_and_numbered_like_the_published_lists(tmp_path: Path):
    caltech(tmp_path / "in")
    done = convert_tree("caltech", tmp_path, min_height=10.0)
    found = labels(tmp_path / "out", "caltech.train")
    assert [who for who, _ in found["Caltech/data/images/set05_V001_3.jpg"]] == [4, 6]
    train, val, embeddings = done.lists
    assert (train.name, train.num_images, train.num_boxes) == ("caltech.train", 4, 6)
    assert (train.num_identities, train.num_classes) == (4, 7)  # track 2 is too small everywhere
    assert (val.num_images, embeddings.name, embeddings.num_images) == (2, "caltech.10k.val", 2)


def test_compact_numbers_have_no_gaps(tmp_path: Path):
    caltech(tmp_path / "in")
    done = convert_tree("caltech", tmp_path, min_height=10.0, numbering="compact")
    assert (done.lists[0].num_identities, done.lists[0].num_classes) == (4, 4)
    table = (tmp_path / "out" / "caltech.identities.csv").read_text().splitlines()
    assert table[:3] == ["number,part,original", "0,set00_V000,1", "1,set00_V000,4"]


def test_other_rules(tmp_path: Path):
    caltech(tmp_path / "in")
    done = convert_tree("caltech", tmp_path, min_height=0.0, min_visible=0.0, classes=("people",))
    assert done.lists[0].num_boxes == 2


@pytest.mark.parametrize(
    ("spoil", "file", "reason"),
    [
        (lambda p: seq(p, [jpeg()]), "V000.seq", "it ends before frame 3"),
        (lambda p: p.write_bytes(p.read_bytes()[:3000]), "V000.seq", "it ends before frame 3"),
        (lambda p: p.write_bytes(p.read_bytes()[:900]), "V000.seq", "no .seq file"),
        (lambda p: p.unlink(), "V000.vbb", "there is no V000.seq for it"),
    ],
    ids=["short", "cut", "header", "missing"],
)
def test_a_damaged_video_is_refused_with_file_and_reason(tmp_path: Path, spoil, file, reason):
    caltech(tmp_path / "in")
    spoil(tmp_path / "in" / "set00" / "V000.seq")
    pictures, problems = read_tree("caltech", tmp_path, min_height=10.0)
    (wrong,) = problems.found
    assert re.search(f"{file}.*{reason}", wrong)
    assert sum("set05_V001" in one.name for one in pictures) == 2  # the others are read


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda p: vbb(p, ["person"], [[]], version=1.5), "got version 1.5"),
        (lambda p: vbb(p, ["person"], [[(2, (1, 1, 9, 60), WHOLE)]]), "frame 0: got track 2"),
        (lambda p: p.write_bytes(b"MATLAB" * 99), "no MATLAB file"),
        (lambda p: p.write_bytes(p.read_bytes()[:-300]), "ends too early"),
    ],
    ids=["version", "track", "text", "cut"],
)
def test_a_damaged_annotation_is_refused_with_file_and_reason(tmp_path: Path, write, reason):
    caltech(tmp_path / "in")
    write(tmp_path / "in" / "annotations" / "set00" / "V000.vbb")
    pictures, problems = read_tree("caltech", tmp_path, min_height=10.0)
    (wrong,) = problems.found
    assert re.search(f"set00/V000.vbb: .*{reason}", wrong)
    assert len(pictures) == 4  # of the other videos
