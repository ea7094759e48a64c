"""Batches for training: scenes, mosaics of scenes, pairs of frames, collages of cut-out people."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch

from jde_ray.models.jde.losses.task_aligned import Labels
from jde_ray.models.letterbox import PAD_VALUE, fitted_size
from jde_ray.models.structures import IntArray
from jde_ray.pipelines.training.data.augmentation import Example, clipped, jitter_colour, warp
from jde_ray.pipelines.training.data.copy_paste import paste_people
from jde_ray.pipelines.training.data.labelled_image import LabelledImage, TrainingImage
from jde_ray.pipelines.training.data.published_augmentation import published_view
from jde_ray.pipelines.training.settings import Augmentation, Sampling

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Batch:
    """Images and labels of one training step.

    Attributes:
        images: `(B, H, W, 3)` uint8 RGB.
        labels: People in the images.
        origins: File of each image, for error messages.
    """

    images: torch.Tensor
    labels: Labels
    origins: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def inputs(self, device: torch.device) -> tuple[torch.Tensor, Labels]:
        """Arguments of the trainee, on its device."""
        return self.images.to(device, non_blocking=True), self.labels.to(device)

    def pin_memory(self) -> Batch:
        """The batch in pinned memory, from which a GPU copies while the host goes on."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())


def share_of_batch(batch: int, num_ranks: int, sampling: Sampling) -> int:
    """Number of images per step for each of `num_ranks` trainers.

    Raises:
        ValueError: If they cannot be divided evenly, or a pair would be separated.
    """
    if batch % num_ranks:
        text = f"expected a multiple of --num-trainers {num_ranks}"
        raise ValueError(f"batch: got {batch}, {text}")
    share = batch // num_ranks
    if sampling == "pairs" and share % 2:
        text = "an even number" + (f" for each of {num_ranks} trainers" if num_ranks > 1 else "")
        raise ValueError(f"batch: got {batch}, expected {text} (sampling: pairs)")
    return share


