"""`jde bench figure3`: loss weights and losses during training (the paper's Figure 3)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from jde_ray.pipelines.errors import ExitCode, RunError

TITLES = {"score": "classification", "box": "regression", "identity": "embedding"}
LINES = ("-", "--", ":")  # for strides 32, 16, 8
SMOOTHED_ROWS = 5


def figure3(
    run: Annotated[str, typer.Argument(help="OUT of `jde train`, whose curves.csv to draw.")],
    out: Annotated[Path, typer.Option(help="Image to write: .png, .svg or .pdf.")] = Path(
        "figure3.png"
    ),
) -> None:
    """Draw the loss weights (left) and the losses (right) over the steps, both logarithmic."""
    from jde_ray.pipelines.storage.stores import open_store
    from jde_ray.pipelines.training.curves import CURVES, read_table

    try:
        rows = read_table(open_store(run), CURVES)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if not rows:
        raise RunError(f"run: {run} has no {CURVES}; name the OUT of jde train", ExitCode.REFUSED)
    if out.suffix not in (".png", ".svg", ".pdf"):
        text = f"out: got {out}, expected .png, .svg or .pdf"
        raise RunError(text, ExitCode.REFUSED)
    draw(rows, out)
    typer.echo(f"wrote {out}")


def series(rows: Sequence[Mapping[str, str]], kind: str) -> dict[str, tuple[list[float], Any]]:
    """Steps and values of every `weight_*` or `loss_*` column, positive values only.

    Older curves hold `s_*` in place of weights, which are `exp(-s) / 2`.

    Args:
        rows: Rows of a `curves.csv`.
        kind: `weight` or `loss`.
    """
    names = dict.fromkeys(name for row in rows for name in row)
    found: dict[str, tuple[list[float], Any]] = {}
    for name in names:
        prefix, _, task = name.partition("_")
        if prefix != kind and not (kind == "weight" and prefix == "s"):
            continue
        points = [(float(row["step"]), float(row[name])) for row in rows if row.get(name)]
        if prefix == "s":
            points = [(step, math.exp(-value) / 2) for step, value in points]
        points = [(step, value) for step, value in points if value > 0]
        if points:
            steps, values = zip(*points, strict=True)
            found.setdefault(task, (list(steps), list(values)))
    return found


def draw(rows: Sequence[Mapping[str, str]], out: Path) -> None:
    """Draw both charts into a file."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    for axis, kind, title in zip(axes, ("weight", "loss"), ("Loss weights", "Losses"), strict=True):
        for task, (steps, values) in series(rows, kind).items():
            name, _, stride = task.partition("_")
            colour = f"C{list(TITLES).index(name)}" if name in TITLES else "C3"
            style = LINES[(32, 16, 8).index(int(stride))] if stride else "-"
            label = TITLES.get(name, name) + (f", stride {stride}" if stride else "")
            axis.plot(steps, _smoothed(values), style, color=colour, label=label, linewidth=1.2)
        axis.set(title=title, xlabel="step", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=150, metadata={"Date": None} if out.suffix == ".svg" else None)
    plt.close(figure)


def _smoothed(values: Sequence[float]) -> list[float]:
    """Running mean of the logarithm over a few rows."""
    logs = [math.log(value) for value in values]
    half = SMOOTHED_ROWS // 2
    parts = [logs[max(0, i - half) : i + half + 1] for i in range(len(logs))]
    return [math.exp(sum(part) / len(part)) for part in parts]
