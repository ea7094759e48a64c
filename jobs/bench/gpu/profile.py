"""Where the device's time goes: the kernels of recorded work, by time."""

from __future__ import annotations

from typing import Any

from jde_ray.jobs.bench.gpu.layers import chooser
from jde_ray.jobs.bench.gpu.settings import Bench, build, make_frames, threshold

CASES = (("darknet53-1088x608", 16, True), ("small", 16, False), ("darknet53-1088x608", 16, False))
_MOST = 14


def measure(bench: Bench) -> dict[str, Any]:
    """Per case the kernels that took most time of one batch, network and selection."""
    cases = CASES if bench.is_gpu else (("small", 1, False),)
    return {
        f"{name}, batch {batch}, {'kernels' if own else 'plain'}": _profile(bench, name, batch, own)
        for name, batch, own in cases
    }


def _profile(bench: Bench, name: str, batch: int, own: bool) -> dict[str, Any]:
    import torch
    from torch.profiler import ProfilerActivity

    from jde_ray.models.jde.gpu.building import convolutions, plain
    from jde_ray.models.jde.gpu.padded_network import PaddedWeights
    from jde_ray.models.jde.gpu.selection import Limits, Selection

    model = build(bench, name, "bf16" if bench.is_gpu else "fp32")
    weight = next(model.parameters())
    frames = make_frames(bench, name, batch)
    work = convolutions(weight.device, chooser(bench) if bench.is_gpu else None)
    network: Any = plain(model)
    if own:
        network = PaddedWeights(model, work, weight.dtype).build(batch, *bench.size(name))
    limits = Limits(threshold(model, frames[:2]), 0.4, 300)
    selection = Selection(model.config, bench.size(name), limits, work, weight.device)
    pixels = torch.from_numpy(frames).to(weight.device)
    with torch.inference_mode():
        for _ in range(2):
            selection(network(pixels))
        bench.synchronise()
        kinds = [ProfilerActivity.CUDA if bench.is_gpu else ProfilerActivity.CPU]
        with torch.profiler.profile(activities=kinds) as profiler:
            for _ in range(3):
                selection(network(pixels))
            bench.synchronise()
    times: dict[str, tuple[float, int]] = {}
    for event in profiler.key_averages():
        took = event.self_device_time_total if bench.is_gpu else event.self_cpu_time_total
        times[event.key[:100]] = (took / 3000, event.count // 3)
    total = sum(ms for ms, _ in times.values())
    top = sorted(times.items(), key=lambda item: -item[1][0])[:_MOST]
    rows = [
        {"kernel": key, "ms": ms, "calls": calls, "share": ms / max(total, 1e-9)}
        for key, (ms, calls) in top
    ]
    return {"ms": total, "top": rows}
