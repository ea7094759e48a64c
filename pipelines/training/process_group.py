"""Communication between the processes that train together, as the training loop uses it."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class ProcessGroup:
    """A group of one process; `DistributedProcessGroup` is the group of several.

    Attributes:
        rank: Number of this process, from 0.
        count: Number of processes.
        device: Device that the network runs on.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.rank, self.count, self.device = 0, 1, torch.device(device)

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module with its gradients averaged over all processes."""
        return module

    def any(self, *flags: bool) -> list[bool]:
        """For each flag, whether it is set in any process."""
        return list(flags)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        return [value]

    def first(self, value: float) -> float:
        """The value of process 0, for values that must be equal in all, such as the clock."""
        return float(self.gather(value)[0])

    def report(self, figures: dict[str, float]) -> None:
        """Show process 0's figures to whoever runs the group; all processes call it together."""
