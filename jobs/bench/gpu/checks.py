"""Whether the fast forms compute what the plain ones do, before their speed is measured."""

from __future__ import annotations

from typing import Any

import numpy as np

from jde_ray.jobs.bench.gpu.settings import Bench, build, make_frames, threshold

NAME = "darknet53-1088x608"
CASES = (
    (NAME, "bf16", "kernels"),
    (NAME, "bf16", "plain"),
    ("small", "bf16", "plain"),
    ("small", "fp32", "plain"),
)


def measure(bench: Bench) -> dict[str, Any]:
    """Errors against eager float32, and what must be equal to the last bit."""
    cases = CASES if bench.is_gpu else CASES[-1:]
    return {
        "suppression": _suppression(bench),
        "maps": _maps(bench),
        "batches": {
            f"{name}, {precision}, {form}": _batches(bench, name, precision, form)
            for name, precision, form in cases
        },
    }


def _suppression(bench: Bench) -> dict[str, Any]:
    """Boxes that the kernel and the loop of matrices decide differently, of how many."""
    import torch

    from jde_ray.models.jde.decode import nms
    from jde_ray.models.jde.gpu.building import convolutions

    work = convolutions(torch.device(bench.device))
    differ, total, kept_boxes = 0, 0, 0
    for count in (1, 63, 64, 65, 200, 1000):
        corner = torch.rand(8, count, 2, device=bench.device) * 300
        tlbr = torch.cat((corner, corner + torch.rand_like(corner) * 90), 2).contiguous()
        counts = torch.full((8,), count, dtype=torch.int32, device=bench.device)
        kept = work.suppress(tlbr, counts, 0.4)
        differ += int((kept != nms(tlbr, 0.4)).sum())
        total += kept.numel()
        kept_boxes += int(kept.sum())
    return {"differ": differ, "boxes": total, "kept": kept_boxes}


def _maps(bench: Bench) -> dict[str, Any]:
    """Relative errors of raw maps and vectors against eager float32, batch of two."""
    import torch

    from jde_ray.models.jde.gpu.building import convolutions, plain
    from jde_ray.models.jde.gpu.padded_network import PaddedWeights

    frames = torch.from_numpy(make_frames(bench, NAME, 2)).to(bench.device)
    height, width = bench.size(NAME)
    exact = build(bench, NAME, "fp32")
    quick = build(bench, NAME, "bf16" if bench.is_gpu else "fp32")
    work = convolutions(frames.device)
    report = {}
    with torch.inference_mode():
        wanted = plain(exact)(frames)
        dtype = next(quick.parameters()).dtype
        padded = PaddedWeights(quick, work, dtype).build(2, height, width)
        for form, network in (("plain bf16", plain(quick)), ("kernels bf16", padded)):
            got = network(frames)
            for scale in range(3):
                count = 50
                grid = wanted.boxes[scale].shape[3:]
                generator = torch.Generator().manual_seed(scale)
                y, x = (torch.randint(0, n, (count,), generator=generator) for n in grid)
                cells = (torch.arange(count) % 2, y, x)
                cells = tuple(c.to(frames.device) for c in cells)  # type: ignore[assignment]
                pairs = {
                    "boxes": (got.boxes[scale], wanted.boxes[scale]),
                    "scores": (got.scores[scale], wanted.scores[scale]),
                    "vectors": (got.embed(scale, *cells), wanted.embed(scale, *cells)),
                }
                for name, (mine, theirs) in pairs.items():
                    error = (mine - theirs).norm() / theirs.norm()
                    report[f"{form}, {name}, scale {scale}"] = float(error)
    return report


def _batches(bench: Bench, name: str, precision: str, form: str) -> dict[str, Any]:
    """Whether a frame's result is the same bytes in any place of any batch."""
    from jde_ray.models.jde.gpu.building import open_runner
    from jde_ray.models.jde.gpu.selection import Limits

    model = build(bench, name, precision)
    few, many = (4, 16) if bench.is_gpu else (2, 4)
    frames = make_frames(bench, name, many)
    limits = Limits(threshold(model, frames[:2]), 0.4, 300)
    runner = open_runner(model, limits, (1, few, many), kernels=form == "kernels")
    whole = runner.detect(frames)
    turned = runner.detect(frames[::-1].copy())[::-1]
    starts = range(0, many, few)
    small = [found for at in starts for found in runner.detect(frames[at : at + few])]
    single = [runner.detect(frames[at : at + 1])[0] for at in range(few)]
    eager = model.detect(_on(bench, frames[:few]), limits.score_threshold, 0.4, 300)
    return {
        "boxes": sum(len(found.scores) for found in whole),
        "same bytes in another place": _are_equal(whole, turned),
        "same bytes in smaller batches": _are_equal(whole, small),
        "same bytes alone": _are_equal(whole[:few], single),
        "boxes of some frames, eager": sum(len(found.scores) for found in eager),
        "boxes of the same, runner": sum(len(found.scores) for found in whole[:few]),
        "first box, eager": eager[0].tlbr[:1].tolist(),
        "first box": whole[0].tlbr[:1].tolist(),
    }


def _on(bench: Bench, frames: Any) -> Any:
    import torch

    return torch.from_numpy(frames).to(bench.device)


def _are_equal(one: Any, other: Any) -> bool:
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for a, b in zip(one, other, strict=True)
        for name in ("tlbr", "scores", "embeddings")
    )
