"""Measures networks for `jde bench network`: speed, share of the machine's limit, memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Literal

from rich.table import Table

from jde_ray.jobs.bench.configurations import REID, build, giga_operations
from jde_ray.pipelines.torch_setup import set_up_torch

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


LIMIT_SECONDS = 1.5  # a shorter probe is often too low on a busy machine
CANDIDATES = 50  # boxes per frame that reach NMS and the embedding gather
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "int8": "float32"}  # name -> name in torch


@dataclass(frozen=True, kw_only=True)
class NetworkBench:
    """Networks to measure, and the settings of the measurement.

    Attributes:
        names: Names of network configurations.
        batches: Batch sizes.
        precisions: Keys of `PRECISIONS`.
        device: Device that the networks run on.
        threads: Threads of torch on the CPU.
        seconds: Time for each row, after a warm-up run; at least one run is timed.
        compiled: Run through `torch.compile`.
        graphs: Run through `models.jde.gpu.runner.Runner` (only on a GPU).
    """

    names: tuple[str, ...]
    batches: tuple[int, ...]
    precisions: tuple[str, ...]
    device: Literal["cpu", "cuda"]
    threads: int
    seconds: float = 3.0
    compiled: bool = False
    graphs: bool = False

    def rows(self) -> Iterator[dict[str, Any]]:
        """Measure and yield one row per network, precision and batch size."""
        set_up_torch(self.threads)
        limits = {p: matrix_product_limit(self.device, p) for p in self.precisions}
        for name, precision in product(self.names, self.precisions):
            if precision == "int8" and not _is_quantised(name, self.device):
                continue
            model = _build(name, precision, self)
            for batch in self.batches:
                yield _measure(self, model, batch, precision, limits[precision])
            del model


def _is_quantised(name: str, device: str) -> bool:
    from jde_ray.models.jde import int8

    try:
        return device == "cpu" and int8.find(name).is_file() and find_spec("openvino") is not None
    except ValueError:
        return False


def _build(name: str, precision: str, bench: NetworkBench) -> Any:
    if precision == "int8":
        from jde_ray.models.jde import int8

        return int8.Int8JDE(int8.find(name), bench.threads)
    return build(name, precision, bench.device, compiled=bench.compiled)


@dataclass(frozen=True)
class _Runs:
    seconds: float
    peak_bytes: int


def _measure(
    bench: NetworkBench, model: Any, batch: int, precision: str, limit: float
) -> dict[str, Any]:
    """Best time of one batch from uint8 frames on the host to detections, or vectors, there."""
    import torch

    width, height = model.config.size
    generator = torch.Generator().manual_seed(0)
    shape = (batch, height, width, 3)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    threshold = _threshold(model, frames)
    runs = _time(bench, _call(bench, model, frames, threshold))
    gflop = giga_operations(model.config.name)
    per_second = batch / runs.seconds
    return {
        "configuration": model.config.name,
        "batch": batch,
        "precision": precision,
        "ms": 1000 * runs.seconds,
        "frames_per_second": per_second,
        "gflop_a_frame": gflop,
        "limit_gflop_per_second": limit,
        "share_of_limit": per_second * gflop / limit,
        "peak_mib": runs.peak_bytes / 2**20,
    }


def _threshold(model: Any, frames: torch.Tensor) -> float:
    """A score that about `CANDIDATES` boxes per frame exceed; random weights find no people."""
    import torch

    if model.config.name in REID:
        return 0.0
    with torch.inference_mode():
        if isinstance(model, torch.nn.Module):
            network: Any = model
            scores = network(network.normalise(frames)).scores.flatten()
        else:
            scores = torch.cat([model.candidates(frame.numpy()).scores[0] for frame in frames])
        return float(scores.topk(CANDIDATES * len(frames) + 1).values[-1])


def _call(
    bench: NetworkBench, model: Any, frames: torch.Tensor, threshold: float
) -> Callable[[int], None]:
    """A function that runs detection on the same batch the given number of times."""
    import torch

    if model.config.name in REID:
        return _call_reid(model, frames)
    if not isinstance(model, torch.nn.Module):
        pixels = frames.numpy()

        def repeat_int8(times: int) -> None:
            for _ in range(times):
                model.detect(pixels, threshold)

        return repeat_int8

    if bench.graphs:
        return _stream(model, frames.numpy(), threshold)
    network: Any = model

    def repeat(times: int) -> None:
        for _ in range(times):
            network.detect(frames, threshold)

    return repeat


def _stream(model: Any, frames: NDArray[np.uint8], threshold: float) -> Callable[[int], None]:
    """The same through the GPU's runner, with two batches in flight."""
    from jde_ray.models.jde.gpu.building import open_runner
    from jde_ray.models.jde.gpu.selection import Limits

    runner = open_runner(model, Limits(threshold), (len(frames),))

    def repeat(times: int) -> None:
        before = None
        for _ in range(times):
            pending = runner.submit([frames])
            if before is not None:
                before.result()
            before = pending
        if before is not None:
            before.result()

    return repeat


