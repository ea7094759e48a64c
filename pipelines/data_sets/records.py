"""Records of the parts of a data set that are done, and files that are written whole."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jde_ray.pipelines.data_sets.pictures import Part, Rules
from jde_ray.pipelines.data_sets.unified import STAGING
from jde_ray.pipelines.formats.label_files import label_path
from jde_ray.pipelines.processes import mark

RECORDS = ".converted"  # folder of the records, below OUT
_FORMAT = 1  # of the records; another number converts all parts again


@dataclass(frozen=True)
class Record:
    """A part that is done.

    Attributes:
        made_from: Hash of its files and the rules.
        numbers: Number that was written for each original number of a person.
        images: Names of its pictures below OUT.
        num_boxes: Boxes of each picture.
        identities: Numbers of the people who have boxes.
        left_out: Boxes left out by a rule, by reason.
        problems: Wrong rows and files that were left out, by kind.
    """

    made_from: str
    numbers: Mapping[int, int]
    images: tuple[str, ...]
    num_boxes: tuple[int, ...]
    identities: tuple[int, ...]
    left_out: Mapping[str, int]
    problems: Mapping[str, int]


def made_from(part: Part, rules: Rules) -> str:
    """Files and rules of a part as a hash; the time of a folder changes with its files."""
    files = []
    for path in part.files:
        try:
            status = path.stat()
            files.append((str(path.absolute()), status.st_size, status.st_mtime_ns))
        except OSError:
            files.append((str(path.absolute()), -1, -1))
    content = json.dumps([_FORMAT, part.lists, files, asdict(rules)])
    return hashlib.sha256(content.encode()).hexdigest()


def record_path(out: Path, name: str, part: Part) -> Path:
    """Where the record of a part lies."""
    return out / RECORDS / name / f"{part.name}.json"


def read_record(out: Path, name: str, part: Part) -> Record | None:
    """The record of a part; None if there is none that can be read."""
    try:
        values = json.loads(record_path(out, name, part).read_text(encoding="utf-8"))
        record = Record(
            made_from=values["made_from"],
            numbers={int(one): int(number) for one, number in values["numbers"]},
            images=tuple(values["images"]),
            num_boxes=tuple(values["num_boxes"]),
            identities=tuple(values["identities"]),
            left_out=dict(values["left_out"]),
            problems=dict(values["problems"]),
        )
        leads_out = [".." in Path(one).parts or Path(one).is_absolute() for one in record.images]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None if any(leads_out) else record


def find_done(out: Path, name: str, part: Part, rules: Rules, *, skip_bad: bool) -> Record | None:
    """The record of a part that is there, made from the same files by the same rules."""
    record = read_record(out, name, part)
    if record is None or record.made_from != made_from(part, rules):
        return None
    if record.problems and not skip_bad:
        return None
    return record if all((out / image).is_file() for image in record.images) else None


def remove_before(out: Path, name: str, part: Part) -> None:
    """Remove a part that was made from other files or by other rules, its record first."""
    record = read_record(out, name, part)
    record_path(out, name, part).unlink(missing_ok=True)
    for image in record.images if record is not None else ():
        (out / image).unlink(missing_ok=True)
        (out / label_path(Path(image))).unlink(missing_ok=True)


def put(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    staged = path.parent / f"{STAGING}{mark()}-{path.name}"
    try:
        staged.write_text(text, encoding="utf-8")
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
