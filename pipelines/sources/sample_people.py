"""People cut out of videos: what a re-identification network is calibrated on."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.cards import DEFAULT_WEIGHTS
from jde_ray.models.letterbox import Letterbox
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.networks import load_network
from jde_ray.pipelines.sources.sample_frames import sample_frames

_FRAMES = 170
_FRAME_SIZE = (1088, 608)  # larger than the network's usual input, so that crops are sharp
_LEAST_HEIGHT = 32  # of a person in such a frame, in pixels


def sample_people(
    sources: Sequence[str], size: tuple[int, int], number: int
) -> list[NDArray[np.uint8]]:
    """At most `number` people, evenly over those that the default model finds in some frames.

    Args:
        sources: Videos, folders or patterns, as `find_videos` takes them.
        size: Width and height of the crops in pixels.
        number: People in all.

    Returns:
        `(H, W, 3)` uint8 RGB crops, stretched to the size.

    Raises:
        ValueError: If there are no videos, one cannot be read, or nobody is found.
    """
    config = DetectionConfig(weights=DEFAULT_WEIGHTS, size=_FRAME_SIZE, precision="fp32")
    model = load_network(config, ResourceConfig(device="cpu", torch_threads=1))
    whole = Letterbox(*_FRAME_SIZE, *_FRAME_SIZE)
    people: list[NDArray[np.uint8]] = []
    for frame in sample_frames(sources, _FRAME_SIZE, _FRAMES):
        (found,) = model.detect(frame[None], [whole])
        for x1, y1, x2, y2 in np.rint(found.tlbr).astype(int).clip(0).tolist():
            crop = frame[y1:y2, x1:x2]
            if crop.shape[0] >= _LEAST_HEIGHT and crop.shape[1] >= 2:
                people.append(np.asarray(cv2.resize(crop, size), np.uint8))
    if not people:
        raise ValueError(f"nobody was found in {', '.join(sources)}, expected videos of people")
    chosen = np.linspace(0, len(people) - 1, min(number, len(people))).round().astype(int)
    return [people[place] for place in chosen]
