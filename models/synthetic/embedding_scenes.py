"""Seeded scenes for the association: boxes, scores and embeddings of people, without pixels.

The published tracker's speed was measured on the scenes `t20`, `t100` and `t300`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import Detections, FloatArray


@dataclass(frozen=True)
class EmbeddingScene:
    """Settings of a scene of embeddings.

    Attributes:
        seed: Seed of the PCG64 generator.
        num_people: Number of people in the scene, visible or not.
        num_frames: Length of the scene.
        embedding_dim: D, length of an embedding.
        width: Frame width in pixels.
        height: Frame height in pixels.
        miss: Share of visible people that are not detected.
        false_positives: Mean number per frame.
        dense: Whether people are small, always present, never hidden and without look-alikes.

    Raises:
        ValueError: If a scene that is not dense has fewer than 2 people or 11 frames.
    """

    seed: int
    num_people: int
    num_frames: int
    embedding_dim: int = 512
    width: int = 1920
    height: int = 1080
    miss: float = 0.03
    false_positives: float = 0.5
    dense: bool = True

    def __post_init__(self) -> None:
        if not self.dense and (self.num_people < 2 or self.num_frames < 11):
            raise ValueError(
                f"scene: got {self.num_people} people, {self.num_frames} frames, "
                "expected at least 2 and 11"
            )


SCENES = {
    "crossing": EmbeddingScene(
        11, 30, 300, embedding_dim=128, miss=0.08, false_positives=1.0, dense=False
    ),
    "t20": EmbeddingScene(21, 20, 100),
    "t100": EmbeddingScene(22, 100, 60),
    "t300": EmbeddingScene(23, 300, 30, width=3840, height=2160),
}
_BOX_NOISE = 0.02  # as a share of the height
_EMBEDDING_NOISE = 0.45


def build_scene(scene: EmbeddingScene) -> list[Detections]:
    """Detections of every frame; embeddings are rounded to float16 and returned as float32."""
    # the order of the draws must not change: a scene is identified by its seed
    rng, count = np.random.Generator(np.random.PCG64(scene.seed)), scene.num_people
    extent = np.array([scene.width, scene.height])
    height = rng.uniform(80, 300, count) * (0.5 if scene.dense else 1)
    width = height * rng.uniform(0.36, 0.46, count)
    across = rng.uniform(0, scene.width, count)
    foot = np.stack([across, rng.uniform(0.3 * extent[1], 0.95 * extent[1], count)], 1)
    velocity = np.stack([rng.normal(0, 3, count), rng.normal(0, 0.8, count)], 1)
    looks = _unit(rng.standard_normal((count, scene.embedding_dim)))
    absent = np.zeros((count, scene.num_frames + 1), bool)
    if not scene.dense:
        twin = looks[0] + 0.35 * _embedding_noise(rng, 1, scene.embedding_dim)[0]
        looks[1] = twin / np.linalg.norm(twin)
        for person in range(count):
            for _ in range(int(rng.integers(0, 3))):
                start = int(rng.integers(10, scene.num_frames))
                absent[person, start : start + int(rng.integers(3, 50))] = True
    frames = []
    for number in range(1, scene.num_frames + 1):
        velocity += rng.normal(0, 0.15, (count, 2))
        foot = foot + velocity
        velocity[(foot < 0) | (foot > extent)] *= -1
        foot = np.clip(foot, 0, extent)
        half = width / 2
        box = np.stack([foot[:, 0] - half, foot[:, 1] - height, foot[:, 0] + half, foot[:, 1]], 1)
        frames.append(_observe(scene, rng, box, looks, absent[:, number]))
    return frames


def _observe(
    scene: EmbeddingScene,
    rng: np.random.Generator,
    box: FloatArray,
    looks: FloatArray,
    absent: NDArray[Any],
) -> Detections:
    count, dim = looks.shape
    size = box[:, 2:] - box[:, :2]
    shared = np.minimum(box[:, None, 2:], box[None, :, 2:])
    shared -= np.maximum(box[:, None, :2], box[None, :, :2])
    cover = np.clip(shared, 0, None).prod(2) / size.prod(1)[:, None]
    hidden = (cover * (box[None, :, 3] > box[:, None, 3])).max(1)
    lucky, lucky_behind = rng.random(count), rng.random(count)
    seen = (lucky > scene.miss) & ~absent
    if not scene.dense:
        seen &= ~((hidden > 0.6) & (lucky_behind < 0.85))
    noisy = box + rng.normal(0, 1, (count, 4)) * (_BOX_NOISE * size[:, 1])[:, None]
    scores = np.asarray(rng.uniform(0.5, 0.99, count))
    noise = _embedding_noise(rng, count, dim) * _EMBEDDING_NOISE
    embeddings: FloatArray = looks + noise * (1 + 1.5 * hidden[:, None])
    index = np.flatnonzero(seen)
    index = index[np.argsort(-scores[index], kind="stable")]

    false = int(rng.poisson(scene.false_positives))
    tall = np.asarray(rng.uniform(60, 250, false))
    wide = tall * rng.uniform(0.3, 0.9, false)
    left, top = rng.uniform(0, scene.width, false), rng.uniform(0, scene.height, false)
    false_scores = rng.uniform(0.5, 0.8, false)
    false_box = np.stack([left, top, left + wide, top + tall], 1)
    vectors = _unit(np.concatenate([embeddings[index], rng.standard_normal((false, dim))]))
    return Detections(
        np.concatenate([noisy[index], false_box]).astype(np.float32),
        np.concatenate([scores[index], false_scores]).astype(np.float32),
        vectors.astype(np.float16).astype(np.float32),
    )


def _embedding_noise(rng: np.random.Generator, count: int, dim: int) -> FloatArray:
    noise: FloatArray = rng.standard_normal((count, dim)) / np.sqrt(dim)
    return noise


def _unit(vectors: FloatArray) -> FloatArray:
    unit: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit
