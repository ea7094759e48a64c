"""Batches for training: scenes, mosaics of scenes, collages of cut-out people."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch

from models.jde.assignment import Labels
from models.letterbox import PAD_VALUE, fitted_size
from pipelines.augmentation import Augmentation, Example, clipped, jitter_colour, warp
from pipelines.labelled_images import LabelledImage


class TrainingSet(torch.utils.data.IterableDataset[list[Example]]):
    """An endless stream of augmented batches, drawn by source weight.

    Args:
        images: All labelled images; those of `crops` groups teach appearance only.
        weights: One a group.
        crop_groups: Groups whose images are cut-out people.
        size: Width and height of the largest batch; every second batch is 3/4 of it.
        aspects: Widths over heights of frames to come, since inputs follow the video's shape
            (`models.letterbox.fitted_size`). A batch takes one of them; none means that of `size`.
        batch: Images in a batch.
        augmentation: Ranges.
        collage_share: Share of the images that are collages of crops.
        seed: Of worker 0.
    """

    def __init__(
        self,
        images: list[LabelledImage],
        weights: list[float],
        crop_groups: set[int],
        *,
        size: tuple[int, int],
        aspects: Sequence[float] = (),
        batch: int,
        augmentation: Augmentation,
        collage_share: float,
        seed: int,
    ) -> None:
        self.scenes = [image for image in images if image.group not in crop_groups]
        crops: dict[int, list[LabelledImage]] = {}
        for image in images:
            if image.group in crop_groups:
                crops.setdefault(int(image.identity[0]), []).append(image)
        self.people = list(crops.values())
        sizes = np.bincount([image.group for image in self.scenes], minlength=len(weights))
        shares = np.array([weights[i.group] / sizes[i.group] for i in self.scenes])
        self.cumulative = np.cumsum(shares / shares.sum())
        self.shapes = [fitted_size(round(1e4 * a), 10_000, size) for a in aspects] or [size]
        self.batch, self.augmentation = batch, augmentation
        self.collage_share = collage_share if self.people else 0.0
        self.seed = seed

    def __iter__(self) -> Iterator[list[Example]]:
        worker: Any = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        cv2.setNumThreads(1)
        while True:
            shrink = 1.0 if rng.random() < 0.5 else 0.78
            shape = self.shapes[rng.integers(len(self.shapes))]
            width, height = (max(32, round(side * shrink / 32) * 32) for side in shape)
            yield [self.example(width, height, rng) for _ in range(self.batch)]

    def _draw(self, rng: np.random.Generator) -> LabelledImage:
        row = int(np.searchsorted(self.cumulative, rng.random()))
        return self.scenes[min(row, len(self.scenes) - 1)]

    def example(self, width: int, height: int, rng: np.random.Generator) -> Example:
        """One augmented image of `(height, width)`: a scene, a mosaic or a collage."""
        kind = rng.random()
        if kind < self.collage_share:
            return self._collage(width, height, rng)
        if kind < self.collage_share + self.augmentation.mosaic * (1 - self.collage_share):
            return self._mosaic(width, height, rng)
        return self._scene(self._draw(rng), width, height, rng)

    def _scene(
        self, labelled: LabelledImage, width: int, height: int, rng: np.random.Generator
    ) -> Example:
        image, tlbr = warp(labelled, width, height, self.augmentation, rng)
        example = Example(
            jitter_colour(image, self.augmentation, rng),
            tlbr,
            labelled.identity,
            labelled.ignore,
            labelled.appearance,
            True,
        )
        return clipped(example, 0, 0, width, height, self.augmentation)

    def _mosaic(self, width: int, height: int, rng: np.random.Generator) -> Example:
        x = int(rng.uniform(0.3, 0.7) * width)
        y = int(rng.uniform(0.3, 0.7) * height)
        parts = []
        canvas = np.empty((height, width, 3), np.uint8)
        for left, top, right, bottom in (
            (0, 0, x, y),
            (x, 0, width, y),
            (0, y, x, height),
            (x, y, width, height),
        ):
            part = self._scene(self._draw(rng), right - left, bottom - top, rng)
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
        )

    def _collage(self, width: int, height: int, rng: np.random.Generator) -> Example:
        """A grid of cut-out people, two pictures of each: appearance only."""
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


def collate(examples: list[Example]) -> tuple[torch.Tensor, Labels]:
    """Images `(B, H, W, 3)` uint8 and the labels of a batch."""
    counts = [len(e.tlbr) for e in examples]
    return torch.from_numpy(np.stack([e.image for e in examples])), Labels(
        image=torch.from_numpy(np.repeat(np.arange(len(examples)), counts)),
        tlbr=torch.from_numpy(np.concatenate([e.tlbr for e in examples])).float(),
        identity=torch.from_numpy(np.concatenate([e.identity for e in examples])).long(),
        ignore=torch.from_numpy(np.concatenate([e.ignore for e in examples])),
        appearance=torch.from_numpy(np.concatenate([e.appearance for e in examples])).float(),
        learns_detection=torch.tensor([e.learns_detection for e in examples]),
    )
