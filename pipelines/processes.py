"""Processes of this machine: their descendants, and marks in the names of their temporary files.

A killed process leaves temporary files behind; their marks let a later process remove them. A mark
holds the machine (this boot, this container), the process number and, since numbers are reused,
the start of the process.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import socket
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

_PROC = Path("/proc")
_MARK = re.compile(r"([0-9a-f]{8})-(\d+)-(\d+)(?=-|$)")
_FOREIGN_S = 7 * 86_400.0  # files of other machines count as left behind after this time
_PATIENCE_S = 5.0  # longest wait for killed processes to end

Process = tuple[int, int]  # number and start


def mark() -> str:
    """Mark of this process, for file names: machine, number, start."""
    pid = os.getpid()
    return f"{_machine()}-{pid}-{started_at(pid) or 0}"


def started_at(pid: int) -> int | None:
    """Start of a process of this machine, in ticks since the boot; None if it has ended."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()  # the process name before ")" may contain anything
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(process: Process) -> bool:
    """Whether the process is still running."""
    return started_at(process[0]) == process[1]


def name_of(process: Process) -> str:
    """Name of the process, at most 15 characters; empty if it has ended."""
    with suppress(OSError):
        return (_PROC / str(process[0]) / "comm").read_text().strip()
    return ""


def children(pid: int) -> set[Process]:
    """The living children of a process."""
    found = set()
    for path in (_PROC / str(pid) / "task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                if (start := started_at(child)) is not None:
                    found.add((child, start))
    return found


def descendants(ancestors: set[Process]) -> set[Process]:
    """The living children of these processes, their children, and so on."""
    found: set[Process] = set()
    new = {process for process in ancestors if is_alive(process)}
    while new:
        new = set().union(*(children(pid) for pid, _ in new)) - found
        found |= new
    return found


def end(family: set[Process]) -> None:
    """Kill these processes and their descendants, and wait until they have ended."""
    family = family | descendants(family)
    deadline = time.monotonic() + _PATIENCE_S
    while (left := {process for process in family if is_alive(process)}) and (
        time.monotonic() < deadline
    ):
        for pid, _ in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def is_left(path: Path, prefix: str) -> bool:
    """Whether a file or folder, named `prefix` + `mark()` + anything, was left by a dead process.

    If its process cannot be checked (another machine that shares the folder, another container, a
    name without a mark), it counts as left once it has not changed for a week.
    """
    found = _MARK.match(path.name.removeprefix(prefix))
    if found is not None and found[1] == _machine() and _PROC.is_dir():
        return started_at(int(found[2])) != int(found[3])
    try:
        return time.time() - _last_change(path) > _FOREIGN_S
    except OSError:  # removed in the meantime
        return False


def sweep(folder: Path, prefix: str) -> int:
    """Remove files and folders of dead processes from `folder` whose names start with `prefix`.

    Returns:
        Number of files and folders removed; those of other users stay.
    """
    num_removed = 0
    for path in folder.glob(f"{prefix}*"):
        if not is_left(path, prefix):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            try:
                path.unlink(missing_ok=True)
            except OSError:
                continue
        num_removed += not path.exists()
    return num_removed


def _last_change(path: Path) -> float:
    """Time of the last change to a file, or to anything in a folder."""
    inside = path.rglob("*") if path.is_dir() else ()
    return float(max(one.lstat().st_mtime for one in (path, *inside)))


@cache
def _machine() -> str:
    """8 hex digits that identify this boot of this container, for which process numbers hold."""
    parts = [socket.gethostname()]
    try:
        parts.append((_PROC / "sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    except OSError:
        pass
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
