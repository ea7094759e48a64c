"""Reads lists of sources from text files; their content is not trusted."""

from __future__ import annotations

import csv
import io
import os
import stat
import textwrap
from collections.abc import Iterator
from pathlib import Path

from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError

LIST_SUFFIXES = frozenset({".txt", ".csv"})
MOST_LIST_BYTES = 64 << 20  # half a million paths


def read_entries(path: Path, *, is_nested: bool = False) -> Iterator[tuple[int, str]]:
    """Sources in a list, each with its line number.

    A `.csv` has a column `source`; in other text every line is a source, except empty lines and
    those that start with `#`.

    Args:
        path: File that holds the list.
        is_nested: Whether another list names it. It must then have the suffix of a list; otherwise
            a list could copy any readable file into OUT, line by line.

    Raises:
        VideoError: `unsupported_format` if it is not a regular file (or, if the user named it, a
            pipe), too large, not UTF-8, or nested and without the suffix of a list.
        RunError: If a `.csv` that the user named has no column `source`.
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
            yield from _read_csv(path, text)
        except RunError as error:  # its message quotes the first line, which may be private
            if not is_nested:
                raise
            raise _unsupported(f"{path}: no column `source`") from error
        return
    for number, line in enumerate(io.StringIO(text, newline=None), 1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            yield number, entry


def _read_csv(path: Path, text: str) -> Iterator[tuple[int, str]]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    try:
        names = reader.fieldnames or ()
        if "source" not in names:
            got = textwrap.shorten(", ".join(names), 100) or "none"
            raise RunError(
                f"{path}: got columns {got}, expected a column `source`", ExitCode.REFUSED
            )
        for row in reader:
            if entry := (row["source"] or "").strip():
                yield reader.line_num, entry
    except csv.Error as error:
        raise _unsupported(f"{path}: no CSV ({error})") from error


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
