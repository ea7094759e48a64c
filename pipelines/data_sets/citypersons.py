"""CityPersons (Zhang et al. 2017): boxes for the pictures of Cityscapes, as `anno_*.mat`.

* `leftImg8bit/{train,val}/CITY/*.png`, 2048x1024, and `anno_train.mat`, `anno_val.mat`: a cell per
  picture with `cityname`, `im_name` and `bbs`, whose rows are class, left, top, width, height,
  instance, and the same four of the visible part.
* Classes: 0 ignored region, 1 pedestrian, 2 rider, 3 sitting person, 4 other posture, 5 group. The
  published lists are the pictures with a row of 1 to 5, and all these rows are people. Class 0 is
  left out. For 1 and 2 the box is the whole body, with a width of .41 of its height.
* Instances are unique in a picture only, so nobody has an identity.
* The type of numbers changes from picture to picture; boxes leave the picture in 1 % of the rows.
  Where pixels count from is not stated (0, by the look of them); boxes are written unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.data_sets.matlab import cells, numbers, read_mat, struct_of, text
from jde_ray.pipelines.data_sets.pictures import UNKNOWN, Notes, Part, Picture, Rules, plain_name

RULES = Rules(classes=("1", "2", "3", "4", "5"), box="full", min_height=0.0, min_visible=0.0)
IS_ONE_NUMBERING = False
CLIPS = False
_COLUMNS = 10


def find(source: Path, name: str) -> list[Part]:
    """A part per split."""
    parts = []
    for split in ("train", "val"):
        found = sorted(source.rglob(f"anno_{split}.mat"))
        folders = [p for p in sorted(source.rglob(f"leftImg8bit/{split}")) if p.is_dir()]
        if found:
            images = folders[0] if folders else source / "leftImg8bit" / split
            parts.append(Part(split, (f"{name}.{split}",), (found[0], images)))
    if not parts:
        raise ValueError(f"{source}: no anno_train.mat or anno_val.mat below it")
    return parts


def people(part: Part, rules: Rules, notes: Notes) -> list[int]:
    """None: there are no identities."""
    return []


def read(part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
    """Pictures with at least one box of the classes."""
    annotation, folder = part.files
    for index, cell in enumerate(
        cells(read_mat(annotation, f"anno_{part.name}_aligned").popitem()[1])
    ):
        try:
            one = struct_of(cell, "cityname", "im_name", "bbs")
            city, image = plain_name(text(one["cityname"])), plain_name(text(one["im_name"]))
            rows = numbers(one["bbs"], _COLUMNS)
        except ValueError as error:
            notes.problems.add(annotation, None, "row", f"picture {index + 1}: {error}")
            continue
        tlwh = _people(rows, rules, notes)
        if not len(tlwh):
            continue
        path = folder / city / image
        if not path.is_file():
            notes.problems.add(annotation, None, "missing image", f"there is no {city}/{image}")
            continue
        where = f"Cityscapes/images/{part.name}/{city}/{image}"
        yield Picture(where, path, tlwh, (UNKNOWN,) * len(tlwh))


def _people(rows: FloatArray, rules: Rules, notes: Notes) -> FloatArray:
    """`(n, 4)` boxes of the rows that the rules keep; a picture may be left without."""
    full, seen = rows[:, 1:5], rows[:, 6:10]
    area = full[:, 2] * full[:, 3]
    visible = np.divide(seen[:, 2] * seen[:, 3], area, out=np.zeros(len(rows)), where=area > 0)
    visible[rows[:, 0] == 5] = 1.0  # groups have no visible box
    reasons = {
        "ignored region": rows[:, 0] == 0,
        "another class": ~np.isin(rows[:, 0], [float(c) for c in rules.classes or ()]),
        "too small": full[:, 3] < (rules.min_height or 0),
        "too hidden": visible < (rules.min_visible or 0),
    }
    stays = np.ones(len(rows), bool)
    for reason, is_so in reasons.items():
        notes.left_out[reason] += int((stays & is_so).sum())
        stays &= ~is_so
    has_part = (rules.box == "visible") & (rows[:, 0] != 5)
    return np.where(has_part[:, None], seen, full)[stays]
