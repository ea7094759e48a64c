"""Pieces of true tracks, from which a motion network learns; the same for a step in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.motion.network import MotionNet
from jde_ray.models.structures import FloatArray
from jde_ray.models.tracking.autoregression import to_input
from jde_ray.models.tracking.matching import Indices
from jde_ray.models.tracking.projection import Projection, fit
from jde_ray.pipelines.formats.label_files import LabelErrors, read_mot_rows
from jde_ray.pipelines.formats.mot import PEDESTRIAN, read_scored
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.training.track_settings import PieceConfig

if TYPE_CHECKING:
    from jde_ray.pipelines.formats.detection_rows import DetectionRows
    from jde_ray.pipelines.training.data.run_detections import RunDetections

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
        embeddings: `(T, D)` float32 unit embeddings of the detections; zeros where there is none.
    """

    boxes: FloatArray
    detected: NDArray[np.bool_]
    group: int
    origin: str
    embeddings: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))

    def __len__(self) -> int:
        return len(self.boxes)

    @cached_property
    def is_seen(self) -> NDArray[np.bool_]:
        """`(T,)` whether the embedding is known."""
        return np.asarray(self.embeddings.any(axis=1))


@dataclass(frozen=True)
class PieceBatch:
    """Pieces of one step.

    Attributes:
        steps: `(B, T, 4)` float32 inputs of the network (`models.tracking.autoregression`).
        origins: File and identity of each piece, for error messages.
        embeddings: `(B, T + 1, D)` float32 known embeddings of the boxes, first to last, then
            zeros; None if appearance is not learned.
        frames: `(B, T + 1)` int64 box that each belongs to, 0 for that before the first step; -1
            after the last.
    """

    steps: Tensor
    origins: tuple[str, ...] = ()
    embeddings: Tensor | None = None
    frames: Tensor | None = None

    def __len__(self) -> int:
        return len(self.steps)

    def inputs(self, device: torch.device) -> tuple[Tensor, ...]:
        """Arguments of the trainee, on its device."""
        parts = [self.steps]
        if self.embeddings is not None and self.frames is not None:
            parts += [self.embeddings, self.frames]
        return tuple(part.to(device, non_blocking=True) for part in parts)


