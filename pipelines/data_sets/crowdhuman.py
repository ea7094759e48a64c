"""CrowdHuman (Shao et al. 2018): `annotation_{train,val}.odgt` and pictures `ID.jpg`.

* A line is a JSON object: `ID`, which contains a comma, and `gtboxes` with `tag`, `fbox` (left,
  top, width, height of the whole person, guessed where hidden, may leave the picture), `vbox` (the
  visible part), `hbox` (the head) and `extra` with `ignore`. Every key of `extra` may be missing.
* People have the tag `person` and are not ignored. `mask` (crowds, reflections, statues) and
  ignored boxes are left out: the unified layout has no ignored regions.
* Visibility is the area of `vbox` over that of `fbox`. There are no identities.
* Where pixels count from is not stated; boxes are written unchanged. They refer to stored pixels,
  whatever the EXIF orientation of a picture says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from jde_ray.pipelines.data_sets.pictures import UNKNOWN, Notes, Part, Picture, Rules, plain_name
from jde_ray.pipelines.formats.label_files import read_lines

RULES = Rules(min_height=0.0, min_visible=0.0, box="full")
IS_ONE_NUMBERING = False
CLIPS = False
_TAGS = ("person", "mask")
_LARGEST = 1_000_000  # pixels


def find(source: Path, name: str) -> list[Part]:
    """A part per split."""
    parts = []
    for split in ("train", "val"):
        found = sorted(source.rglob(f"annotation_{split}.odgt"))
        if found:
            parts.append(Part(split, (f"{name}.{split}",), (found[0], source)))
    if not parts:
        raise ValueError(f"{source}: no annotation_train.odgt or annotation_val.odgt below it")
    return parts


def people(part: Part, rules: Rules, notes: Notes) -> list[int]:
    """None: there are no identities."""
    return []


def read(part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
    """All pictures of a split."""
    annotation, source = part.files
    folders = _folders(source, part.name)
    done: set[str] = set()
    for line, text in read_lines(annotation, notes.problems):
        try:
            name, boxes = _parse(text, rules, notes)
        except ValueError as error:
            notes.problems.add(annotation, line, "row", str(error))
            continue
        found = (folder / f"{name}.jpg" for folder in folders)
        path = next((place for place in found if place.is_file()), None)
        if path is None or name in done:
            kind, got = ("row", f"got {name} twice") if path else ("missing image", f"{name}.jpg")
            notes.problems.add(annotation, line, kind, got)
            continue
        done.add(name)
        tlwh = np.array(boxes, np.float64).reshape(-1, 4)
        where = f"CrowdHuman/images/{part.name}/{name}.jpg"
        yield Picture(where, path, tlwh, (UNKNOWN,) * len(tlwh))


def _folders(source: Path, split: str) -> list[Path]:
    """Folders of pictures, as in the archives or sorted by split; those of the split first."""
    found = (path for path in source.rglob("*") if path.name in ("Images", split))
    folders = [path for path in found if path.is_dir()]
    return sorted(folders, key=lambda path: (split not in str(path.relative_to(source)), path))


def _parse(text: str, rules: Rules, notes: Notes) -> tuple[str, list[list[float]]]:
    """Name and people of a line."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from error
    if not isinstance(row, dict) or not isinstance(row.get("gtboxes", []), list):
        raise ValueError(f"got {text[:100]!r}, expected ID and gtboxes")
    name = row.get("ID")
    if not isinstance(name, str):
        raise ValueError(f"got the ID {name!r}, expected text")
    boxes = []
    for one in row.get("gtboxes", []):
        reason, box = _judge(one, rules)
        if reason:
            notes.left_out[reason] += 1
        else:
            boxes.append(box)
    return plain_name(name), boxes


def _judge(one: Any, rules: Rules) -> tuple[str, list[float]]:
    """Why a box is left out, or empty; and the box."""
    if not isinstance(one, dict) or one.get("tag") not in _TAGS:
        tag = one.get("tag") if isinstance(one, dict) else one
        raise ValueError(f"got a box of the tag {str(tag)[:100]!r}, expected {' | '.join(_TAGS)}")
    extra = one.get("extra")
    if one["tag"] == "mask":
        return "ignored region", []
    if isinstance(extra, dict) and extra.get("ignore") == 1:
        return "ignored person", []
    full, seen = _numbers(one, "fbox"), None
    if rules.min_visible or rules.box == "visible":
        seen = _numbers(one, "vbox")
        area = full[2] * full[3]
        if area > 0 and seen[2] * seen[3] / area < (rules.min_visible or 0):
            return "too hidden", []
    if full[3] < (rules.min_height or 0):
        return "too small", []
    return "", seen if seen is not None and rules.box == "visible" else full


def _numbers(one: dict[str, Any], key: str) -> list[float]:
    box = one.get(key)
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"got {key} {str(box)[:100]}, expected left, top, width, height")
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in box):
        raise ValueError(f"got {key} {str(box)[:100]}, expected numbers")
    if not all(abs(v) < _LARGEST for v in box):  # false for NaN, too
        raise ValueError(f"got {key} {str(box)[:100]}, expected pixels")
    return [float(v) for v in box]
