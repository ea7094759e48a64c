"""PRW, person re-identification in the wild (Zheng et al. 2017): frames of six cameras.

* `frames/c1s1_000151.jpg`, `annotations/c1s1_000151.jpg.mat`, and the frames of each split by name
  in `frame_train.mat` and `frame_test.mat`.
* An annotation has one of the variables `box_new`, `anno_file`, `anno_previous`, in this order of
  preference; its rows are id, left, top, width, height.
* Every row is a person; id -2 is a person whose identity is unknown. There are no classes,
  visibilities or ignored regions. Rows without area are left out.
* Pixels probably count from 1; boxes are written unchanged, but clipped, since some begin a pixel
  before the picture.
* A number means one person in the whole set, and the published numbering is that of the files, up
  to 932. Some people of the training frames are in test frames, too. The published validation is
  the first 2,000 test frames in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.data_sets.matlab import cells, numbers, read_mat, text
from jde_ray.pipelines.data_sets.pictures import UNKNOWN, Notes, Part, Picture, Rules, plain_name

RULES = Rules(min_height=0.0)
IS_ONE_NUMBERING = True
CLIPS = True
_VARIABLES = ("box_new", "anno_file", "anno_previous")
_NOBODY = -2  # id of people without identity
_PEOPLE_BEFORE = 1 << 24  # larger numbers are no identities


def find(source: Path, name: str) -> list[Part]:
    """A part per split."""
    parts = []
    for split, lists in (("train", ("train",)), ("test", ("val", "test"))):
        found = sorted(source.rglob(f"frame_{split}.mat"))
        if found:
            names = tuple(f"{name}.{one}" for one in lists)
            root = found[0].parent
            parts.append(Part(split, names, (found[0], root / "frames", root / "annotations")))
    if not parts:
        raise ValueError(f"{source}: no frame_train.mat or frame_test.mat below it")
    return parts


def people(part: Part, rules: Rules, notes: Notes) -> list[int]:
    """Ids in the frames of a split."""
    found = set()
    for _, rows in _frames(part, notes):
        found |= {int(one) for one in rows[:, 0] if one >= 0}
    return sorted(found)


def read(part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
    """The frames of a split, in the order of their names."""
    for name, rows in _frames(part, notes):
        path = part.files[1] / name
        if not path.is_file():
            notes.problems.add(part.files[0], None, "missing image", f"there is no frames/{name}")
            continue
        is_small = rows[:, 4] < (rules.min_height or 0)
        notes.left_out["too small"] += int(is_small.sum())
        kept = rows[~is_small]
        identity = tuple(int(one) if one >= 0 else UNKNOWN for one in kept[:, 0])
        yield Picture(f"PRW/images/{name}", path, kept[:, 1:], identity)


def _frames(part: Part, notes: Notes) -> Iterator[tuple[str, FloatArray]]:
    """File name and `(n, 5)` rows id, left, top, width, height of every frame."""
    listed, _, annotations = part.files
    index = f"img_index_{part.name}"
    names = (plain_name(text(cell)) for cell in cells(read_mat(listed, index)[index]))
    for name in sorted({f"{name.removesuffix('.jpg')}.jpg" for name in names}):
        path = annotations / f"{name}.mat"
        try:
            yield name, _rows(path)
        except ValueError as error:
            notes.problems.add(path, None, "unreadable file", str(error))


def _rows(path: Path) -> FloatArray:
    found = read_mat(path)
    own = next((variable for variable in _VARIABLES if variable in found), None)
    if own is None:
        raise ValueError(f"got the variables {', '.join(found)}, expected {' | '.join(_VARIABLES)}")
    rows = numbers(found[own], 5)
    wrong = (rows[:, 0] != np.round(rows[:, 0])) | (rows[:, 0] < 0) & (rows[:, 0] != _NOBODY)
    wrong |= rows[:, 0] >= _PEOPLE_BEFORE
    if wrong.any():
        raise ValueError(f"got id {rows[wrong][0, 0]:g}, expected {_NOBODY} or 0, 1, ...")
    return rows
