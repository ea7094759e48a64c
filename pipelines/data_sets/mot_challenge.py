"""MOTChallenge: the training sequences of MOT15, MOT16, MOT17 and MOT20.

* `train/NAME/{img1/000001.jpg, gt/gt.txt, seqinfo.ini}`. `gt.txt` has frame, id, left, top, width,
  height, flag, then class and visibility; MOT15 has neither, but x, y, z. Rows come in any order.
* People are rows with flag 1 and class 1. All other rows are left out: vehicles, occluders, and the
  distractors (classes 2, 7, 8, 12), which `kind: sequence` in a recipe makes ignored regions. The
  unified layout has none.
* Hidden people stay, as in the published list, unless `--min-visible` says otherwise.
* Frames and ids count from 1, and so do pixels. Boxes are written unchanged, as by the published
  scripts, so they lie one pixel to the right of and below those of `kind: sequence`.
* Every frame is in the list, also without people. Of MOT17's three copies of a sequence one is
  taken, `-SDP` if it is there. Test sequences have no ground truth and are passed over.
* An id means another person in every sequence. The published numbering counts from 1 over them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.data_sets.pictures import Notes, Part, Picture, Rules, plain_name
from jde_ray.pipelines.formats.label_files import LabelErrors, read_mot_rows
from jde_ray.pipelines.video.image_folder import list_images

RULES = Rules(min_height=0.0, min_visible=0.0)
IS_ONE_NUMBERING = False
CLIPS = False
_COPIES = ("SDP", "FRCNN", "DPM")


def find(source: Path, name: str) -> list[Part]:
    """A part per sequence with ground truth."""
    folders: dict[str, Path] = {}
    found = [path.parent.parent for path in sorted(source.rglob("gt/gt.txt"))]
    for folder in sorted(found, key=_preference):
        base, _, copy = folder.name.rpartition("-")
        folders.setdefault(base if copy in _COPIES else folder.name, folder)
    if not folders:
        raise ValueError(f"{source}: no NAME/gt/gt.txt below it")
    return [
        Part(
            plain_name(folder.name), (f"{name}.train",), (folder / "gt" / "gt.txt", folder / "img1")
        )
        for _, folder in sorted(folders.items())
    ]


def _preference(folder: Path) -> tuple[int, str]:
    copy = folder.name.rpartition("-")[2]
    return _COPIES.index(copy) if copy in _COPIES else 0, str(folder)


def people(part: Part, rules: Rules, notes: Notes) -> list[int]:
    """Ids of people."""
    rows = _people(part, rules, notes)
    return sorted({int(one) for one in rows[:, 1] if one >= 0})


def read(part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
    """All frames."""
    truth, folder = part.files
    rows = _people(part, rules, notes)
    if not folder.is_dir():
        notes.problems.add(truth, None, "missing file", f"there is no folder {folder.name}")
        return
    images = {int(path.stem): path for path in list_images(str(folder)) if path.stem.isdecimal()}
    for frame in sorted({int(f) for f in rows[:, 0]} - images.keys()):
        line = int(rows[rows[:, 0] == frame][0, 9])
        notes.problems.add(truth, line, "missing image", f"frame {frame} has no {folder.name}/")
    benchmark = part.lists[0].removesuffix(".train").upper()
    for frame, path in sorted(images.items()):
        mine = rows[rows[:, 0] == frame]
        name = f"{benchmark}/images/train/{part.name}/img1/{path.name}"
        yield Picture(name, path, mine[:, 2:6], tuple(int(one) for one in mine[:, 1]))


def _people(part: Part, rules: Rules, notes: Notes) -> FloatArray:
    """`(n, 10)` rows of people, by line."""
    truth = part.files[0]
    rows = read_mot_rows(truth, notes.problems)
    reasons = {
        "not flagged": rows[:, 6] <= 0,
        "another class": rows[:, 7] != 1,
        "too small": rows[:, 5] < (rules.min_height or 0),
        "too hidden": rows[:, 8] < (rules.min_visible or 0),
    }
    stays = np.ones(len(rows), bool)
    for reason, is_so in reasons.items():
        notes.left_out[reason] += int((stays & is_so).sum())
        stays &= ~is_so
    return _once(rows[stays], truth, notes.problems)


def _once(rows: FloatArray, truth: Path, problems: LabelErrors) -> FloatArray:
    """The rows without a second box of an id in a frame."""
    _, first = np.unique(rows[:, :2], axis=0, return_index=True)
    for index in sorted(set(range(len(rows))) - set(first.tolist())):
        if rows[index, 1] >= 0:
            got = f"got id {rows[index, 1]:g} twice in frame {rows[index, 0]:g}"
            problems.add(truth, int(rows[index, 9]), "row", f"{got}, expected once")
    return rows[np.sort(first)]
