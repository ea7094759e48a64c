"""A watchdog for a Ray that this process started.

If its raylet or its control process (gcs) dies, Ray waits for up to a minute, or ends this process
at once without a message, and leaves agents behind. Therefore a process that outlives this one
watches them: `python -m` this module PROCESS..., each as NUMBER-START. If Ray dies, the watchdog
prints the reason and ends all processes of that Ray.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.processes import (
    Process,
    children,
    descendants,
    end,
    is_alive,
    name_of,
    sweep,
)

SPOOL_PREFIX = "jde-associate-"  # prefix of association shards' temporary folders
_MODULE = "jde_ray.pipelines.own_ray"
_VITAL = {"gcs_server": "its control process (gcs)", "raylet": "its raylet"}
_OVER = b"over"  # tells the watchdog that Ray may end
_FALLEN = 3  # the watchdog's exit code if Ray has died
_LOOK_S, _LOOK_AT_ALL = 0.5, 2  # interval of looks; every second one lists all descendants
_DIED = "the run was killed, or ended by its Ray when that was killed or crashed"


@contextmanager
def watched(before: set[Process]) -> Iterator[None]:
    """End this process with a one-line message if the Ray that it started dies.

    Args:
        before: Children of this process before it started Ray.
    """
    own = children(os.getpid()) - before
    watchdog = subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-m", _MODULE, *(f"{pid}-{start}" for pid, start in sorted(own))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
    )
    thread = threading.Thread(target=_wait, args=(watchdog,), name="jde-own-ray", daemon=True)
    thread.start()
    try:
        yield
    finally:
        assert watchdog.stdin is not None  # noqa: S101 - it is a pipe
        with suppress(BrokenPipeError):  # the watchdog was killed
            watchdog.stdin.write(_OVER)
            watchdog.stdin.close()
        thread.join()


def _wait(watchdog: subprocess.Popen[bytes]) -> None:
    """End this process as soon as the watchdog has ended its Ray."""
    if watchdog.wait() == _FALLEN:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(ExitCode.INTERNAL)


def main() -> int:
    """Watch until standard input is closed or Ray dies."""
    for ignored in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)  # the parent process decides when to end
    own = {_process(text) for text in sys.argv[1:]}
    vital = {process: _VITAL[name] for process in own if (name := name_of(process)) in _VITAL}
    family, looks, fallen = own | descendants(own), 0, None
    while not _is_closed(_LOOK_S) and not fallen:
        looks += 1
        if looks % _LOOK_AT_ALL == 0:  # an orphan is no descendant any more: remember it before
            family = {process for process in family if is_alive(process)} | descendants(own)
        fallen = _fallen(vital)
    if _is_closed(0.0):
        if os.read(0, len(_OVER)) == _OVER:
            return 0
        fallen = None
    # a run that dies takes Ray's processes along, so whether one of them died first is unknown
    _say(f"Ray has ended: {fallen} was killed or crashed" if fallen else _DIED)
    end(family)
    sweep(Path(tempfile.gettempdir()), SPOOL_PREFIX)
    return _FALLEN


def _process(text: str) -> Process:
    pid, _, start = text.partition("-")
    return int(pid), int(start)


def _is_closed(within_s: float) -> bool:
    """Whether the run has said something, or has died; waits for it."""
    return bool(select.select([0], [], [], within_s)[0])


def _fallen(vital: dict[Process, str]) -> str | None:
    """Name of the part of Ray that has ended; None if all are alive."""
    return next((what for process, what in vital.items() if not is_alive(process)), None)


def _say(what: str) -> None:
    line = f"jde: error: {what}; run the same command to continue"
    show_cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a bar may have hidden it
    with suppress(OSError):
        os.write(2, f"{show_cursor}{line}\n".encode())


if __name__ == "__main__":
    sys.exit(main())
