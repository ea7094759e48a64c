"""Made-up videos of people whose tracks, boxes and looks are known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories


@dataclass
class Crowd:
    """Rows of people, in the order in which they were added.

    Args:
        noise: Of the embeddings, whose people are orthogonal.
        width: Of the embeddings: the number of people there can be.
    """

    noise: float = 0.15
    width: int = 16
    rows: list[tuple[int, int, int, float, float]] = field(default_factory=list)
    _dice: np.random.Generator = field(default_factory=lambda: np.random.default_rng(5))

    def walk(
        self, person: int, track_id: int, frames: range, x: float, speed: float = 0, y: float = 0
    ) -> None:
        """Sightings of a person under an id; `x` is the place at frame 0. Boxes are 20 x 40."""
        for frame in frames:
            self.rows.append((frame, track_id, person, x + speed * frame, y))

    def build(self, order: IntArray | None = None) -> tuple[Trajectories, FloatArray, IntArray]:
        """Tracks, embeddings of their source rows, and the person of each row of the tracks."""
        frame, track_id, person, x, y = np.array(self.rows, float).T
        jitter = self._dice.normal(0, 0.3, (len(frame), 4))
        tlbr = np.stack([x, y, x + 20, y + 40], axis=1) + jitter
        looks = np.eye(self.width)[person.astype(int)]
        looks = looks + self.noise * self._dice.normal(size=(len(frame), self.width))
        rows = np.arange(len(frame)) if order is None else order
        tracks = Trajectories.sort(
            frame.astype(np.int64)[rows],
            track_id.astype(np.int64)[rows],
            tlbr[rows],
            np.full(len(frame), 0.9),
        )
        return tracks, looks.astype(np.float16)[rows], person.astype(int)[rows][tracks.source]


def people_by_id(tracks: Trajectories, person: IntArray) -> dict[int, set[int]]:
    """People that each id shows."""
    return {
        int(number): set(person[tracks.track_id == number].tolist())
        for number in np.unique(tracks.track_id)
    }


def ids_by_person(tracks: Trajectories, person: IntArray) -> dict[int, set[int]]:
    """Ids that each person has."""
    return {
        int(number): set(tracks.track_id[person == number].tolist()) for number in np.unique(person)
    }
