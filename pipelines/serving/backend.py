"""What is behind the service's limits: detectors and sessions, wherever they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.metrics import Changes, Metrics
from jde_ray.pipelines.serving.streams.stream import Answer


@dataclass(frozen=True)
class Found:
    """What a detector says of one frame.

    Attributes:
        detections: In source pixels.
        seconds: Time of the frame's batch in the network.
    """

    detections: Detections
    seconds: float


class Backend(Protocol):
    """Detectors and sessions, wherever they run. All calls may raise `Refusal`."""

    async def detect(self, frame: NetworkFrame) -> Found:
        """Detections of one frame."""
        ...

    async def open(self, owner: str, frames_per_second: float) -> str:
        """Begin a stream; gives its id."""
        ...

    async def expected(self, stream: str, owner: str) -> int:
        """Number of the frame that a stream goes on with."""
        ...

    async def repeated(self, stream: str, owner: str, seq: int) -> Answer | None:
        """The first answer to a frame sent again, None if the frame is the next one."""
        ...

    async def track(
        self,
        stream: str,
        owner: str,
        seq: int,
        time_s: float | None,
        size: tuple[int, int],
        found: Detections,
    ) -> Answer:
        """Tracks of the next frame."""
        ...

    async def end(self, stream: str, owner: str) -> None:
        """End a stream."""
        ...

    async def count(self, owner: str) -> int:
        """Open streams of a token."""
        ...

    async def check_ready(self) -> None:
        """Raise `unavailable` unless a frame could be answered now."""
        ...

    async def push(self, changes: Changes) -> None:
        """Hand counts on."""
        ...

    async def merge(self, changes: Changes) -> tuple[Metrics, dict[str, float]]:
        """Hand counts on; gives the sums over all replicas, and gauges of the sessions."""
        ...
