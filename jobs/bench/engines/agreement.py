"""How far the candidates of one engine lie from those of another, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jde_ray.models.jde.decode import Candidates

SURE = 0.5  # score of a candidate that counts


@dataclass
class Agreement:
    """Counts and distances over frames.

    Attributes:
        candidates: Cells that score above `SURE` in the reference.
        lost: Of these, cells that do not in the other.
        gained: Cells that do so in the other only.
        moved: Largest change of a corner of each cell that does in both, in network pixels.
        cosines: Dot products of their embeddings.
    """

    candidates: int = 0
    lost: int = 0
    gained: int = 0
    moved: list[float] = field(default_factory=list)
    cosines: list[float] = field(default_factory=list)

    def add(self, reference: Candidates, other: Candidates) -> None:
        """Compare the candidates of one frame."""
        before, after = reference.scores[0] > SURE, other.scores[0] > SURE
        self.candidates += int(before.sum())
        self.lost += int((before & ~after).sum())
        self.gained += int((after & ~before).sum())
        rows = (before & after).nonzero()[:, 0]
        one, two = (_corners(found.boxes[0][rows]) for found in (reference, other))
        self.moved += (one - two).abs().amax(1).tolist()
        vectors = [found.embeddings(0, rows) for found in (reference, other)]
        self.cosines += (vectors[0] * vectors[1]).sum(1).tolist()

    def row(self) -> dict[str, Any]:
        """The figures of a row; distances are None where no candidate is in both."""
        return {
            "candidates": self.candidates,
            "lost": self.lost,
            "gained": self.gained,
            "moved_median_px": float(np.median(self.moved)) if self.moved else None,
            "embedding_cosine": float(np.mean(self.cosines)) if self.cosines else None,
        }


def _corners(cxcywh: Any) -> Any:
    import torch

    half = cxcywh[:, 2:] / 2
    return torch.cat((cxcywh[:, :2] - half, cxcywh[:, :2] + half), 1)
