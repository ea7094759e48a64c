"""Convert a data set part by part, and write its lists.

A part (sequence, video, split) is written whole or not at all, and a record of it afterwards, which
says what it was made from. A part with a record is not done again, unless its files, the rules or
the numbers of its people have changed. Lists and the data-set JSON are written last, from records.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from jde_ray.pipelines.data_sets.kinds import KINDS
from jde_ray.pipelines.data_sets.pictures import Notes, Part, Rules
from jde_ray.pipelines.data_sets.published import MIXTURE
from jde_ray.pipelines.data_sets.records import (
    RECORDS,
    Record,
    find_done,
    made_from,
    put,
    read_record,
    record_path,
    remove_before,
)
from jde_ray.pipelines.data_sets.unified import STAGING, Written, write
from jde_ray.pipelines.formats.label_files import BadDataError, label_path
from jde_ray.pipelines.parallel import MOST_IN_PROCESS, for_each
from jde_ray.pipelines.processes import sweep

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ListCounts:
    """A list as written.

    Attributes:
        name: Its file name.
        num_images: Pictures.
        num_boxes: People in them.
        num_identities: Different people among them who are known.
        num_classes: One more than the largest number of a person, as the published code counts.
    """

    name: str
    num_images: int
    num_boxes: int
    num_identities: int
    num_classes: int


@dataclass(frozen=True)
class Converted:
    """What became of a data set.

    Attributes:
        lists: Its lists.
        num_parts: Sequences, videos or splits.
        num_before: Number of those that were there already.
        left_out: Boxes left out by a rule, by reason, and other counts.
        problems: Wrong rows and files that were left out, by kind.
    """

    lists: tuple[ListCounts, ...]
    num_parts: int
    num_before: int
    left_out: Mapping[str, int]
    problems: Mapping[str, int]


def convert(
    name: str,
    source: Path,
    out: Path,
    rules: Rules,
    *,
    skip_bad: bool = False,
    address: str | None = None,
) -> Converted:
    """Convert a data set into lists and label files.

    Args:
        name: One of `KINDS`.
        source: Folder of the download.
        out: Folder of the lists, which may hold other data sets.
        rules: Which boxes are people, and how identities are numbered.
        skip_bad: Leave out and count wrong rows and files.
        address: Address of the Ray cluster; None for this process if there are few parts.

    Raises:
        BadDataError: If rows or files are wrong, without `skip_bad`.
        ValueError: If nothing of the set is found, it has no such class, or `out` is no folder.
        OSError: If `out` cannot be written.
        RunError: If there is no Ray at the address.
    """
    if not source.is_dir():
        raise ValueError(f"source: {source} is no folder")
    if ":/" in str(out) or (out.exists() and not out.is_dir()):  # `Path` makes s3:/ of s3://
        raise ValueError(f"out: got {out}, expected a folder")
    for one in rules.classes or ():
        if one not in KINDS[name].classes:
            accepted = " | ".join(KINDS[name].classes)
            raise ValueError(f"class: got {one!r} for {name}, expected {accepted}")
    source, out = source.absolute(), out.absolute()  # tasks may have another working folder
    converter = KINDS[name].load()
    parts = converter.find(source, name)
    (out / RECORDS / name).mkdir(parents=True, exist_ok=True)
    sweep(out, STAGING)
    done_before = [find_done(out, name, part, rules, skip_bad=skip_bad) for part in parts]
    new = [part for part, record in zip(parts, done_before, strict=True) if record is None]
    with _one_ray(len(new), address):
        find = partial(_people, name=name, rules=rules, skip_bad=skip_bad)
        found_now = iter(_each(find, new, address))
        people = [next(found_now) if record is None else list(record.numbers)
                  for record in done_before]  # fmt: skip
        numbers = number_people(people, rules, converter.IS_ONE_NUMBERING)
        tasks = [
            (part, own)
            for part, own, record in zip(parts, numbers, done_before, strict=True)
            if record is None or record.numbers != own
        ]
        work = partial(_convert_part, name=name, out=out, rules=rules, skip_bad=skip_bad)
        _each(work, tasks, address)
    records = [read_record(out, name, part) for part in parts]
    found = [record for record in records if record is not None]
    lists = _write_lists(out, name, parts, found)
    _write_identities(out / f"{name}.identities.csv", parts, numbers, converter.IS_ONE_NUMBERING)
    left_out = sum((Counter(record.left_out) for record in found), Counter())
    problems = sum((Counter(record.problems) for record in found), Counter())
    done = Converted(
        tuple(lists), len(parts), len(parts) - len(tasks), dict(left_out), dict(problems)
    )
    _write_description(out, name, rules, done)
    if all((out / one).is_file() for part in MIXTURE.values() for one in part.values()):
        mixture = {"root": str(out.absolute()), **MIXTURE}
        put(out / "ccmcpe.json", f"{json.dumps(mixture, indent=1)}\n")
    return done


@contextmanager
def _one_ray(num_parts: int, address: str | None) -> Iterator[None]:
    """One connection to Ray for several calls of `for_each` that need it."""
    if not num_parts or (address is None and num_parts <= MOST_IN_PROCESS):
        yield
        return
    from jde_ray.pipelines.cluster import connected

    with connected(address or "local"):
        yield


def _each(
    work: Callable[[Item], Result], items: Sequence[Item], address: str | None
) -> list[Result]:
    return for_each(work, items, address) if items else []  # nothing is worth a start of Ray


def _people(part: Part, *, name: str, rules: Rules, skip_bad: bool) -> list[int]:
    try:
        return KINDS[name].load().people(part, rules, Notes())
    except ValueError as error:
        if skip_bad:  # counted when the part is read again
            return []
        notes = Notes()
        notes.problems.add(part.files[0], None, "unreadable file", str(error))
        notes.problems.refuse()
        raise


def number_people(
    people: Sequence[Sequence[int]], rules: Rules, is_one_numbering: bool
) -> list[dict[int, int]]:
    """The number that is written for each person of each part.

    Args:
        people: Original numbers of the people in each part.
        rules: Its `numbering` decides: `original` counts from 1 over the parts, or leaves numbers
            of the whole set as they are; `compact` counts from 0.
        is_one_numbering: Whether a number means one person in the whole set.
    """
    if is_one_numbering:
        all_people = sorted({one for own in people for one in own})
        order = enumerate(all_people)
        known = {one: one if rules.numbering == "original" else place for place, one in order}
        return [{one: known[one] for one in own} for own in people]
    first, numbers = int(rules.numbering == "original"), []
    for own in people:
        numbers.append({one: first + place for place, one in enumerate(own)})
        first += len(own)
    return numbers


def _convert_part(
    task: tuple[Part, dict[int, int]], *, name: str, out: Path, rules: Rules, skip_bad: bool
) -> None:
    part, numbers = task
    converter, notes = KINDS[name].load(), Notes()
    remove_before(out, name, part)
    try:
        pictures = converter.read(part, rules, notes)
        written = write(pictures, numbers, out, notes, clips=converter.CLIPS, skip_bad=skip_bad)
    except BadDataError:
        raise
    except ValueError as error:
        notes.problems.add(part.files[0], None, "unreadable file", str(error))
        if not skip_bad:
            notes.problems.refuse()
        written = Written((), (), ())
    left_out = {reason: count for reason, count in notes.left_out.items() if count}
    record = {
        "made_from": made_from(part, rules),
        "numbers": sorted(numbers.items()),
        **asdict(written),
        "left_out": left_out,
        "problems": dict(notes.problems.counts),
    }
    put(record_path(out, name, part), json.dumps(record))


def _write_lists(
    out: Path, name: str, parts: Sequence[Part], records: Sequence[Record]
) -> list[ListCounts]:
    names = dict.fromkeys(listed for part in parts for listed in part.lists)
    counts = []
    for listed in names:
        pairs = zip(parts, records, strict=True)
        own = [record for part, record in pairs if listed in part.lists]
        images = [image for record in own for image in record.images]
        num_boxes = [count for record in own for count in record.num_boxes]
        most = KINDS[name].largest.get(listed, len(images))
        images, num_boxes = images[:most], num_boxes[:most]
        put(out / listed, "".join(f"{image}\n" for image in images))
        known = _known(out, images, own, is_cut=most < sum(len(r.images) for r in own))
        largest = max(known, default=-1)
        counts.append(ListCounts(listed, len(images), sum(num_boxes), len(known), largest + 1))
    return counts


def _known(
    out: Path, images: Sequence[str], records: Sequence[Record], *, is_cut: bool
) -> set[int]:
    """Numbers of the people in a list; of a list that is cut they are read from its labels."""
    if not is_cut:
        return {one for record in records for one in record.identities}
    rows = (
        line for image in images for line in (out / label_path(Path(image))).open(encoding="ascii")
    )
    return {int(line.split()[1]) for line in rows} - {-1}


def _write_identities(
    path: Path, parts: Sequence[Part], numbers: Sequence[Mapping[int, int]], is_one_numbering: bool
) -> None:
    """Table `number,part,original` of all people; no part if numbers hold for the whole set."""
    rows = {
        (number, "" if is_one_numbering else part.name, original)
        for part, own in zip(parts, numbers, strict=True)
        for original, number in own.items()
    }
    lines = (f"{number},{part},{original}\n" for number, part, original in sorted(rows))
    put(path, "number,part,original\n" + "".join(lines))


def _write_description(out: Path, name: str, rules: Rules, done: Converted) -> None:
    """`NAME.json`: the lists, as the published code reads them, and how they were made."""
    kind = KINDS[name]
    lists = [one.name for one in done.lists]
    tests = [one for one in lists if not one.endswith(".train") and one not in kind.of_embeddings]
    content = {
        "root": str(out.absolute()),
        "train": _by_name(name, [one for one in lists if one.endswith(".train")]),
        "test": _by_name(name, tests),
        "test_emb": _by_name(name, [one for one in lists if one in kind.of_embeddings]),
        "rules": asdict(rules),
        "lists": [asdict(one) for one in done.lists],
        "left_out": dict(done.left_out),
        "problems": dict(done.problems),
    }
    put(out / f"{name}.json", f"{json.dumps(content, indent=1)}\n")


def _by_name(name: str, lists: Sequence[str]) -> dict[str, str]:
    """Lists under the name of the data set, or under their own if there are several."""
    return {name if len(lists) == 1 else one: one for one in lists}
