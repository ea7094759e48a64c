"""Batches of crops: several sightings of several people, the same for a step in every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from jde_ray.models.structures import IntArray
from jde_ray.pipelines.training.crop_settings import CropConfig
from jde_ray.pipelines.training.data.crop_views import NUM_CHANCES
from jde_ray.pipelines.training.data.crops import CropTable, cut_crops
from jde_ray.pipelines.training.data.labelled_image import TrainingImage
from jde_ray.pipelines.training.recipe import Recipe

_TRIES = 20  # people drawn at a time, and draws of sources for each person of a batch


@dataclass(frozen=True)
class CropBatch:
    """Crops of one step, before their views are made.

    Attributes:
        pixels: `(B, 3, H, W)` uint8 with their surroundings, on the table's device.
        chances: `(B, NUM_CHANCES)` float32 in [0, 1), from which the views are made.
        identity: `(B,)` int64, -1 for unknown.
        teacher: `(B, E)` float32.
        origins: File of each crop, for error messages.
    """

    pixels: Tensor
    chances: Tensor
    identity: Tensor
    teacher: Tensor
    origins: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.identity)

    def inputs(self, device: torch.device) -> tuple[Tensor, ...]:
        """Arguments of the trainee, on its device."""
        parts = (self.pixels, self.chances, self.identity, self.teacher)
        return tuple(part.to(device, non_blocking=True) for part in parts)


class CropStream:
    """An endless stream of batches, each of which depends only on seed and step.

    Args:
        table: The crops.
        weights: Weight of each source when people are drawn.
        config: How people and sightings are drawn.
        batch: Crops per step.
        seed: Seed of all random numbers.

    Raises:
        ValueError: If the batch holds fewer than two people.
    """

    def __init__(
        self,
        table: CropTable,
        weights: Sequence[float],
        config: CropConfig,
        *,
        batch: int,
        seed: int = 0,
    ) -> None:
        self.table, self.config, self.batch, self.seed = table, config, batch, seed
        self.unknown = np.flatnonzero(table.identity < 0)
        self.num_unknown = round(batch * config.unknown) if len(self.unknown) else 0
        self.num_people = (batch - self.num_unknown) // config.sightings
        if self.num_people < 2:
            text = f"expected two people or more of {config.sightings} crops each"
            raise ValueError(f"batch: got {batch} with {self.num_unknown} unknown ones, {text}")
        known = np.flatnonzero(table.identity >= 0)
        order = known[np.argsort(table.identity[known], kind="stable")]  # by person, then time
        ends = np.cumsum(np.bincount(table.identity[known], minlength=table.num_identities))
        self.sightings = np.split(order, ends[:-1])
        by_group: dict[int, list[int]] = {}
        for person, rows in enumerate(self.sightings):
            by_group.setdefault(int(table.group[rows[0]]), []).append(person)
        self.groups = [np.array(people) for people in by_group.values()]
        shares = np.array([weights[group] for group in by_group], np.float64)
        self.cumulative = np.cumsum(shares / shares.sum())

    @property
    def num_identities(self) -> int:
        """People that are told apart."""
        return self.table.num_identities

    @property
    def steps_per_epoch(self) -> int:
        """Number of steps that draw as many crops of known people as there are."""
        drawn = self.num_people * self.config.sightings
        return max(1, sum(len(rows) for rows in self.sightings) // drawn)

    def to(self, device: torch.device) -> CropStream:
        """The same stream with its crops on a device."""
        stream = copy(self)
        stream.table = self.table.to(device)
        return stream

    def from_step(self, step: int) -> Iterator[tuple[int, CropBatch]]:
        """Steps and their batches, from a step on."""
        while True:
            yield step, self.batch_at(step)
            step += 1

    def batch_at(self, step: int) -> CropBatch:
        """The batch of a step: K crops in a row of each of P people, then the unknown ones."""
        rng = np.random.default_rng((self.seed, step))
        rows = [self._sightings_of(person, rng) for person in self._people(rng)]
        if self.num_unknown:
            rows.append(rng.choice(self.unknown, self.num_unknown))
        chosen = np.concatenate(rows)
        table = self.table
        places = torch.from_numpy(chosen).to(table.pixels.device)
        return CropBatch(
            table.pixels[places],
            torch.from_numpy(rng.random((len(chosen), NUM_CHANCES), np.float32)),
            torch.from_numpy(table.identity[chosen]),
            table.teacher[places],
            tuple(table.origins[row] for row in chosen),
        )

    def _people(self, rng: np.random.Generator) -> list[int]:
        """P people, `neighbours` of one source in a row; nobody twice, if there are enough."""
        people: dict[int, None] = {}
        for _ in range(_TRIES * self.num_people):
            place = int(np.searchsorted(self.cumulative, rng.random()))
            group = self.groups[min(place, len(self.groups) - 1)]
            until = min(self.num_people, len(people) + self.config.neighbours)
            for person in rng.choice(group, min(_TRIES, len(group)), replace=False).tolist():
                if len(people) == until:
                    break
                people[person] = None
            if len(people) == self.num_people:
                return [*people]
        # sources are smaller than the batch: take people whatever their source's weight
        rest = [p for p in rng.permutation(self.num_identities).tolist() if p not in people]
        found: list[int] = np.resize([*people, *rest], self.num_people).tolist()
        return found

    def _sightings_of(self, person: int, rng: np.random.Generator) -> IntArray:
        """K crops, different ones if there are as many, and rather far apart in time."""
        rows = self.sightings[person]
        number = self.config.sightings
        if len(rows) <= number:
            return np.resize(rng.permutation(rows), number)
        order = rng.permutation(len(rows)).tolist()
        chosen = [order.pop()]
        for decides in rng.random(number - 1):
            candidate = order.pop()
            if order and decides < self.config.far:
                other = order.pop()
                if self._distance(rows, other, chosen) > self._distance(rows, candidate, chosen):
                    candidate, other = other, candidate
                order.insert(0, other)
            chosen.append(candidate)
        return rows[chosen]

    def _distance(self, rows: IntArray, place: int, chosen: list[int]) -> int:
        """Time from a sighting to the nearest of those that are chosen already."""
        times = self.table.time
        return int(np.abs(times[rows[chosen]] - times[rows[place]]).min())


def build_crop_stream(images: Sequence[TrainingImage], recipe: Recipe) -> CropStream:
    """The stream of a recipe's re-identification network.

    Args:
        images: Images of all its sources, with unique identities and the teacher's own vectors.
        recipe: The recipe.

    Raises:
        ValueError: If there are not two people to tell apart, or the batch cannot hold two.
    """
    return CropStream(
        cut_crops(images, recipe.crops, recipe.reid_config.size),
        [source.weight for source in recipe.sources],
        recipe.crops,
        batch=recipe.training.batch,
        seed=recipe.training.seed,
    )
