"""Names and limits of the losses, for checking a configuration without torch."""

from __future__ import annotations

EMBEDDING_LOSSES = ("cross_entropy", "triplet", "upper_bound", "oim")
WEIGHTINGS = ("uncertainty", "uniform", "fixed", "loss_norm", "mgda")


def check_margin(kind: str, margin: float) -> None:
    """Refuse a margin that cosines cannot have, or that the loss would ignore.

    Raises:
        ValueError: If the margin is refused; one line.
    """
    if not 0 <= margin < 2:
        raise ValueError(f"margin: got {margin}, expected 0 to 2 (of cosines)")
    if margin and kind != "triplet":
        raise ValueError(f"margin: got {margin} with {kind}, expected embedding_loss triplet")