class TrainingSet(torch.utils.data.IterableDataset[list[Example]]):
    """An endless stream of augmented batches, each of which depends only on its step.

    A batch is therefore the same in any process and any order, and an interrupted training
    continues with the batches it has not seen.

    Args:
        images: All labelled images; those of `crops` groups teach only appearance.
        weights: Weight of each group when a source is drawn.
        crop_groups: Groups whose images are cut-out people.
        size: Width and height of the largest batch, see `Augmentation.multi_scale`.
        aspects: Aspect ratios (width / height) of batches, one of which is drawn for each batch,
            since inputs follow the video's shape (`models.letterbox.fitted_size`); empty for that
            of `size` only.
        batch: Images per step, over all trainers.
        augmentation: Ranges of the random changes.
        collage_share: Share of the images that are collages of crops.
        sampling: `weights` draws a source by its weight, then one of its images; `epoch` takes
            every image once per epoch in random order; `pairs` draws half a batch like `weights`
            and adds the frame after each, as the triplet losses require.
        seed: Seed of all random numbers.
        skip_bad: Replace an image that cannot be read by another one; otherwise training stops.

    Raises:
        ValueError: If there are no images or no pairs, or the batch is odd with `pairs`.
    """

    def __init__(
        self,
        images: Sequence[TrainingImage],
        weights: Sequence[float],
        crop_groups: set[int],
        *,
        size: tuple[int, int],
        aspects: Sequence[float] = (),
        batch: int,
        augmentation: Augmentation,
        collage_share: float = 0.0,
        sampling: Sampling = "weights",
        seed: int = 0,
        skip_bad: bool = False,
    ) -> None:
        self.scenes = [image for image in images if image.group not in crop_groups]
        if not self.scenes:
            raise ValueError(
                "training data: got only crops of people, expected images of scenes too"
            )
        crops: dict[int, list[LabelledImage]] = {}
        for image in images:
            if image.group in crop_groups:
                crops.setdefault(int(image.identity[0]), []).append(image.open())
        self.people = list(crops.values())
        self.drawn = self._pairable(batch) if sampling == "pairs" else np.arange(len(self.scenes))
        groups = [self.scenes[row].group for row in self.drawn]
        sizes = np.bincount(groups, minlength=len(weights))
        shares = np.array([weights[group] / sizes[group] for group in groups])
        self.cumulative = np.cumsum(shares / shares.sum())
        self.shapes = [fitted_size(round(1e4 * a), 10_000, size) for a in aspects] or [size]
        self.batch, self.augmentation, self.sampling = batch, augmentation, sampling
        self.collage_share = collage_share if self.people else 0.0
        self.seed, self.skip_bad = seed, skip_bad
        self.first_step = 0

    def _pairable(self, batch: int) -> IntArray:
        """Rows of frames that are followed by another frame of their sequence."""
        share_of_batch(batch, 1, "pairs")
        follows = [
            bool(first.sequence)
            and (first.sequence, first.group) == (second.sequence, second.group)
            for first, second in zip(self.scenes[:-1], self.scenes[1:], strict=True)
        ]
        rows = np.nonzero(np.array(follows, bool))[0]
        if not len(rows):
            raise ValueError(
                "sampling: got pairs, but no source has two frames of one video (of a list: "
                "`video: true` says that its pictures are frames)"
            )
        return rows

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that draw as many images as the set holds."""
        return max(1, len(self.scenes) // self.batch)

    def from_step(self, step: int) -> TrainingSet:
        """The same stream, which starts with the batch of that step."""
        stream = copy(self)  # the images are shared
        stream.first_step = step
        return stream

    def __iter__(self) -> Iterator[list[Example]]:
        worker: Any = torch.utils.data.get_worker_info()
        cv2.setNumThreads(1)
        step = self.first_step + (worker.id if worker else 0)
        while True:
            yield self.batch_at(step)
            step += worker.num_workers if worker else 1

    def batch_at(self, step: int, rank: int = 0, num_ranks: int = 1) -> list[Example]:
        """The part of a step's batch for trainer `rank` of `num_ranks`.

        All images of a step have one size.
        """
        rng = np.random.default_rng((self.seed, step))
        shape = self.shapes[rng.integers(len(self.shapes))]
        shrink = self.augmentation.multi_scale[rng.integers(len(self.augmentation.multi_scale))]
        width, height = (max(32, round(side * shrink / 32) * 32) for side in shape)
        rows = self._rows(step, rng)
        share = share_of_batch(self.batch, num_ranks, self.sampling)
        mine = rows[rank * share : (rank + 1) * share]
        rng = np.random.default_rng((self.seed, step, 1 + rank))
        return [self.example(int(row), width, height, rng) for row in mine]

    def _rows(self, step: int, rng: np.random.Generator) -> IntArray:
        """Rows of the scenes from which a step's images are made."""
        if self.sampling == "epoch":
            epoch, number = divmod(step, self.steps_per_epoch)
            order = np.random.default_rng((self.seed, epoch, 2, 0)).permutation(len(self.scenes))
            rows: IntArray = np.resize(order, self.batch * self.steps_per_epoch)
            return rows[number * self.batch : (number + 1) * self.batch]
        if self.sampling == "pairs":
            firsts = [self._draw(rng) for _ in range(self.batch // 2)]
            return np.array([row for first in firsts for row in (first, first + 1)])
        return np.array([self._draw(rng) for _ in range(self.batch)])

    def _draw(self, rng: np.random.Generator) -> int:
        place = int(np.searchsorted(self.cumulative, rng.random()))
        return int(self.drawn[min(place, len(self.drawn) - 1)])

    def _open(self, row: int, rng: np.random.Generator) -> LabelledImage:
        try:
            return self.scenes[row].open()
        except ValueError as error:
            if not self.skip_bad:
                raise
            logger.warning("%s; another one takes its place", error)
            return self._open(self._draw(rng), rng)

    def example(self, row: int, width: int, height: int, rng: np.random.Generator) -> Example:
        """One augmented image of `(height, width)`: a scene, a mosaic or a collage of crops."""
        kind = rng.random()
        if kind < self.collage_share:
            return self._collage(width, height, rng)
        if kind < self.collage_share + self.augmentation.mosaic * (1 - self.collage_share):
            example = self._mosaic(row, width, height, rng)
        else:
            example = self._scene(self._open(row, rng), width, height, rng)
        if self.augmentation.copy_paste and rng.random() < self.augmentation.copy_paste:
            donor, crowding = self._open(self._draw(rng), rng), self.augmentation.crowding
            example = paste_people(example, donor, rng, self.augmentation.pasted, crowding)
        return example

    def _scene(
        self, labelled: LabelledImage, width: int, height: int, rng: np.random.Generator
    ) -> Example:
        if self.augmentation.published:
            return published_view(labelled, width, height, self.augmentation, rng)
        image, tlbr = warp(labelled, width, height, self.augmentation, rng)
        example = Example(
            jitter_colour(image, self.augmentation, rng),
            tlbr,
            labelled.identity,
            labelled.ignore,
            labelled.appearance,
            True,
            labelled.origin,
        )
        return clipped(example, 0, 0, width, height, self.augmentation)

    def _mosaic(self, row: int, width: int, height: int, rng: np.random.Generator) -> Example:
        x = int(rng.uniform(0.3, 0.7) * width)
        y = int(rng.uniform(0.3, 0.7) * height)
        parts = []
        canvas = np.empty((height, width, 3), np.uint8)
        rows = [row, *(self._draw(rng) for _ in range(3))]
        places = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
        for one, (left, top, right, bottom) in zip(rows, places, strict=True):
            part = self._scene(self._open(one, rng), right - left, bottom - top, rng)
            canvas[top:bottom, left:right] = part.image
            shift = np.array([left, top, left, top], np.float32)
            parts.append(replace(part, tlbr=part.tlbr + shift))
        return Example(
            canvas,
            np.concatenate([p.tlbr for p in parts]),
            np.concatenate([p.identity for p in parts]),
            np.concatenate([p.ignore for p in parts]),
            np.concatenate([p.appearance for p in parts]),
            True,
            " + ".join(dict.fromkeys(p.origin for p in parts)),
        )

    def _collage(self, width: int, height: int, rng: np.random.Generator) -> Example:
        """A grid of cut-out people, two pictures of each, which teaches only appearance."""
        tall = int(np.exp(rng.uniform(np.log(min(48, height / 2)), np.log(height / 1.6))))
        wide = max(16, int(tall * rng.uniform(0.4, 0.55)))
        columns, rows = width // wide, height // tall
        places = [(c * wide, r * tall) for r in range(rows) for c in range(columns)]
        rng.shuffle(places)
        canvas = np.full((height, width, 3), PAD_VALUE, np.uint8)
        tlbr, identity, appearance = [], [], []
        for left, top in places[:40]:
            person = self.people[rng.integers(len(self.people))]
            crop = person[rng.integers(len(person))]
            picture = crop.image[:, ::-1] if rng.random() < 0.5 else crop.image
            resized = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_AREA)
            coloured = jitter_colour(np.asarray(resized, np.uint8), self.augmentation, rng)
            canvas[top : top + tall, left : left + wide] = coloured
            tlbr.append((left, top, left + wide, top + tall))
            identity.append(int(crop.identity[0]))
            appearance.append(crop.appearance[0])
        return Example(
            canvas,
            np.array(tlbr, np.float32),
            np.array(identity),
            np.zeros(len(tlbr), bool),
            np.array(appearance, np.float32),
            False,
        )


def collate(examples: list[Example]) -> Batch:
    """Images and labels of one step."""
    counts = [len(e.tlbr) for e in examples]
    images = torch.from_numpy(np.stack([e.image for e in examples]))
    labels = Labels(
        image=torch.from_numpy(np.repeat(np.arange(len(examples)), counts)),
        tlbr=torch.from_numpy(np.concatenate([e.tlbr for e in examples])).float(),
        identity=torch.from_numpy(np.concatenate([e.identity for e in examples])).long(),
        ignore=torch.from_numpy(np.concatenate([e.ignore for e in examples])),
        appearance=torch.from_numpy(np.concatenate([e.appearance for e in examples])).float(),
        learns_detection=torch.tensor([e.learns_detection for e in examples]),
    )
    return Batch(images, labels, tuple(e.origin for e in examples))
