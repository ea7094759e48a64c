"""The Ray under a run: started or joined, measured, and left as it was found."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import ray

from pipelines.config import ResourceConfig
from pipelines.errors import ExitCode, RunError

# A user reads our lines, not Ray's. The level is that of its C++ part, which calls it an error that
# Ray Data's own actors have arguments in the object store.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM; what is committed stays, the rest can be resumed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        terminated = number == signal.SIGTERM
        self.exit_code = ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED


@dataclass(frozen=True, kw_only=True)
class Pools:
    """How many workers of each kind, and what each of them asks of Ray."""

    num_detectors: int
    detector_cpus: float
    detector_gpus: float
    num_decoders: int | None
    decoder_cpus: float
    num_shards: int


def size_pools(resources: ResourceConfig, cluster: Mapping[str, float] | None = None) -> Pools:
    """Fit the pools to a cluster.

    Args:
        resources: What the user asked for; None means what fits.
        cluster: Total `CPU` and `GPU`; None asks the Ray that is connected.

    Raises:
        RunError: If a GPU is asked for and there is none.
    """
    if cluster is None:
        cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    if resources.device == "cuda" and not gpus:
        raise RunError("device: got cuda, but this Ray has no GPU; use cpu", ExitCode.REFUSED)
    on_gpu = gpus > 0 and resources.device != "cpu"
    if on_gpu:
        fitting = max(1, int(gpus / resources.gpus_per_detector))
    else:  # a frame costs a CPU about ten times as much to detect as to decode
        fitting = max(1, round(0.85 * cpus / resources.torch_threads))
    num_detectors = resources.num_detectors or fitting
    # a machine of one core is shared by halves: neither stage may keep the other from starting
    decoder_cpus = 1.0 if cpus >= 2 else 0.5
    wanted = 1.0 if on_gpu else float(resources.torch_threads)
    share = math.floor(100 * max(cpus - decoder_cpus, 0.1) / num_detectors) / 100
    return Pools(
        num_detectors=num_detectors,
        detector_cpus=max(0.01, min(wanted, share)),
        detector_gpus=resources.gpus_per_detector if on_gpu else 0.0,
        num_decoders=resources.num_decoders,
        decoder_cpus=decoder_cpus,
        num_shards=resources.num_associators or min(16, max(1, int(cpus) // 4)),
    )


@contextmanager
def connected(address: str) -> Iterator[None]:
    """A Ray to run on: the one this process has joined already, else `address`.

    Raises:
        RunError: If there is no Ray at the address.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    for name in ("ray.data", "ray._private.authentication"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # a run of one chunk has detectors to spare, which is nothing a user can act on
    warnings.filterwarnings("ignore", message="The minimum number of concurrent actors")
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
    try:
        with _without_stderr():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise RunError(f"address: no Ray at {address} ({first})", ExitCode.REFUSED) from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _without_stderr() -> Iterator[None]:
    """Keep what Ray's C++ part says about its own log level from the user's terminal."""
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
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` on SIGINT and SIGTERM; in a thread other than the main one do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
