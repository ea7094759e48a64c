"""Reads lists of sources from text files; their content is not trusted."""

from __future__ import annotations

import csv
import io
import os
import stat
import textwrap
import unicodedata
from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import NamedTuple

from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.wall_clock import to_utc

LIST_SUFFIXES = frozenset({".txt", ".csv"})
MOST_LIST_BYTES = 64 << 20  # half a million paths


class Entry(NamedTuple):
    """A line of a list.

    Attributes:
        number: Of the line, from 1.
        source: The source.
        camera: Camera of its videos; None if the list does not say.
        start: When the recording began, in UTC; None if the list does not say.
    """

    number: int
    source: str
    camera: str | None = None
    start: datetime | None = None


def read_entries(path: Path, *, is_nested: bool = False, zone: tzinfo = UTC) -> Iterator[Entry]:
    """Sources in a list, each with its line number.

    A `.csv` has a column `source`, and may have `camera` and `start` (ISO 8601); in other text
    every line is a source, except empty lines and those that start with `#`.

    Args:
        path: File that holds the list.
        zone: Time zone of starts without an offset.
        is_nested: Whether another list names it. It must then have the suffix of a list; otherwise
            a list could copy any readable file into OUT, line by line.

    Raises:
        VideoError: `unsupported_format` if it is not a regular file (or, if the user named it, a
            pipe), too large, not UTF-8, or nested and without the suffix of a list.
        RunError: If a `.csv` that the user named has no column `source`, or a start in any `.csv`
            is no time.
        OSError: If it cannot be read.
    """
    if is_nested and path.suffix.lower() not in LIST_SUFFIXES:
        raise _unsupported(f"{path}: a list that another one names ends in .txt or .csv")
    try:
        text = _read(path, may_wait=not is_nested).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _unsupported(f"{path}: not a list in UTF-8 text") from error
    if path.suffix.lower() == ".csv":
        try:
            yield from _read_csv(path, text, zone, is_private=is_nested)
        except _NoColumnError as error:  # its message quotes the first line
            if not is_nested:
                raise
            raise _unsupported(f"{path}: no column `source`") from error
        return
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield Entry(number, entry)


class _NoColumnError(RunError):
    """A `.csv` without a column `source`."""


def _read_csv(path: Path, text: str, zone: tzinfo, *, is_private: bool) -> Iterator[Entry]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = reader.fieldnames or ()
        if "source" not in names:
            got = textwrap.shorten(", ".join(names), 100) or "none"
            raise _NoColumnError(
                f"{path}: got columns {got}, expected a column `source`", ExitCode.REFUSED
            )
        for row in reader:
            if entry := (row["source"] or "").strip():
                camera = unicodedata.normalize("NFC", (row.get("camera") or "").strip())
                text = (row.get("start") or "").strip()
                shown = "a text" if is_private else repr(textwrap.shorten(text, 40))
                where = f"{path}, line {reader.line_num}"
                start = _start(text, zone, where, shown) if text else None
                yield Entry(reader.line_num, entry, camera or None, start)
    except csv.Error as error:
        raise _unsupported(f"{path}: no CSV ({error})") from error


def _start(text: str, zone: tzinfo, where: str, shown: str) -> datetime:
    try:
        return to_utc(datetime.fromisoformat(text), zone)
    except (ValueError, OverflowError):
        raise RunError(
            f"{where}: start: got {shown}, expected ISO 8601, such as 2024-05-01T09:30:00+02:00",
            ExitCode.REFUSED,
        ) from None


def _read(path: Path, *, may_wait: bool) -> bytes:
    """Content of a regular file, or of a pipe (`@<(command)`) if the user named it."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise _unsupported(f"{path}: a folder, no list; it is searched if named without the @")
    if not (stat.S_ISREG(mode) or (may_wait and stat.S_ISFIFO(mode))):
        raise _unsupported(f"{path}: no regular file, thus no list")
    # the file may have been replaced by a pipe, and opening a pipe waits for a writer
    number = os.open(path, os.O_RDONLY | (0 if stat.S_ISFIFO(mode) else os.O_NONBLOCK))
    with os.fdopen(number, "rb") as file:
        if stat.S_IFMT(os.fstat(number).st_mode) != stat.S_IFMT(mode):
            raise _unsupported(f"{path}: it was replaced while it was opened")
        content = file.read(MOST_LIST_BYTES + 1)
    if len(content) > MOST_LIST_BYTES:
        limit = MOST_LIST_BYTES >> 20
        raise _unsupported(f"{path}: larger than the {limit} MiB that a list may have")
    return content


def _unsupported(detail: str) -> VideoError:
    return VideoError(Reason.UNSUPPORTED_FORMAT, detail)
