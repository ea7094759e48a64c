"""The rows of the paper's Table 2, each a change of one recipe, and their published figures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any

from jde_ray.pipelines.training.recipe import Recipe


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        name: Its name, which is also that of its folders.
        title: Embedding loss and weighting in the paper's words.
        changes: Fields of `Recipe` in which it differs from the others.
        published: AP, TPR at FAR .1 and MOTA in percent and identity switches, as printed; none for
            a row that the paper does not have.
    """

    name: str
    title: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    published: tuple[float, float, float, int] | None = None

    def recipe(self, base: Recipe, seed: int) -> Recipe:
        """The recipe of this row: `base` with its changes, a seed, and no validation in between.

        The triplet losses sample pairs of frames, which they need; other rows sample like `base`.
        The triplet loss has the margin of `base`, or `TRIPLET_MARGIN`: the paper's equation leaves
        it out "for convenience".
        """
        changes = {"margin": 0.0, **self.changes}
        if changes["embedding_loss"] == "triplet":
            changes["margin"] = base.margin or TRIPLET_MARGIN
        training = replace(base.training, seed=base.training.seed + seed)
        return replace(base, training=training, validation=None, **changes)


def _row(loss: str, weighting: str, title: str, published: tuple[float, float, float, int]) -> Row:
    changes: dict[str, Any] = {"embedding_loss": loss, "weighting": weighting}
    if loss != "cross_entropy":
        changes["sampling"] = "pairs"
    return Row(f"{loss}-{weighting}", title, changes, published)


TRIPLET_MARGIN = 0.3
UNCERTAINTY = "cross_entropy-uncertainty"
ROWS = {
    row.name: row
    for row in (
        _row("triplet", "fixed", "triplet, App.Opt", (81.6, 42.2, 59.5, 375)),
        _row("upper_bound", "fixed", "upper bound, App.Opt", (81.7, 44.3, 59.8, 346)),
        _row("cross_entropy", "fixed", "cross-entropy, App.Opt", (82.0, 88.2, 64.3, 223)),
        _row("cross_entropy", "uniform", "cross-entropy, Uniform", (6.8, 94.8, 36.9, 366)),
        _row("cross_entropy", "mgda", "cross-entropy, MGDA-UB", (8.3, 93.5, 38.3, 357)),
        _row("cross_entropy", "loss_norm", "cross-entropy, Loss.Norm", (80.6, 82.1, 57.9, 321)),
        _row("cross_entropy", "uncertainty", "cross-entropy, Uncertainty", (83.0, 90.4, 65.8, 207)),
        Row(
            f"{UNCERTAINTY}-0.3",
            "the same, background below .3",
            {
                "embedding_loss": "cross_entropy",
                "weighting": "uncertainty",
                "assignment": (0.5, 0.3),
            },
        ),
    )
}


def choose(names: str) -> list[Row]:
    """The rows that `--rows` names: `all`, or names with commas between them.

    Raises:
        ValueError: If a name is unknown.
    """
    if names == "all":
        return list(ROWS.values())
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in ROWS:
            raise ValueError(f"rows: got {name!r}, expected all or some of {', '.join(ROWS)}")
    return [ROWS[name] for name in dict.fromkeys(wanted)]


def fingerprint(settings: Any) -> str:
    """Twelve digits that differ between frozen settings; a new field with a default keeps them."""
    text = json.dumps(_not_default(settings), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _not_default(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_not_default(item) for item in value]
    if not is_dataclass(value):
        return value
    named = ((item, getattr(value, item.name)) for item in fields(value))
    return {item.name: _not_default(own) for item, own in named if own != item.default}


def losses_with_fixed_weights(rows: Sequence[Row]) -> list[str]:
    """Embedding losses whose rows have fixed weights, for which `--search` looks."""
    fixed = [row.changes for row in rows if row.changes["weighting"] == "fixed"]
    return [str(changes["embedding_loss"]) for changes in fixed]
