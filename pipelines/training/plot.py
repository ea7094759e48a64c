"""`curves.png`: losses, learning rate and validation of a training, as one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.training.curves import CURVES, VALIDATION, read_table
from jde_ray.pipelines.training.settings import COUNTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOT = "curves.png"
_LOSS = "loss_"
_OVERALL = "OVERALL"

Rows = Sequence[Mapping[str, str]]


def plot_curves(store: ObjectStore) -> bool:
    """Draw `curves.csv` and `validation.csv` into `curves.png`.

    Args:
        store: OUT of a training.

    Returns:
        Whether there was anything to draw.
    """
    rows = read_table(store, CURVES)
    if not rows:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    scores = [row for row in read_table(store, VALIDATION) if row["sequence"] == _OVERALL]
    figure = Figure(figsize=(5.5 * (3 if scores else 2), 4.2), layout="constrained")
    axes: Any = figure.subplots(1, 3 if scores else 2)
    _draw(axes[0], "losses, summed over the heads", losses(rows))
    _draw(axes[1], "learning rate", {"rate": points(rows, "rate")})
    if scores:
        names = [name for name in scores[0] if name not in ("step", "sequence", *COUNTS)]
        _draw(axes[2], "validation", {name: points(scores, name) for name in names}, marker="o")
    memory = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(memory, format="png")
    store.put(PLOT, memory.getvalue())
    return True


def losses(rows: Rows) -> dict[str, list[tuple[float, float]]]:
    """Steps and losses by kind, each the sum of its heads: `box`, `score`, `identity`."""
    names = [name for name in rows[0] if name.startswith(_LOSS)]
    kinds = dict.fromkeys(name.removeprefix(_LOSS).split("_")[0] for name in names)
    found = {}
    for kind in kinds:
        heads = [points(rows, n) for n in names if n.removeprefix(_LOSS).split("_")[0] == kind]
        found[kind] = [
            (head[0][0], sum(value for _, value in head)) for head in zip(*heads, strict=True)
        ]
    return found


def points(rows: Rows, name: str) -> list[tuple[float, float]]:
    """Step and value of each row that has a number under `name`."""
    pairs = [(float(row["step"]), float(row.get(name) or "nan")) for row in rows]
    return [(step, value) for step, value in pairs if math.isfinite(value)]


def _draw(
    axis: Axes, title: str, curves: Mapping[str, list[tuple[float, float]]], marker: str = ""
) -> None:
    for name, pairs in curves.items():
        steps, values = [step for step, _ in pairs], [value for _, value in pairs]
        axis.plot(steps, values, marker=marker, markersize=4, linewidth=1.3, label=name)
    axis.set(title=title, xlabel="step")
    axis.grid(alpha=0.3)
    if len(curves) > 1:
        axis.legend(fontsize=8)
