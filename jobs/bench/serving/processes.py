"""Measures and kills the service's processes from outside, for `jde bench serve`."""

from __future__ import annotations

import http.client
import itertools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def holdings(port: int) -> dict[str, float]:
    """Private memory (MiB), file descriptors, shared memory (MiB) and streams of the service."""
    places = _service_processes()
    pages = os.statvfs("/dev/shm")  # noqa: S108 - Ray's object store
    return {
        "memory_mib": sum(map(_private_mib, places)),
        "descriptors": sum(len(os.listdir(at / "fd")) for at in places),
        "shared_mib": (pages.f_blocks - pages.f_bfree) * pages.f_frsize / 2**20,
        "streams": _gauge(port, "jde_streams"),
    }


def growth(rows: list[dict[str, Any]], name: str, minutes: float) -> float:
    """Growth of a figure per minute, by a line fitted to the second half of equal parts."""
    half = [row[name] for row in rows[len(rows) // 2 :]]
    if len(half) < 2:
        return 0.0
    at = np.arange(len(half)) * minutes / len(rows)
    return float(np.polyfit(at, half, 1)[0])


@contextmanager
def killing(every_s: float) -> Iterator[None]:
    """Kill a detector, a session or an ingress every `every_s` seconds while the block runs."""
    import ray

    stop = threading.Event()

    def kill() -> None:
        for turn, kind in enumerate(itertools.cycle(("detectors", "sessions-0", "ingress"))):
            if stop.wait(every_s):
                return
            names = sorted(
                found["name"]
                for found in ray.util.list_named_actors(all_namespaces=True)
                if f"#{kind}" in found["name"]
            )
            if names:
                ray.kill(ray.get_actor(names[turn % len(names)], namespace="serve"))

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _service_processes() -> list[Path]:
    """`/proc` folders of replicas, proxy and controller started by this process."""
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, _, state = (folder / "stat").read_text().rpartition(")")
        except OSError:
            continue  # it has ended in the meantime
        parents[int(folder.name)] = (int(state.split()[1]), name.partition("(")[2])
    found = []
    for pid, (_, name) in parents.items():
        above = pid
        while above > 1 and above != os.getpid():
            above = parents.get(above, (0, ""))[0]
        if above == os.getpid() and name.startswith(("ray::Serve", "ray::Proxy")):
            found.append(Path("/proc") / str(pid))
    return found


def _private_mib(at: Path) -> float:
    """Anonymous memory of a process in MiB, so without files and the object store."""
    lines = (at / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024


def _gauge(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith(name + " "))
