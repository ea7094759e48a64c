"""Settings of the training of a motion network: the pieces of tracks that it learns from."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class PieceConfig:
    """How pieces of true tracks are drawn.

    Attributes:
        length: Fewest and most steps of a piece; all pieces of a batch have one length.
        detections: Where a sequence has files `det/*.txt`, take for each true box the detection of
            the first of them that overlaps it most, if their IoU is above .5.
        embeddings: OUT of a run over these sequences with `--save-detections`, below the data root.
            Then its detections are those, and appearance is learned from their embeddings; empty
            for motion alone.
        jitter: Standard deviation of the errors of the other boxes, relative to their height; that
            of detections where the network shall track.

    Raises:
        ValueError: If a value is out of range.
    """

    length: tuple[int, int] = (20, 40)
    detections: bool = True
    embeddings: str = ""
    jitter: float = 0.02

    def __post_init__(self) -> None:
        if len(self.length) != 2 or not 2 <= self.length[0] <= self.length[1]:
            got = list(self.length)
            raise ValueError(f"pieces length: got {got}, expected [fewest, most] from 2")
        if self.embeddings and not self.detections:
            text = "expected `detections: true`, since they belong to detections"
            raise ValueError(f"pieces embeddings: got {self.embeddings}, {text}")
        if not 0 <= self.jitter <= 1:
            raise ValueError(f"pieces jitter: got {self.jitter}, expected 0 to 1")
