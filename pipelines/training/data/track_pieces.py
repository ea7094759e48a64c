"""Pieces of true tracks, from which a motion network learns; the same for a step in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.autoregression import to_input
from jde_ray.pipelines.formats.label_files import LabelErrors, read_mot_rows
from jde_ray.pipelines.formats.mot import PEDESTRIAN, read_scored
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.settings import Source
from jde_ray.pipelines.training.track_settings import PieceConfig

_LEAST_IOU = 0.5  # of a detection that takes the place of a true box
_LEAST_VISIBLE = 0.2


@dataclass(frozen=True)
class TruePath:
    """A person in successive frames.

    Attributes:
        boxes: `(T, 4)` centre x, centre y, width and height in pixels.
        detected: `(T,)` whether a box is that of a detection.
        group: Index of its source.
        origin: File and identity, for error messages.
    """

    boxes: FloatArray
    detected: NDArray[np.bool_]
    group: int
    origin: str

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class PieceBatch:
    """Pieces of one step.

    Attributes:
        steps: `(B, T, 4)` float32 inputs of the network (`models.tracking.autoregression`).
        origins: File and identity of each piece, for error messages.
    """

    steps: Tensor
    origins: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.steps)

    def inputs(self, device: torch.device) -> tuple[Tensor, ...]:
        """Arguments of the trainee, on its device."""
        return (self.steps.to(device, non_blocking=True),)


class PieceStream:
    """An endless stream of batches, each of which depends only on seed and step.

    A source is drawn by its weight, then one of all its pieces, each as likely as the others.

    Args:
        paths: The people of all sources.
        weights: Weight of each source.
        config: How pieces are drawn.
        batch: Pieces per step.
        seed: Seed of all random numbers.

    Raises:
        ValueError: If nobody is seen long enough for the shortest piece.
    """

    def __init__(
        self,
        paths: Sequence[TruePath],
        weights: Sequence[float],
        config: PieceConfig,
        *,
        batch: int,
        seed: int = 0,
    ) -> None:
        self.paths, self.weights, self.config = tuple(paths), tuple(weights), config
        self.batch, self.seed = batch, seed
        longest = max(map(len, paths), default=0) - 1
        if longest < config.length[0]:
            got = f"got people seen for {longest} steps or fewer"
            raise ValueError(f"training data: {got}, expected {config.length[0]} steps in a row")
        self.longest = min(longest, config.length[1])

    @property
    def num_boxes(self) -> int:
        """Boxes of all people."""
        return sum(map(len, self.paths))

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that draw as many boxes as there are."""
        return max(1, round(2 * self.num_boxes / (self.batch * sum(self.config.length))))

    def from_step(self, step: int) -> Iterator[tuple[int, PieceBatch]]:
        """Steps and their batches, from a step on."""
        while True:
            yield step, self.batch_at(step)
            step += 1

    def batch_at(self, step: int) -> PieceBatch:
        """The batch of a step; all its pieces have the same length."""
        rng = np.random.default_rng((self.seed, step))
        length = int(rng.integers(self.config.length[0], self.longest + 1))
        starts = np.array([max(0, len(path) - length) for path in self.paths], np.float64)
        groups = np.array([path.group for path in self.paths])
        totals = np.bincount(groups, starts, len(self.weights))
        share = np.asarray(self.weights)[groups] * starts / np.maximum(totals[groups], 1)
        chosen = rng.choice(len(starts), self.batch, p=share / share.sum())
        pieces = []
        for number in chosen:
            start = int(rng.integers(int(starts[number])))
            pieces.append(self._draw(self.paths[number], start, length, rng))
        boxes = np.stack(pieces, axis=1).astype(np.float64)  # (4, B, T + 1)
        steps = to_input(boxes[:, :, :-1], boxes[:, :, 1:], 1.0)
        inputs = torch.from_numpy(steps.transpose(1, 2, 0).astype(np.float32))
        return PieceBatch(inputs, tuple(self.paths[number].origin for number in chosen))

    def _draw(
        self, path: TruePath, start: int, length: int, rng: np.random.Generator
    ) -> FloatArray:
        """`(4, length + 1)` boxes of a piece; those that were not detected err a little."""
        own = slice(start, start + length + 1)
        boxes = path.boxes[own].copy()
        error = rng.normal(0, self.config.jitter, boxes.shape) * boxes[:, 3:]
        error[path.detected[own]] = 0.0
        boxes += error
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 1.0)
        return boxes.T


