"""A rendered street of eight small frames, and networks that cost nothing, for comparisons."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jde_ray.jobs.bench.paper.combinations import Embedder, Finder
from jde_ray.models.structures import Described, Detections
from jde_ray.pipelines.config import DetectionConfig, TrackConfig

FRAMES = TrackConfig(detection=DetectionConfig(size=(192, 96)))
BOXES = np.array([[20.0, 20, 40, 80], [90, 20, 110, 80], [150, 20, 170, 80]], np.float32)


def render(folder: Path, num_frames: int = 8) -> Path:
    """Render the street as a video with its truth."""
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.video.synthetic import render_street

    scene = StreetScene(3, width=192, height=96, num_people=4, num_frames=num_frames)
    render_street(scene, folder / "little.mp4", folder / "little")
    return folder


@dataclass
class Calls:
    """Counts the calls of networks, by their name."""

    count: Counter[str] = field(default_factory=Counter)
    crops: dict[str, list[np.ndarray]] = field(default_factory=dict)

    def finder(self, name: str, people: int, *, is_joint: bool) -> Finder:
        """A detector that finds the first few of `BOXES` in every frame."""

        def find(chunk):
            self.count[name] += 1
            looks = np.eye(3, 4 if is_joint else 0, dtype=np.float32)[:people]
            return Detections(BOXES[:people], np.full(people, 0.9, np.float32), looks)

        return Finder(name, FRAMES, find, is_joint)

    def embedder(self, name: str) -> Embedder:
        """An embedder that keeps the boxes that it was given."""

        def embed(chunk, tlbr):
            self.count[name] += 1
            self.crops.setdefault(name, []).append(tlbr)
            return Described(np.eye(len(tlbr), 5, dtype=np.float32))

        return Embedder(name, FRAMES, embed)
