"""The service's interface to detectors and sessions, local or remote."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.metrics import Changes, Metrics
from jde_ray.pipelines.serving.streams.operations import Operation, Result


@dataclass(frozen=True)
class TimedDetections:
    """The detections of one frame, and how long they took.

    Attributes:
        detections: People found, in source pixels.
        seconds: Time that the network took for the frame's batch.
    """

    detections: Detections
    seconds: float


class Backend(Protocol):
    """Detectors and sessions. All calls may raise `Refusal`."""

    async def detect(self, frame: NetworkFrame) -> TimedDetections:
        """Find the people in one frame."""
        ...

    async def send(self, session: int, operation: Operation[Result]) -> Result:
        """Have a session execute an operation.

        Args:
            session: Number of the session.
            operation: The operation.
        """
        ...

    async def check_ready(self) -> None:
        """Raise `unavailable` unless a frame could be answered now."""
        ...

    async def count_detectors(self) -> int | None:
        """Number of detectors that run; None if that is not known now."""
        ...

    async def push(self, changes: Changes) -> None:
        """Add counts to the sums over all ingresses."""
        ...

    async def merge(self, changes: Changes) -> Metrics:
        """Add counts to the sums over all ingresses, and return the sums."""
        ...
