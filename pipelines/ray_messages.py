"""What Ray says, and where: users read our messages, Ray's own are for its log files and ours.

`cluster.connected` calls these functions around the start of Ray.
"""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from jde_ray.pipelines.errors import one_line

logger = logging.getLogger(__name__)

# The level is that of Ray's C++ code, which reports as an error that Ray Data's own actors have
# arguments in the object store.
_FEW = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


def expect_few() -> None:
    """Tell a Ray that is imported later to say little; the user's own environment wins."""
    for name, value in _FEW.items():
        os.environ.setdefault(name, value)


def silence_loggers() -> None:
    """Keep Ray's Python code to errors, and let it advise nobody on the size of small runs."""
    for name in ("ray.data", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for handler in logging.getLogger("ray.data").handlers:
        if type(handler).__name__ == "PlainRayHandler":  # tracebacks remain in Ray's log file
            handler.setLevel(logging.CRITICAL)
    # a run of one chunk leaves workers idle; users can do nothing about that
    for kind in ("minimum number of concurrent actors", "maximum number of concurrent tasks"):
        warnings.filterwarnings("ignore", message=f"The {kind}")


@contextmanager
def without_stderr() -> Iterator[None]:
    """Hide the message of Ray's C++ code about its own log level from the terminal."""
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


@contextmanager
def logged() -> Iterator[None]:
    """Log what Ray says of workers and nodes that died: a sentence each, the rest for log files.

    Ray prints it on standard output, among the events of `--progress json`, with pages of its own
    logs, also if the user asks for errors only.
    """
    worker: Any = import_module("ray._private.worker")
    printed = worker.print_to_stdstream

    def log(data: Mapping[str, Any], **_options: Any) -> None:
        for said in data["lines"]:
            first, _, rest = one_line(said).partition(". ")
            logger.warning("Ray: %s", first.removesuffix("."))
            if rest:
                logger.info("Ray: %s", rest)

    worker.print_to_stdstream = log
    try:
        yield
    finally:
        worker.print_to_stdstream = printed