def read_piece_stream(
    recipe: Recipe, root: Path, problems: LabelErrors, *, skip_bad: bool = False
) -> PieceStream:
    """The stream of a recipe's motion network; pictures are not read.

    Args:
        recipe: The recipe; its sources are sequences.
        root: Folder to which its paths are relative.
        problems: Collects the rows that are left out.
        skip_bad: Leave out wrong rows; otherwise one of them stops the training.

    Raises:
        BadDataError: If rows are wrong, naming the first ones with file and line.
        ValueError: If nobody is seen long enough, or detections cannot be read.
    """
    paths = [
        path
        for group, source in enumerate(recipe.sources)
        for path in read_paths(root / source.path, source, group, problems, recipe.pieces)
    ]
    if not skip_bad:
        problems.refuse()
    training = recipe.training
    weights = [source.weight for source in recipe.sources]
    return PieceStream(paths, weights, recipe.pieces, batch=training.batch, seed=training.seed)


def read_paths(
    folder: Path, source: Source, group: int, problems: LabelErrors, config: PieceConfig
) -> list[TruePath]:
    """The people of a MOT sequence, each as often as it is seen anew.

    Args:
        folder: Its folder, with `gt/gt.txt` and perhaps `det/*.txt`.
        source: `every` and `identities` of the source.
        group: Index of the source.
        problems: Collects the rows that are left out.
        config: Whether detections take the place of true boxes.
    """
    truth, found = folder / "gt" / "gt.txt", sorted((folder / "det").glob("*.txt"))
    if not truth.is_file():
        problems.add(truth, None, "missing file", "expected a sequence with gt/gt.txt")
        return []
    rows = read_mot_rows(truth, problems, source.identities)
    kept = (rows[:, 6] > 0) & (rows[:, 7] == PEDESTRIAN) & (rows[:, 8] >= _LEAST_VISIBLE)
    kept &= (rows[:, 1] >= 0) & ((rows[:, 0] - 1) % source.every == 0)
    kept &= (rows[:, 4:6] > 0).all(axis=1)
    rows = rows[kept]
    tlbr = np.concatenate([rows[:, 2:4] - 1, rows[:, 2:4] - 1 + rows[:, 4:6]], axis=1)
    detected = np.zeros(len(rows), np.bool_)
    if config.detections and found:
        detected = _take_detections(rows[:, 0] - 1, tlbr, found[0])
    boxes = np.concatenate([(tlbr[:, :2] + tlbr[:, 2:]) / 2, tlbr[:, 2:] - tlbr[:, :2]], axis=1)
    paths = []
    for person in np.unique(rows[:, 1]):
        own = np.flatnonzero(rows[:, 1] == person)
        own = own[np.argsort(rows[own, 0], kind="stable")]
        ends = np.flatnonzero(np.diff(rows[own, 0]) != source.every) + 1
        for part in np.split(own, ends):
            origin = f"{truth}, identity {person:g}"
            paths.append(TruePath(boxes[part], detected[part], group, origin))
    return paths


def _take_detections(frames: FloatArray, tlbr: FloatArray, path: Path) -> NDArray[np.bool_]:
    """Replace `(R, 4)` true boxes by the detections of a file, in place; returns which, `(R,)`."""
    found = read_scored(path).rows
    taken = np.zeros(len(frames), np.bool_)
    for frame in np.unique(frames):
        own = np.flatnonzero(frames == frame)
        boxes = found.tlbr[found.frame == frame]
        if not len(boxes):
            continue
        overlap = iou_matrix(tlbr[own], boxes)
        best = overlap.argmax(axis=1)
        sure = overlap[np.arange(len(own)), best] > _LEAST_IOU
        tlbr[own[sure]] = boxes[best[sure]]
        taken[own] = sure
    return taken
