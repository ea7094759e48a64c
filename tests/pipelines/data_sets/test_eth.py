from __future__ import annotations

from pathlib import Path

import pytest
from original_layouts import convert_tree, eth, labels, put, read_tree

IMAGE = "ETHZ/{}/images/image_0000000{}_0.png"


def test_named_pictures_of_the_published_sequences(tmp_path: Path):
    """Not LINTHESCHER; the refined file wins; picture 3 is unlabelled; corners are sorted."""
    eth(tmp_path / "in")
    done = convert_tree("eth", tmp_path)
    people = [(-1, [5, 6, 10, 20]), (-1, [30, 10, 10, 20])]
    assert labels(tmp_path / "out", "eth.train") == {
        IMAGE.format(sequence, number): people if number == 1 else []
        for sequence in ("eth01", "eth07")
        for number in (1, 2, 4)
    }
    assert done.left_out == {"no area": 2}
    assert done.num_parts == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('"left/image_00000009_0.png": (1, 2, 3, 4);', "there is no left/image_00000009_0.png"),
        ('"../../secret.png": (1, 2, 3, 4);', "there is no ../../secret.png"),
        ('"image_00000002_0.png": (1, 2, 3);', "expected boxes (x1, y1, x2, y2)"),
        ("image_00000002_0.png", 'expected "image"'),
        ('"image_00000001_0.png";', "got image_00000001_0.png"),
        ('"\x07.png";', "got the name"),
    ],
)
def test_a_damaged_line_is_refused_with_file_and_line(tmp_path: Path, line, reason):
    eth(tmp_path / "in")
    put(tmp_path / "secret.png", b"no")
    put(tmp_path / "in" / "eth01.idl", f'"image_00000001_0.png": (5, 6, 15, 26);\n{line}\n')
    pictures, problems = read_tree("eth", tmp_path)
    (wrong,) = problems.found
    assert "eth01.idl:2: " in wrong
    assert reason in wrong
    assert len(pictures) == 4


def test_an_annotation_of_an_unknown_sequence_is_refused(tmp_path: Path):
    put(tmp_path / "in" / "garden.idl", "")
    with pytest.raises(ValueError, match=r"garden\.idl: no annotation of a known sequence"):
        convert_tree("eth", tmp_path)
