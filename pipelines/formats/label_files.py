"""Reads label files; checks every row, and errors name the file and line."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.formats.mot import LONGEST, parse_rows

SHOWN = 10  # errors named in one message
LARGEST = 4.0  # largest side of a box relative to the image; larger boxes are in other units
CSV_COLUMNS = ("image", "x1", "y1", "x2", "y2", "id")
GROUP = -2  # identity of a box around several people: an ignored region


class BadDataError(ValueError):
    """Training data is refused; one line names the first errors and counts all."""


@dataclass
class LabelErrors:
    """Errors collected over all label files.

    Attributes:
        found: `file:line: reason`, in the order of reading.
        counts: Number of errors of each kind.
    """

    found: list[str] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def add(self, path: Path, line: int | None, kind: str, detail: str) -> None:
        """Add an error.

        Args:
            path: File with the error.
            line: 1-based line; None if the error concerns the file.
            kind: Group in which `--skip-bad` counts it.
            detail: The value and what was expected, for the user.
        """
        where = f"{path}:{line}" if line is not None else str(path)
        self.found.append(f"{where}: {kind}: {detail}")
        self.counts[kind] += 1

    def refuse(
        self, what: str = "training data", advice: str = " (--skip-bad leaves such rows out)"
    ) -> None:
        """Raise if any error was collected.

        Args:
            what: What has the errors.
            advice: What ends the message.

        Raises:
            BadDataError: Naming the first errors.
        """
        if self.found:
            more = len(self.found) - SHOWN
            text = "; ".join(self.found[:SHOWN]) + (f"; and {more} more" if more > 0 else "")
            raise BadDataError(f"{what}: {text}{advice}")

    def summary(self) -> str:
        """`3 x box outside the image, 1 x missing image`."""
        return ", ".join(f"{count} x {kind}" for kind, count in self.counts.most_common())


def _numbers(cells: Sequence[str]) -> list[float] | None:
    try:
        values = [float(cell) for cell in cells]
    except ValueError:
        return None
    return values if all(math.isfinite(value) for value in values) else None


def check_identity(value: float, limit: int | None) -> str | None:
    """Why an identity is wrong; None if it is right.

    Args:
        value: Identity read from the file.
        limit: Number of identities that the source declares; None for no limit.
    """
    if value != int(value) or not -1 <= value < 2**31:
        return f"got {value:g}, expected -1 or 0, 1, ..."
    if limit is not None and value >= limit:
        declared = f"`identities: {limit}` of its source"
        return f"got {value:g}, expected below {limit} ({declared} is one more than the largest)"
    return None


def outside(box: Sequence[float], width: float, height: float) -> str | None:
    """Why `x1, y1, x2, y2` is not a box in an image of that size; None if it is.

    Boxes may extend beyond the image, as those of partly hidden people do, but must overlap it and
    be at most `LARGEST` times as large.
    """
    x1, y1, x2, y2 = box
    if x2 <= x1 or y2 <= y1:
        return f"got {x1:g},{y1:g},{x2:g},{y2:g}, which has no area"
    if x2 <= 0 or y2 <= 0 or x1 >= width or y1 >= height:
        return f"got {x1:g},{y1:g},{x2:g},{y2:g} in an image of {width:g}x{height:g}"
    if x2 - x1 > LARGEST * width or y2 - y1 > LARGEST * height:
        size = f"{LARGEST:g} times as large as the image of {width:g}x{height:g}"
        return f"got {x1:g},{y1:g},{x2:g},{y2:g}, which is more than {size}"
    return None


def label_path(image: Path) -> Path:
    """Label file of an image in the unified JDE format: `labels_with_ids` replaces `images`.

    Only the last folder of that name is replaced, so that the root may have any name.
    """
    parts = list(image.parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels_with_ids"
            break
    return Path(*parts).with_suffix(".txt")


def read_mot_rows(path: Path, problems: LabelErrors, limit: int | None = None) -> FloatArray:
    """`(R, 10)` rows of a MOTChallenge `gt.txt`: its nine numbers and the line number.

    MOT15 files have ten columns and no class; their rows get class 1 and visibility 1. A wrong
    identity is replaced by -1, unknown.
    """

    def leave_out(line: int, reason: str) -> None:
        problems.add(path, line, "row", reason)

    rows = []
    for line, values in parse_rows(read_lines(path, problems), leave_out, accepted=(9, 10)):
        wrong = check_identity(values[1], limit)
        if wrong:
            problems.add(path, line, "identity", wrong)
            values[1] = -1.0
        has_class = len(values) == 9
        rows.append([*values, line] if has_class else [*values[:7], 1.0, 1.0, line])
    return np.array(rows, np.float64).reshape(-1, 10)


def read_csv_rows(
    path: Path, problems: LabelErrors, limit: int | None
) -> dict[str, list[tuple[int, list[float]]]]:
    """Line and `x1, y1, x2, y2, id` of every row of an `image,x1,y1,x2,y2,id` file, by image.

    A wrong identity is replaced by -1, unknown; `GROUP` marks a box around several people.
    """
    by_image: dict[str, list[tuple[int, list[float]]]] = {}
    accepted = f"expected {','.join(CSV_COLUMNS)}"
    reader = csv.reader(io.StringIO(_text(path, problems) or "", newline=""))
    try:
        header = next(reader, [])
        if [name.strip() for name in header] != list(CSV_COLUMNS):
            problems.add(path, 1, "header", f"got {_short(','.join(header))}, {accepted}")
            return by_image
        for cells in reader:
            if not cells:
                continue
            line = reader.line_num
            values = _numbers(cells[1:]) if len(cells) == len(CSV_COLUMNS) else None
            if values is None:
                problems.add(path, line, "row", f"got {_short(','.join(cells))}, {accepted}")
                continue
            wrong = None if values[4] == GROUP else check_identity(values[4], limit)
            if wrong:
                problems.add(path, line, "identity", wrong)
                values[4] = -1.0
            by_image.setdefault(cells[0], []).append((line, values))
    except csv.Error as error:  # a cell that is too long
        problems.add(path, reader.line_num, "row", f"got no CSV ({error}), {accepted}")
    return by_image


def read_jde_rows(path: Path, problems: LabelErrors, limit: int | None) -> FloatArray:
    """`(G, 5)` x1, y1, x2, y2, identity of a label file of the unified JDE format.

    Its rows are `class identity xc yc w h`, with boxes relative to the image's width and height. As
    in other layouts a box, and even its centre, may lie beyond the image. A wrong identity is
    replaced by -1, unknown.
    """
    rows = []
    for line, text in read_lines(path, problems):
        cells = text.split()
        values = _numbers(cells) if len(cells) == 6 else None
        if values is None:
            accepted = "expected: class identity xc yc w h"
            problems.add(path, line, "row", f"got {len(cells)} fields {_short(text)}, {accepted}")
            continue
        _, identity, xc, yc, width, height = values
        wrong = check_identity(identity, limit)
        if wrong:
            problems.add(path, line, "identity", wrong)
            identity = -1.0
        box = [xc - width / 2, yc - height / 2, xc + width / 2, yc + height / 2]
        wrong = outside(box, 1, 1)
        if wrong:
            unit = "expected shares of the image's width and height"
            problems.add(path, line, "box outside the image", f"{wrong}; {unit}")
            continue
        rows.append([*box, identity])
    return np.array(rows, np.float64).reshape(-1, 5)


def _text(path: Path, problems: LabelErrors) -> str | None:
    """The file's text; None if it cannot be read or is not text."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        problems.add(path, None, "unreadable file", f"{error.strerror}")
    except UnicodeDecodeError as error:
        got = f"got byte {error.object[error.start]:#04x} at {error.start}"
        problems.add(path, None, "encoding", f"{got}, expected text in UTF-8")
    return None


def read_lines(path: Path, problems: LabelErrors) -> Iterator[tuple[int, str]]:
    """Stripped lines of a text file and their numbers from 1, without empty lines."""
    for number, text in enumerate((_text(path, problems) or "").split("\n"), 1):
        if text.strip():
            yield number, text.strip()


def _short(text: str) -> str:
    return repr(text if len(text) <= LONGEST else text[:LONGEST] + "...")
