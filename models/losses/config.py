"""Names and limits of the losses, for checking a configuration without torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

EMBEDDING_LOSSES = ("cross_entropy", "triplet", "upper_bound", "oim")
WEIGHTINGS = ("uncertainty", "uniform", "fixed", "loss_norm", "mgda")
STARTS = ("published", "equal")
APPROXIMATELY_OPTIMAL = (64.0, 0.1)  # weights of detection and embedding: the paper's "App. Opt"
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.4


def check_margin(kind: str, margin: float) -> None:
    """Refuse a margin that cosines cannot have, or that the loss would ignore.

    Raises:
        ValueError: If the margin is refused; one line.
    """
    if not 0 <= margin < 2:
        raise ValueError(f"margin: got {margin}, expected 0 to 2 (of cosines)")
    if margin and kind != "triplet":
        raise ValueError(f"margin: got {margin} with {kind}, expected embedding_loss triplet")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Losses of a joint network and their balance; what the rows of the paper's Table 2 vary.

    Attributes:
        embedding_loss: One of `EMBEDDING_LOSSES`.
        margin: Margin of `triplet`, a difference of cosines; 0 is equation 1.
        weighting: One of `WEIGHTINGS`.
        fixed_weights: Weights of detection (score and box) and of embedding under `fixed`.
        uncertainty_start: Where the learned weights of `uncertainty` start: `published` where the
            published code starts them (a network without anchors has values of its own), `equal`
            all at 0.5, as in the paper's Figure 3.
        mgda_over: Tasks that `mgda` solves for together: `head` those of each head, whose weights
            sum to 1 a head; `all` those of all heads.
        mgda_normalised: Divide each gradient by its length times its loss before `mgda` solves, as
            Sener & Koltun's code does by default, unlike their algorithm.
        assignment: IoU with a person above which an anchor is foreground, and below which it is
            background; anchors in between do not learn.

    Raises:
        ValueError: If a value is wrong; one line.
    """

    embedding_loss: str = "cross_entropy"
    margin: float = 0.0
    weighting: str = "uncertainty"
    fixed_weights: tuple[float, float] = APPROXIMATELY_OPTIMAL
    uncertainty_start: Literal["published", "equal"] = "published"
    mgda_over: Literal["head", "all"] = "head"
    mgda_normalised: bool = False
    assignment: tuple[float, float] = (FOREGROUND_IOU, BACKGROUND_IOU)

    def __post_init__(self) -> None:
        choices = {
            "embedding_loss": EMBEDDING_LOSSES,
            "weighting": WEIGHTINGS,
            "uncertainty_start": STARTS,
            "mgda_over": ("head", "all"),
        }
        for name, accepted in choices.items():
            got = getattr(self, name)
            if got not in accepted:
                raise ValueError(f"{name}: got {got!r}, expected {' | '.join(accepted)}")
        check_margin(self.embedding_loss, self.margin)
        weights, iou = self.fixed_weights, self.assignment
        if len(weights) != 2 or not all(0 < weight < math.inf for weight in weights):
            raise ValueError(f"fixed_weights: got {weights}, expected two numbers above 0")
        if len(iou) != 2 or not 0 < iou[1] <= iou[0] < 1:
            text = "expected [foreground, background] with 0 < background <= foreground < 1"
            raise ValueError(f"assignment: got {iou}, {text}")


DEFAULTS = LossConfig()
