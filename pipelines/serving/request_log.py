"""A log with one flat line of JSON per call, on standard error or in a file.

A thread writes the lines one by one, so that a slow disk or terminal delays no call. Messages of
the program itself go to Ray's log of the replica.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import queue
import threading
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("ray.serve")

NONE, STDERR = "none", "stderr"
_MOST_WAITING = 20_000  # lines; while the reader stands still, further ones are only counted


class RequestLog:
    """Writes the lines of one ingress.

    Args:
        where: `stderr`, `none`, or the path of a file or named pipe, which is appended to.

    Raises:
        ValueError: If the file cannot be written.
    """

    def __init__(self, where: str = NONE) -> None:
        self._lines: queue.Queue[bytes | None] = queue.Queue(_MOST_WAITING)
        self._num_left_out = 0
        self._thread: threading.Thread | None = None
        if where == NONE:
            return
        try:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._file = os.dup(2) if where == STDERR else os.open(where, flags, 0o640)
        except OSError as error:
            reason = error.strerror or "it cannot be opened"
            raise ValueError(f"request_log: {where} cannot be written ({reason})") from error
        self._thread = threading.Thread(target=self._write, name="request-log", daemon=True)
        self._thread.start()

    def add(self, values: dict[str, Any]) -> None:
        """Write a line: the time, and these values."""
        if self._thread is None:
            return
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._num_left_out:
            values = {**values, "lines_left_out": self._num_left_out}
        line = json.dumps({"time": now, **values}).encode() + b"\n"
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._num_left_out += 1
        else:
            self._num_left_out = 0

    def close(self, within_s: float = 5.0) -> None:
        """Return when every line is written, or after `within_s` seconds."""
        if self._thread is not None:
            with contextlib.suppress(queue.Full):
                self._lines.put(None, timeout=within_s)
            self._thread.join(within_s)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                while line:
                    line = line[os.write(self._file, line) :]
            except OSError as error:
                logger.warning("a line of the request log is lost: %s", error)
        os.close(self._file)
