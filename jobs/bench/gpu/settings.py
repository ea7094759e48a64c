"""What all sections share: the device, the size of the work, the machine's limits, a timer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

    from jde_ray.models.jde.network import JDE

CANDIDATES = 50  # boxes per frame above the threshold


@dataclass
class Bench:
    """Settings and what the sections before have measured.

    Attributes:
        device: `cuda`, or `cpu` to try the command: tiny frames, and figures that say nothing.
        seconds: Time of each measurement.
        limits: GFLOP/s of a large matrix product by precision.
        tiles: Best tile by layer, once `layers` has run; see `layers.key_of`.
    """

    device: str
    seconds: float = 1.0
    limits: dict[str, float] = field(default_factory=dict)
    tiles: dict[str, Any] = field(default_factory=dict)

    @property
    def is_gpu(self) -> bool:
        """Whether figures mean anything."""
        return self.device == "cuda"

    def size(self, name: str) -> tuple[int, int]:
        """Height and width of the frames of a configuration."""
        from jde_ray.models.jde.config import CONFIGURATIONS

        width, height = CONFIGURATIONS[name].size
        return (height, width) if self.is_gpu else (64, 96)

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            import torch

            torch.cuda.synchronize()

    def time(self, work: Callable[[], object], repeats: int = 10) -> float:
        """Seconds of one call: the median of some runs of `repeats` calls each, after two."""
        repeats = repeats if self.is_gpu else 1
        for _ in range(2):
            work()
        self.synchronise()
        times: list[float] = []
        until = perf_counter() + self.seconds
        while len(times) < 3 or perf_counter() < until:
            started = perf_counter()
            for _ in range(repeats):
                work()
            self.synchronise()
            times.append((perf_counter() - started) / repeats)
            if not self.is_gpu:  # once is enough to try the command
                break
        return median(times)


def random_network(bench: Bench, name: str) -> JDE:
    """A network with random weights whose scores and boxes differ from cell to cell."""
    import torch

    from jde_ray.models.jde.config import CONFIGURATIONS
    from jde_ray.models.jde.network import JDE

    torch.manual_seed(0)
    with torch.device(bench.device):
        model = JDE(CONFIGURATIONS[name]).eval()
        with torch.no_grad():
            for head in model.heads:
                cast("torch.nn.Conv2d", head.box).weight.normal_(std=0.05)
    return model.to(bench.device)


def build(bench: Bench, name: str, precision: str, *, compiled: bool = False) -> JDE:
    """A random network, prepared for inference."""
    from jde_ray.models.jde.fusion import optimise

    return optimise(random_network(bench, name), cast("Any", precision), compiled=compiled)


def make_frames(bench: Bench, name: str, count: int, seed: int = 0) -> NDArray[np.uint8]:
    """`(count, H, W, 3)` random frames."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, *bench.size(name), 3), dtype=np.uint8)


def threshold(model: JDE, frames: NDArray[np.uint8]) -> float:
    """A score that about `CANDIDATES` boxes per frame exceed."""
    import torch

    with torch.inference_mode():
        pixels = torch.from_numpy(frames).to(next(model.parameters()).device)
        scores = model(model.normalise(pixels)).scores.flatten()
        place = min(CANDIDATES * len(frames), len(scores) // 4)
        return float(scores.topk(place + 1).values[-1])