def _call_reid(model: Any, crops: torch.Tensor) -> Callable[[int], None]:
    import torch

    weight = next(model.parameters())

    @torch.inference_mode()
    def repeat(times: int) -> None:
        for _ in range(times):
            pixels = crops.to(weight.device).permute(0, 3, 1, 2).float() / 255
            model(pixels.to(weight.dtype)).cpu()

    return repeat


def _time(bench: NetworkBench, call: Callable[[int], None]) -> _Runs:
    """Seconds per batch in the best run, and peak memory.

    On a GPU a run is ten batches, which overlap if the runner overlaps them.
    """
    times = 10 if bench.device == "cuda" else 1
    call(times)
    reset_peak(bench.device)
    best, until = float("inf"), perf_counter() + bench.seconds
    while best == float("inf") or perf_counter() < until:
        started = perf_counter()
        call(times)  # ends with a copy to the host, which waits for the device
        best = min(best, (perf_counter() - started) / times)
    return _Runs(best, peak_bytes(bench.device))


def matrix_product_limit(device: str, precision: str) -> float:
    """GFLOP/s of a large matrix product: the practical limit of this machine right now."""
    import torch

    side = 8192 if device == "cuda" else 2048
    kind = getattr(torch, PRECISIONS[precision])
    a, b = (torch.ones(side, side, dtype=kind, device=device) for _ in range(2))
    best, until = float("inf"), perf_counter() + LIMIT_SECONDS
    while perf_counter() < until:
        started = perf_counter()
        (a @ b)[0, 0].item()  # waits for the device
        best = min(best, perf_counter() - started)
    return 2 * side**3 / best / 1e9


def reset_peak(device: str) -> None:
    """Reset the peak memory counter."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # not Linux, or not permitted; the peak then covers the process so far
        return


def peak_bytes(device: str) -> int:
    """Highest memory since `reset_peak`: of the GPU's tensors, or of the process."""
    if device == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def build_table(report: dict[str, Any]) -> Table:
    """Format the measured rows as a table."""
    table = Table(
        title=f"Network, {report['device']}, {report['threads']} CPU threads",
        caption="Best run, uint8 frames to detections, about 50 candidates per frame; of reid-..., "
        "crops to vectors. limit: a large matrix product in the same precision (int8: fp32) and "
        "run. memory: process, or GPU.",
    )
    for precision in report.get("left_out", ()):
        table.caption = f"{table.caption}\n{precision}: left out, this machine would emulate it."
    table.add_column("configuration", no_wrap=True)
    figures = ("ms/batch", "frames/s", "GFLOP/frame", "limit GFLOP/s", "% of limit", "peak MiB")
    for column in ("batch", "type", *figures):
        table.add_column(column, justify="right")
    for row in report["rows"]:
        table.add_row(
            row["configuration"],
            str(row["batch"]),
            row["precision"],
            f"{row['ms']:.1f}",
            f"{row['frames_per_second']:.2f}",
            f"{row['gflop_a_frame']:.1f}",
            f"{row['limit_gflop_per_second']:.0f}",
            f"{100 * row['share_of_limit']:.0f}",
            f"{row['peak_mib']:.0f}",
        )
    return table
