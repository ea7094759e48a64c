"""ETH mobile pedestrians (Ess et al. 2007, 2008): folders of left images and `.idl` text.

* A line of an `.idl` is `"path/image_00000001_0.png": (x1, y1, x2, y2), ...;`, the last one ends
  with `.`; a score may follow a box. Corners may be swapped. Whether the second corner is inclusive
  and where pixels count from is not stated; boxes are written unchanged.
* Every box is a person; there are no identities, classes, visibilities or ignored regions.
* The published list has `eth01` BAHNHOF, `eth02` JELMOLI, `eth03` SUNNY DAY, `eth05` CROSSING and
  `eth07` LOEWENPLATZ. LINTHESCHER and PEDCROSS2 are left out, since they are MOT16-06, a test
  sequence, and MOT16-05.
* Pictures that the file does not name are unlabelled and left out; a picture named without boxes
  has no people. If there is a refined file (`eth01.idl`), it is used.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.data_sets.pictures import UNKNOWN, Notes, Part, Picture, Rules, plain_name
from jde_ray.pipelines.formats.label_files import read_lines

RULES = Rules(min_height=0.0)
IS_ONE_NUMBERING = False
CLIPS = False
# sequence: beginnings of the names of its annotations, and of its pictures' folders
SEQUENCES = {
    "eth01": (("eth01", "bahnhof"), ("seq03-img-left", "bahnhof")),
    "eth02": (("eth02", "jelmoli"), ("seq04-img-left", "jelmoli")),
    "eth03": (("eth03", "sunny"), ("sunny_day-img-left", "sunny")),
    "eth05": (("eth05", "crossing"), ("seq01-img-left", "crossing")),
    "eth07": (("eth07", "lp", "loewenplatz"), ("lp-left", "loewenplatz")),
}
LEFT_OUT = ("eth04", "linthescher", "eth06", "pedcross2")  # of MOT16
_LINE = re.compile(r'"(?P<path>[^"]+)"\s*:?(?P<boxes>[^"]*)[;.]\s*$')
_NUMBER = r"\s*(-?\d+(?:\.\d+)?)\s*"
_BOX = re.compile(rf"\({_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}\)\s*(?::\s*-?[\d.]+(?:e-?\d+)?)?")


def find(source: Path, name: str) -> list[Part]:
    """A part per sequence, in the order of their numbers."""
    files = sorted(source.rglob("*.idl"))
    for path in files:
        known = [start for names, _ in SEQUENCES.values() for start in names]
        if not path.name.lower().startswith((*known, *LEFT_OUT)):
            wanted = ", ".join(names[-1] for names, _ in SEQUENCES.values())
            raise ValueError(f"{path}: no annotation of a known sequence, expected {wanted}")
    parts = []
    for sequence, (starts, _) in SEQUENCES.items():
        own = [p for start in starts for p in files if p.name.lower().startswith(start)]
        if own:
            parts.append(Part(sequence, (f"{name}.train",), (own[0], source)))
    if not parts:
        raise ValueError(f"{source}: no .idl file of a training sequence below it")
    return parts


def people(part: Part, rules: Rules, notes: Notes) -> list[int]:
    """None: there are no identities."""
    return []


def read(part: Part, rules: Rules, notes: Notes) -> Iterator[Picture]:
    """The pictures that the annotation names."""
    annotation, source = part.files
    folders = _folders(part.name, annotation, source)
    done: set[str] = set()
    for line, text in read_lines(annotation, notes.problems):
        try:
            path, tlwh = _parse(text)
            name = plain_name(path.name)
        except ValueError as error:
            notes.problems.add(annotation, line, "row", str(error))
            continue
        places = [folder / name for folder in folders]
        places += [annotation.parent / path] if ".." not in path.parts else []
        image = next((place for place in places if place.is_file()), None)
        if image is None or path.is_absolute() or name in done:
            kind = "row" if image else "missing image"
            got = f"got {path}" if image else f"there is no {path}"
            notes.problems.add(annotation, line, kind, got)
            continue
        done.add(name)
        is_small = tlwh[:, 3] < (rules.min_height or 0)
        notes.left_out["too small"] += int(is_small.sum())
        kept = tlwh[~is_small]
        yield Picture(f"ETHZ/{part.name}/images/{name}", image, kept, (UNKNOWN,) * len(kept))


def _folders(sequence: str, annotation: Path, source: Path) -> list[Path]:
    """Folders in which pictures of a sequence may lie, whatever the annotation calls them."""
    own = [
        folder
        for start in SEQUENCES[sequence][1]
        for folder in sorted(source.rglob("*"))
        if folder.is_dir() and folder.name.lower().startswith(start)
    ]
    near = [annotation.parent] if annotation.parent != source else []
    return [place for folder in (*own, *near) for place in (folder, folder / "left")]


def _parse(text: str) -> tuple[PurePosixPath, FloatArray]:
    """Path of the picture and `(n, 4)` boxes of a line."""
    found = _LINE.match(text)
    if found is None:
        raise ValueError(f'got {text[:100]!r}, expected "image": (x1, y1, x2, y2), ...;')
    rest = _BOX.sub("", found["boxes"]).replace(",", "").strip()
    if rest:
        raise ValueError(f"got {rest[:100]!r}, expected boxes (x1, y1, x2, y2)")
    corners = np.array(_BOX.findall(found["boxes"]), np.float64).reshape(-1, 4)
    first = np.minimum(corners[:, :2], corners[:, 2:])
    last = np.maximum(corners[:, :2], corners[:, 2:])
    return PurePosixPath(found["path"]), np.concatenate([first, last - first], 1)
