"""The machine's limits: matrix products, copies on the device and to and from it."""

from __future__ import annotations

from functools import partial
from typing import Any

from jde_ray.jobs.bench.gpu.settings import Bench
from jde_ray.jobs.bench.machine import processor
from jde_ray.jobs.bench.network import PRECISIONS


def measure(bench: Bench) -> dict[str, Any]:
    """Name, versions, and the limits that other sections compare with."""
    import os

    import torch

    report: dict[str, Any] = {
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "torch": torch.__version__,
    }
    if bench.is_gpu:
        properties = torch.cuda.get_device_properties(0)
        report |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": properties.total_memory / 2**30,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    torch.backends.cuda.matmul.allow_tf32 = False
    side = 8192 if bench.is_gpu else 256
    for precision in ("bf16", "fp32"):
        kind = getattr(torch, PRECISIONS[precision])
        # random numbers: a product of equal ones is faster than any real one
        a, b = (torch.randn(side, side, device=bench.device, dtype=kind) for _ in range(2))
        product_of = partial(torch.mm, a, b, out=torch.empty_like(a))
        seconds = bench.time(product_of, 10 if precision == "bf16" else 3)
        bench.limits[precision] = 2 * side**3 / seconds / 1e9
    report["limit_gflop_per_second"] = dict(bench.limits)
    return report | {"copies_gb_per_second": _copies(bench)}


def _copies(bench: Bench) -> dict[str, float]:
    import torch

    size = (1 << 30) if bench.is_gpu else 1 << 20
    source = torch.randint(0, 256, (size,), dtype=torch.uint8, device=bench.device)
    target = torch.empty_like(source)
    host = torch.empty(size, dtype=torch.uint8, pin_memory=bench.is_gpu)
    pageable = torch.zeros(size, dtype=torch.uint8)
    moves = {
        "device to device, read and written": (2, target, source),
        "host to device, pinned": (1, source, host),
        "device to host, pinned": (1, host, source),
        "host to pinned": (1, host, pageable),
    }
    return {
        name: factor * size / bench.time(partial(to.copy_, start, non_blocking=True), 3) / 1e9
        for name, (factor, to, start) in moves.items()
    }
