"""Frames per second of networks alone: forms, precisions, batches, with the peak of memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from jde_ray.jobs.bench.configurations import giga_operations
from jde_ray.jobs.bench.gpu.layers import chooser, time_recorded
from jde_ray.jobs.bench.gpu.settings import Bench, build, make_frames, threshold
from jde_ray.jobs.bench.network import peak_bytes, reset_peak

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from jde_ray.models.jde.gpu.runner import Runner
    from jde_ray.models.jde.network import JDE


@dataclass(frozen=True)
class Case:
    """One row.

    Attributes:
        name: Network configuration.
        precision: `bf16` or `fp32`.
        batch: Frames per batch.
        form: `eager` (step by step), `launched` and `graph` (the runner without and with recorded
            graphs), `searched` (a graph, with cuDNN's own search for algorithms), `kernels` (our
            own convolutions), `tuned` (these with the tiles of `layers`).
    """

    name: str
    precision: str
    batch: int
    form: str


_LARGE, _MIDDLE = "darknet53-1088x608", "darknet53-864x480"
CASES = (
    Case(_LARGE, "bf16", 16, "eager"),
    Case(_LARGE, "bf16", 16, "launched"),
    Case(_LARGE, "bf16", 16, "graph"),
    Case(_LARGE, "bf16", 16, "kernels"),
    Case(_LARGE, "bf16", 16, "tuned"),
    Case(_LARGE, "bf16", 32, "tuned"),
    Case(_LARGE, "bf16", 64, "tuned"),
    Case(_LARGE, "bf16", 4, "kernels"),
    Case(_LARGE, "bf16", 1, "kernels"),
    Case(_LARGE, "bf16", 16, "searched"),
    Case(_LARGE, "fp32", 16, "graph"),
    Case(_MIDDLE, "bf16", 32, "kernels"),
    Case("small", "bf16", 16, "eager"),
    Case("small", "bf16", 1, "graph"),
    Case("small", "bf16", 16, "graph"),
    Case("small", "bf16", 64, "graph"),
    Case("small", "fp32", 16, "graph"),
    Case("resnet50-1088x608", "bf16", 16, "graph"),
)
ON_A_CPU = (Case("small", "fp32", 2, "eager"), Case("small", "fp32", 2, "graph"))


def measure(bench: Bench) -> Iterator[dict[str, Any]]:
    """A row per case; a case that fails becomes a row that says so."""
    model: JDE | None = None
    made: tuple[str, str] | None = None
    for case in CASES if bench.is_gpu else ON_A_CPU:
        if model is None or made != (case.name, case.precision):
            model = None  # the next one may need its memory
            model, made = build(bench, case.name, case.precision), (case.name, case.precision)
        try:
            yield measure_case(bench, case, model)
        except Exception as error:  # noqa: BLE001  the other rows are worth having
            yield vars(case) | {"failed": f"{type(error).__name__}: {error}"[:500]}


def measure_case(bench: Bench, case: Case, model: JDE) -> dict[str, Any]:
    """The row of a case."""
    import torch

    frames = make_frames(bench, case.name, case.batch)
    level = threshold(model, frames[:16])
    if bench.is_gpu:
        torch.cuda.empty_cache()
    torch.backends.cudnn.benchmark = case.form == "searched"
    reset_peak(bench.device)
    row: dict[str, Any] = vars(case) | {"candidates_score": level}
    if case.form == "eager":
        pixels = torch.from_numpy(frames)
        seconds = bench.time(lambda: model.detect(pixels, level), 5)
    else:
        runner = _runner(bench, case, model, level)
        seconds = stream(bench, runner, frames)
        row |= alone(bench, case, model, level)
    torch.backends.cudnn.benchmark = False
    gflop = giga_operations(case.name)
    rate = case.batch / seconds
    limit = bench.limits.get(case.precision, float("nan"))
    return row | {
        "frames_per_second": rate,
        "gflop_a_frame": gflop,
        "share_of_limit": rate * gflop / limit,
        "peak_mib": peak_bytes(bench.device) / 2**20,
    }


def _runner(bench: Bench, case: Case, model: JDE, level: float) -> Runner:
    from jde_ray.models.jde.gpu.building import open_runner
    from jde_ray.models.jde.gpu.selection import Limits

    own = case.form in ("kernels", "tuned")
    choose = chooser(bench) if case.form == "tuned" and bench.is_gpu else None
    limits = Limits(level, 0.4, 300)
    graphs = case.form != "launched"
    return open_runner(model, limits, (case.batch,), kernels=own, graphs=graphs, choose=choose)


def stream(bench: Bench, runner: Runner, frames: NDArray[np.uint8]) -> float:
    """Seconds per batch, from bytes on the host to detections there, two batches in flight."""
    runner.detect(frames)
    waiting = deque([runner.submit([frames]), runner.submit([frames])])
    count, started = 0, perf_counter()
    while count < 5 or perf_counter() < started + bench.seconds:
        waiting.popleft().result()
        waiting.append(runner.submit([frames]))
        count += 1
        if not bench.is_gpu:
            break
    seconds = (perf_counter() - started) / count
    for pending in waiting:
        pending.result()
    return seconds


def alone(bench: Bench, case: Case, model: JDE, level: float) -> dict[str, Any]:
    """Milliseconds on the device of the network, and of the selection behind it."""
    import torch

    from jde_ray.models.jde.gpu.building import convolutions, plain
    from jde_ray.models.jde.gpu.padded_network import PaddedWeights
    from jde_ray.models.jde.gpu.selection import Limits, Selection

    weight = next(model.parameters())
    size = bench.size(case.name)
    tuned = case.form == "tuned" and bench.is_gpu
    work = convolutions(weight.device, chooser(bench) if tuned else None)
    network: Any = plain(model)
    if case.form in ("kernels", "tuned"):
        network = PaddedWeights(model, work, weight.dtype).build(case.batch, *size)
    pixels = torch.from_numpy(make_frames(bench, case.name, case.batch)).to(weight.device)
    selection = Selection(model.config, size, Limits(level, 0.4, 300), work, weight.device)
    with torch.inference_mode():
        seconds = time_recorded(bench, lambda: network(pixels), 2)
        both = time_recorded(bench, lambda: selection(network(pixels)), 2)
    return {"network_ms": 1000 * seconds, "selection_ms": 1000 * (both - seconds)}
