"""What must outlive sessions and ingresses: snapshots of streams, and sums of counts."""

from __future__ import annotations

import time
from collections import OrderedDict

from jde_ray.pipelines.serving.metrics import Changes, Metrics


class SnapshotActor:
    """Memory beside the sessions. If it is lost too, snapshots come anew with the next frames.

    Args:
        lasts_s: After which a snapshot that nobody has replaced is dropped.
    """

    def __init__(self, lasts_s: float) -> None:
        self._lasts_s = lasts_s
        self._snapshots: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._metrics = Metrics()

    async def put(self, name: str, content: bytes) -> None:
        """Replace a snapshot, and drop those that nobody has replaced for long."""
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
        """Forget a stream."""
        self._snapshots.pop(name, None)

    async def add(self, changes: Changes) -> None:
        """Take in counts of an ingress."""
        self._metrics.add(changes)

    async def sums(self, changes: Changes) -> Metrics:
        """Take in counts, and give the sums over all ingresses."""
        self._metrics.add(changes)
        return self._metrics
