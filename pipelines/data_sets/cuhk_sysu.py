"""CUHK-SYSU person search (Xiao et al. 2017): street photos and film frames.

* `Image/SSM/s1.jpg` and `annotation/{Images,pool}.mat`, `annotation/test/train_test/{Train,
  TestG50}.mat`. `Images.mat` has all annotated people of each picture (`idlocate`: left, top,
  width, height), `pool.mat` the names of the test pictures; all others are for training.
* Identities come from a join: `Train.mat` lists for each person, `idname` p123, the pictures and
  boxes; so do queries and galleries of `TestG50.mat`, where an empty box means that the person is
  not in the picture. A box in none of them has no identity, but is a person all the same.
* Every box is a person, also hard ones (`ishard`); there are no classes, visibilities or ignored
  regions. Boxes without area and second copies of a box are left out.
* Where pixels count from is not stated; boxes are written unchanged.
* A number means one person in the whole set, so the published numbering is that of `idname`, up to
  11,930. The published validation is the first 2,000 test pictures in the order of their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jde_ray.pipelines.data_sets.matlab import cells, numbers, read_mat, struct_of, structs, text
from jde_ray.pipelines.data_sets.pictures import UNKNOWN, Notes, Part, Picture, Rules, plain_name

RULES = Rules(min_height=0.0)
IS_ONE_NUMBERING = True
CLIPS = False
_PEOPLE_BEFORE = 1 << 24  # larger numbers are no identities

_Box = tuple[float, ...]


def find(source: Path, name: str) -> list[Part]:
    """Two parts: training and test pictures."""
    found = sorted(source.rglob("annotation/Images.mat"))
    if not found:
        raise ValueError(f"{source}: no annotation/Images.mat below it")
    folder = found[0].parent
    tests = folder / "test" / "train_test"
    common = (folder / "Images.mat", folder / "pool.mat", folder.parent / "Image" / "SSM")
    return [
        Part("train", (f"{name}.train",), (*common, tests / "Train.mat")),
        Part("test", (f"{name}.val", f"{name}.test"), (*common, tests / "TestG50.mat")),
    ]


def people(part: Part, rules: Rules, notes: Notes) -> list[int]:
    """Numbers of the people who have one."""
    return sorted(set(_identities(part, notes).values()))


def read(part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
    """The pictures of a split, in the order of their names."""
    annotation, pool, folder, _ = part.files
    tests = {text(one) for one in cells(read_mat(pool, "pool")["pool"])}
    known = _identities(part, notes)
    unused = set(known)
    boxes: dict[str, list[_Box]] = {}
    for one in structs(read_mat(annotation, "Img")["Img"], "imname", "box"):
        name = text(one["imname"])
        if (name in tests) == (part.name == "test"):
            try:
                boxes[plain_name(name)] = _boxes(one["box"], notes, rules)
            except ValueError as error:
                notes.problems.add(annotation, None, "row", f"{name[:100]}: {error}")
    for name in sorted(boxes):
        path = folder / name
        if not path.is_file():
            notes.problems.add(annotation, None, "missing image", f"there is no {name}")
            continue
        keys = [(name, box) for box in boxes[name]]
        unused.difference_update(keys)
        identity = tuple(known.get(key, UNKNOWN) for key in keys)
        notes.left_out["no identity (kept as a person)"] += identity.count(UNKNOWN)
        tlwh = np.array(boxes[name], np.float64).reshape(-1, 4)
        yield Picture(f"CUHKSYSU/images/{name}", path, tlwh, identity)
    notes.left_out["identity of no box"] += len(unused)


def _boxes(listed: Any, notes: Notes, rules: Rules) -> list[_Box]:
    """The boxes of a picture, each once."""
    found: dict[_Box, None] = {}
    for one in structs(listed, "idlocate"):
        for row in numbers(one["idlocate"], 4).tolist():
            reason = ""
            if min(row[2:]) <= 0:
                reason = "no area"
            elif tuple(row) in found:
                reason = "second copy"
            elif row[3] < (rules.min_height or 0):
                reason = "too small"
            if reason:
                notes.left_out[reason] += 1
            else:
                found[tuple(row)] = None
    return list(found)


def _identities(part: Part, notes: Notes) -> dict[tuple[str, _Box], int]:
    """Number of the person in a picture's box."""
    path = part.files[3]
    known: dict[tuple[str, _Box], int] = {}
    for index, (name, sightings) in enumerate(_persons(path, is_test=part.name == "test"), 1):
        try:
            person = _number(name)
            for one in structs(sightings, "imname", "idlocate"):
                for row in numbers(one["idlocate"], 4).tolist():
                    known.setdefault((text(one["imname"]), tuple(row)), person)
        except ValueError as error:
            notes.problems.add(path, None, "row", f"person {index}: {error}")
    return known


def _persons(path: Path, *, is_test: bool) -> Iterator[tuple[Any, Any]]:
    """Name and sightings of every person."""
    if not is_test:
        for cell in cells(read_mat(path, "Train")["Train"]):
            one = struct_of(cell, "idname", "scene")
            yield one["idname"], one["scene"]
        return
    for row in structs(read_mat(path, path.stem)[path.stem], "Query", "Gallery"):
        name = struct_of(row["Query"], "idname")["idname"]
        yield name, row["Query"]
        yield name, row["Gallery"]


def _number(name: Any) -> int:
    written = text(name)
    digits = written.removeprefix("p")
    if not (digits.isascii() and digits.isdecimal()) or not 0 <= int(digits) < _PEOPLE_BEFORE:
        raise ValueError(f"got the idname {written[:100]!r}, expected p1, p2, ...")
    return int(digits)
