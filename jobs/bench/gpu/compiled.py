"""Networks through torch.compile, each in a process of its own that may take only so long."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from time import perf_counter
from typing import Any

from jde_ray.jobs.bench.gpu.settings import Bench

# name, batch, how much inductor tries: `usual`, or `most` (Triton's convolutions beside cuDNN's)
CASES = (
    ("small", 16, "usual"),
    ("darknet53-1088x608", 16, "usual"),
    ("darknet53-1088x608", 16, "most"),
)


def measure(bench: Bench, seconds: float) -> Iterator[dict[str, Any]]:
    """A row per case, until the seconds are over."""
    until = perf_counter() + seconds
    for name, batch, effort in CASES if bench.is_gpu else (("small", 1, "usual"),):
        row = {"name": name, "batch": batch, "effort": effort}
        left = until - perf_counter()
        if left < 20 or not bench.is_gpu:
            yield row | {"failed": "left out, there was no time" if bench.is_gpu else "needs a GPU"}
            continue
        command = [sys.executable, "-m", __name__, name, str(batch), effort]
        command.append(str(bench.limits.get("bf16", 0.0)))
        process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        try:
            said = process.communicate(timeout=left)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)  # its compiling processes too
            yield row | {"failed": f"not compiled within {left:.0f} s"}
            continue
        lines = said.strip().splitlines() or [""]
        try:
            yield row | json.loads(lines[-1])
        except ValueError:
            yield row | {"failed": " | ".join(lines[-4:])[:600]}


def main(name: str, batch: int, effort: str, limit: float) -> None:
    """Compile, measure, and print the row as JSON."""
    import torch

    from jde_ray.jobs.bench.gpu.networks import Case, measure_case
    from jde_ray.jobs.bench.gpu.settings import build

    if effort == "most":
        import torch._inductor.config as inductor

        inductor.max_autotune = True
        inductor.max_autotune_gemm_backends = "ATEN,TRITON"
        inductor.max_autotune_conv_backends = "ATEN,TRITON"
    import torch._dynamo.config as dynamo

    dynamo.automatic_dynamic_shapes = False
    bench = Bench("cuda", limits={"bf16": limit})
    started = perf_counter()
    model = build(bench, name, "bf16", compiled=True)
    height, width = bench.size(name)
    with torch.inference_mode():
        shape = (batch, height, width, 3)
        pixels = torch.zeros(shape, dtype=torch.uint8, device=bench.device)
        model.maps(model.normalise(pixels))
        torch.cuda.synchronize()
        seconds = perf_counter() - started
    row = measure_case(bench, Case(name, "bf16", batch, "graph"), model)
    print(json.dumps(row | {"compile_s": seconds}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
