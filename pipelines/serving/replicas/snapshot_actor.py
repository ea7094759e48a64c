"""The actor that outlives sessions and ingresses: snapshots of streams, and sums of counts."""

from __future__ import annotations

import time
from collections import OrderedDict

from jde_ray.pipelines.serving.metrics import Changes, Metrics
from jde_ray.pipelines.serving.replicas.loopback import stay_on_loopback


class SnapshotActor:
    """Keeps snapshots in memory. If it is lost, the next frames of the streams bring new ones.

    Args:
        lasts_s: Seconds after which a snapshot that was not replaced is dropped.
    """

    def __init__(self, lasts_s: float) -> None:
        stay_on_loopback()
        self._lasts_s = lasts_s
        self._snapshots: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._metrics = Metrics()

    async def put(self, name: str, content: bytes) -> None:
        """Replace a snapshot, and drop those that are too old."""
        now = time.monotonic()
        self._snapshots.pop(name, None)
        self._snapshots[name] = (now, content)
        while self._snapshots:
            oldest = next(iter(self._snapshots))
            if self._snapshots[oldest][0] > now - self._lasts_s:
                break
            del self._snapshots[oldest]

    async def get(self, name: str) -> bytes | None:
        """The newest snapshot of a stream."""
        kept = self._snapshots.get(name)
        return None if kept is None else kept[1]

    async def delete(self, name: str) -> None:
        """Delete a snapshot."""
        self._snapshots.pop(name, None)

    async def add(self, changes: Changes) -> None:
        """Add the counts of an ingress."""
        self._metrics.add(changes)

    async def sums(self, changes: Changes) -> Metrics:
        """Add the counts of an ingress, and return the sums over all ingresses."""
        self._metrics.add(changes)
        return self._metrics
