"""Progress of a training: lines on the screen and rows of `curves.csv`."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.training.settings import COUNTS

if TYPE_CHECKING:
    from torch import Tensor

CURVES, VALIDATION = "curves.csv", "validation.csv"
FLUSH_SECONDS = 15.0
HEAD_EVERY = 20  # lines of the live table between two headings


class Table:
    """A growing CSV object; it is always rewritten completely, since stores cannot append.

    Args:
        store: Store that holds the object.
        key: Key of the object.
        last_step: Rows of later steps are dropped, since those steps are repeated.
    """

    def __init__(self, store: ObjectStore, key: str, last_step: int) -> None:
        self.store, self.key = store, key
        self.rows = [row for row in read_table(store, key) if int(row["step"]) <= last_step]
        self.written = 0.0

    def add(self, row: Mapping[str, float | int | str]) -> None:
        """Append a row, and write the table from time to time."""
        self.rows.append({name: _text(value) for name, value in row.items()})
        if time.monotonic() - self.written > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the table."""
        self.written = time.monotonic()
        if not self.rows:
            return
        names = list(dict.fromkeys(name for row in self.rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self.store.put(self.key, text.getvalue().encode())


def read_table(store: ObjectStore, key: str) -> list[dict[str, str]]:
    """Rows of a table; none if it does not exist."""
    try:
        text = store.get(key).decode()
    except FileNotFoundError:
        return []
    return list(csv.DictReader(io.StringIO(text)))


def headline(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Scores over all together: `ap 61.2  tpr_at_far 80.1  mota 40.0  idf1 50.0  id_switches 7`.

    Shares are in percent; what was measured nowhere is left out.
    """
    measured = {name: value for name, value in scores["OVERALL"].items() if value == value}
    return "  ".join(
        f"{name} {value:.0f}" if name in COUNTS else f"{name} {100 * value:.1f}"
        for name, value in measured.items()
    )


def goodness(name: str, value: float) -> float:
    """A score of validation as a number that is better the larger it is."""
    return -value if name in COUNTS else value


def _text(value: float | int | str) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _clock(seconds: float) -> str:
    """A duration such as `1:02:03`; 0 if it is negative, since the last step ends late."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


class Span:
    """Losses and images of the steps since a row of the curves, or a line on the screen."""

    def __init__(self, tasks: tuple[str, ...]) -> None:
        self.names = ("total", *tasks)
        self.since = time.monotonic()
        self.losses: list[dict[str, Tensor]] = []
        self.images = 0

    def add(self, losses: dict[str, Tensor], images: int) -> None:
        """Add a step."""
        self.losses.append(losses)
        self.images += images

    def means(self) -> dict[str, float]:
        """The mean of each loss; waits for a GPU."""
        import torch

        return {n: float(torch.stack([s[n] for s in self.losses]).mean()) for n in self.names}

    @property
    def seconds(self) -> float:
        """Time since the span began."""
        return time.monotonic() - self.since

    @property
    def images_per_s(self) -> float:
        """Speed over the span."""
        return self.images / max(self.seconds, 1e-9)


class LiveTable:
    """A table printed line by line with repeated headings, for terminals and logs.

    Args:
        show: Called with each line.
        tasks: Names of the losses; the losses of several heads are summed by task.
    """

    def __init__(self, show: Callable[[str], None], tasks: tuple[str, ...]) -> None:
        self.show = show
        self.kinds = tuple(dict.fromkeys(task.split("_")[0] for task in tasks))
        self.lines = 0

    def add(
        self,
        step: int,
        fraction: float,
        lr: float,
        losses: Mapping[str, float],
        speed: float,
        left: float,
    ) -> None:
        """Print one line.

        Args:
            step: Steps done.
            fraction: Fraction of the budget that is used.
            lr: Learning rate.
            losses: `total` and one per task.
            speed: Images per second.
            left: Seconds until the budget is spent; infinite if unknown.
        """
        if self.lines % HEAD_EVERY == 0:
            heads = "".join(f"{kind:>12}" for kind in ("total", *self.kinds))
            self.show(f"{'step':>8}{'done':>7}{'rate':>10}{heads}{'images/s':>10}{'left':>10}")
        self.lines += 1
        sums = [losses["total"]]
        sums += [
            sum(value for name, value in losses.items() if name.split("_")[0] == kind)
            for kind in self.kinds
        ]
        cells = "".join(f"{value:12.4f}" for value in sums)
        self.show(f"{step:8d}{fraction:7.1%}{lr:10.2g}{cells}{speed:10.1f}{_clock(left):>10}")
