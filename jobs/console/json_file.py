"""The file of `--json FILE`, or standard output for `-`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

STDOUT = Path("-")


@contextmanager
def printed_beside(path: Path | None) -> Iterator[None]:
    """What the block prints goes to standard error if the JSON goes to standard output."""
    if path != STDOUT:
        yield
        return
    with redirect_stdout(sys.stderr):
        yield


def put_json(path: Path, text: str) -> None:
    """Write a document to a file, or to standard output for `-`.

    Raises:
        OSError: If the file cannot be written.
    """
    if path == STDOUT:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    else:
        path.write_text(f"{text}\n", encoding="utf-8")
