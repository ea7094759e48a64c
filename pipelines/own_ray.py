"""The processes of a Ray that this process started: watched, and ended when it falls.

Without its raylet or its control process (gcs) Ray waits for up to a minute, ends this process
without a word, and leaves agents behind. So somebody looks after them every half second.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.processes import started_at, sweep

SPOOL_PREFIX = "jde-associate-"  # of the association actors' folders in the temporary folder
_VITAL = {"gcs_server": "its control process (gcs)", "raylet": "its raylet"}
_LOOK_S, _LOOK_AT_ALL = 0.5, 2  # all descendants every so many looks
_PATIENCE_S = 5.0  # for processes that were told to end

Process = tuple[int, int]  # number and start, since numbers are given out again


@contextmanager
def watched(before: set[Process]) -> Iterator[None]:
    """End this process with one line if the Ray that it has started falls.

    Args:
        before: Children of this process before it started Ray.
    """
    own = _children(os.getpid()) - before
    vital = {process: _VITAL[name] for process in own if (name := _name(process)) in _VITAL}
    is_over = threading.Event()
    thread = threading.Thread(
        target=_watch, args=(own, vital, is_over), name="jde-own-ray", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def children() -> set[Process]:
    """Of this process, now."""
    return _children(os.getpid())


def _watch(own: set[Process], vital: dict[Process, str], is_over: threading.Event) -> None:
    family, number = set(own), 0
    while not is_over.wait(_LOOK_S):
        fallen = [process for process in vital if not _is_alive(process)]
        if fallen and not is_over.is_set():
            _give_up(vital[fallen[0]], family)
        if number % _LOOK_AT_ALL == 0:  # an orphan is no descendant any more: remember it before
            family = {process for process in family if _is_alive(process)} | _descendants(own)
        number += 1


def _give_up(what: str, family: set[Process]) -> None:
    """Say why, end the family, and this process with it: Ray would, in a while, without a word."""
    line = f"jde: error: Ray has ended: {what} was killed or crashed; the same command goes on"
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a bar may have hidden it
    with suppress(OSError, ValueError):
        sys.stdout.flush()
        os.write(2, f"{show_cursor}{line}\n".encode())
    end(family)
    sweep(Path(tempfile.gettempdir()), SPOOL_PREFIX)
    os._exit(ExitCode.INTERNAL)


def end(family: set[Process]) -> None:
    """Kill these processes and what they have started, and wait for their ends."""
    family = family | _descendants(family)
    deadline = time.monotonic() + _PATIENCE_S
    while (left := {process for process in family if _is_alive(process)}) and (
        time.monotonic() < deadline
    ):
        for pid, _ in left:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _descendants(ancestors: set[Process]) -> set[Process]:
    found: set[Process] = set()
    new = {process for process in ancestors if _is_alive(process)}
    while new:
        new = set().union(*(_children(pid) for pid, _ in new)) - found
        found |= new
    return found


def _children(pid: int) -> set[Process]:
    found = set()
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            for child in map(int, path.read_text().split()):
                if (start := started_at(child)) is not None:
                    found.add((child, start))
    return found


def _is_alive(process: Process) -> bool:
    return started_at(process[0]) == process[1]


def _name(process: Process) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process[0]}/comm").read_text().strip()
    return ""