class PieceStream:
    """An endless stream of batches, each of which depends only on seed and step.

    A source is drawn by its weight, then one of all its pieces, each as likely as the others.

    Args:
        paths: The people of all sources.
        weights: Weight of each source.
        config: How pieces are drawn.
        batch: Pieces per step.
        seed: Seed of all random numbers.
        embedder: Name and fingerprint of the network of their embeddings; None to learn motion
            alone.

    Attributes:
        projection: From embeddings to the inputs of appearance; None for motion alone.

    Raises:
        ValueError: If nobody is seen long enough for the shortest piece, or the embeddings are of
            no use.
    """

    def __init__(
        self,
        paths: Sequence[TruePath],
        weights: Sequence[float],
        config: PieceConfig,
        *,
        batch: int,
        seed: int = 0,
        embedder: tuple[str, str] | None = None,
    ) -> None:
        self.paths, self.weights, self.config = tuple(paths), tuple(weights), config
        self.batch, self.seed = batch, seed
        longest = max(map(len, paths), default=0) - 1
        if longest < config.length[0]:
            got = f"got people seen for {longest} steps or fewer"
            raise ValueError(f"training data: {got}, expected {config.length[0]} steps in a row")
        self.longest = min(longest, config.length[1])
        self.projection: Projection | None = None
        if embedder is not None:
            known = [path.embeddings[path.is_seen] for path in paths]
            self.projection = fit(np.concatenate(known), *embedder)

    def prepare(self, model: MotionNet) -> None:
        """Let a network learn appearance through the projection, or motion alone."""
        model.see(self.projection)

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
        pieces, places = [], []
        for number in chosen:
            start = int(rng.integers(int(starts[number])))
            pieces.append(self._draw(self.paths[number], start, length, rng))
            places.append((self.paths[number], slice(start, start + length + 1)))
        boxes = np.stack(pieces, axis=1).astype(np.float64)  # (4, B, T + 1)
        steps = to_input(boxes[:, :, :-1], boxes[:, :, 1:], 1.0)
        inputs = torch.from_numpy(steps.transpose(1, 2, 0).astype(np.float32))
        origins = tuple(self.paths[number].origin for number in chosen)
        if self.projection is None:
            return PieceBatch(inputs, origins)
        embeddings = np.zeros((*boxes.shape[1:], self.projection.width), np.float32)
        frames = np.full(boxes.shape[1:], -1)
        for row, (path, own) in enumerate(places):
            seen = path.is_seen[own].nonzero()[0]
            embeddings[row, : len(seen)] = path.embeddings[own][seen]
            frames[row, : len(seen)] = seen
        return PieceBatch(inputs, origins, torch.from_numpy(embeddings), torch.from_numpy(frames))

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
        RunError: If there is no run with embeddings where the recipe names one.
    """
    run = None
    if recipe.pieces.embeddings:
        from jde_ray.pipelines.training.data.run_detections import open_run  # imports PyAV

        run = open_run(root / recipe.pieces.embeddings)
    paths = [
        path
        for group, source in enumerate(recipe.sources)
        for path in read_paths(root / source.path, source, group, problems, recipe.pieces, run)
    ]
    if not skip_bad:
        problems.refuse()
    training = recipe.training
    weights = [source.weight for source in recipe.sources]
    embedder = None if run is None else run.embedder
    return PieceStream(
        paths,
        weights,
        recipe.pieces,
        batch=training.batch,
        seed=training.seed,
        embedder=embedder,
    )


def read_paths(
    folder: Path,
    source: Source,
    group: int,
    problems: LabelErrors,
    config: PieceConfig,
    run: RunDetections | None = None,
) -> list[TruePath]:
    """The people of a MOT sequence, each as often as it is seen anew.

    Args:
        folder: Its folder, with `gt/gt.txt` and perhaps `det/*.txt`.
        source: `every` and `identities` of the source.
        group: Index of the source.
        problems: Collects the rows that are left out.
        config: Whether detections take the place of true boxes.
        run: Whose detections those are, with embeddings; None for the files `det/*.txt`.
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
    frames, detected = rows[:, 0] - 1, np.zeros(len(rows), np.bool_)
    embeddings = np.zeros((len(rows), 0), np.float32)
    if run is not None:
        detections = run.of(source.name)
        detected, match = _take_detections(frames, tlbr, detections.rows)
        embeddings = _embeddings_of(match, detections)
    elif config.detections and found:
        detected, _ = _take_detections(frames, tlbr, read_scored(found[0]).rows)
    boxes = np.concatenate([(tlbr[:, :2] + tlbr[:, 2:]) / 2, tlbr[:, 2:] - tlbr[:, :2]], axis=1)
    paths = []
    for person in np.unique(rows[:, 1]):
        own = np.flatnonzero(rows[:, 1] == person)
        own = own[np.argsort(rows[own, 0], kind="stable")]
        ends = np.flatnonzero(np.diff(rows[own, 0]) != source.every) + 1
        for part in np.split(own, ends):
            origin = f"{truth}, identity {person:g}"
            paths.append(TruePath(boxes[part], detected[part], group, origin, embeddings[part]))
    return paths


def _take_detections(
    frames: FloatArray, tlbr: FloatArray, found: BoxRows
) -> tuple[NDArray[np.bool_], Indices]:
    """Replace true boxes by detections, in place.

    Args:
        frames: `(R,)` frames of the true boxes.
        tlbr: `(R, 4)` true boxes.
        found: N detections.

    Returns:
        `(R,)` whether a box was replaced; `(R,)` row of the detection that shows this person rather
        than another one, -1 for none.
    """
    taken = np.zeros(len(frames), np.bool_)
    match = np.full(len(frames), -1)
    for frame in np.unique(frames):
        own = np.flatnonzero(frames == frame)
        rows = np.flatnonzero(found.frame == frame)
        if not len(rows):
            continue
        boxes = found.tlbr[rows]
        overlap = iou_matrix(tlbr[own], boxes)
        best, place = overlap.argmax(axis=1), np.arange(len(own))
        sure = overlap[place, best] > _LEAST_IOU
        is_theirs = sure & (overlap.argmax(axis=0)[best] == place)
        tlbr[own[sure]] = boxes[best[sure]]
        taken[own] = sure
        match[own[is_theirs]] = rows[best[is_theirs]]
    return taken, match


def _embeddings_of(match: Indices, found: DetectionRows) -> NDArray[np.float32]:
    """`(R, D)` embeddings of matched detections, zeros for -1."""
    known = np.asarray(found.embeddings, np.float32)
    embeddings = np.zeros((len(match), known.shape[1]), np.float32)
    embeddings[match >= 0] = known[match[match >= 0]]
    return embeddings
