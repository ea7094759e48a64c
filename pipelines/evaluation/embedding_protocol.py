"""Embeddings of a re-identification network at the boxes of the ground truth, from full-size crops.

Those of a network that sees whole frames: `pipelines.evaluation.network_scores`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.evaluation.detections import truth_of
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings, clean_sightings
from jde_ray.pipelines.evaluation.frame_sources import read_some_frames
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.mot import GroundTruth

if TYPE_CHECKING:
    from jde_ray.models.sde.network import AppearanceEmbedder


def embed_crops(
    pairing: Pairing,
    rules: TruthRules = TruthRules(),
    *,
    embedder: AppearanceEmbedder,
    every: int = 1,
    max_frames: int | None = None,
) -> KnownEmbeddings:
    """Embeddings of the people of the ground truth by a separate network, from full-size crops.

    Args:
        pairing: Frames (a video or an image folder) and their ground truth.
        rules: Rules for reading ground truth.
        embedder: The re-identification network.
        every: Process every n-th frame.
        max_frames: Leave out later frames; None for none.

    Raises:
        ValueError: If the frames or the truth cannot be read, in one line.
    """
    truth = FramesSeen(max_frames, 1).truth(read_truth(truth_of(pairing), rules))
    people = truth.people
    wanted = set(people.frame[people.frame % every == 0].tolist())
    vectors, identities, frames = [], [], []
    for frame, picture in read_some_frames(pairing.predictions, wanted):
        here = people[people.frame == frame]
        vectors.append(embedder.embed(picture, here.tlbr).astype(np.float16))
        identities.append(here.track_id)
        frames.append(np.full(len(here), frame))
    return _known(truth, vectors, identities, frames, embedder.width)


def _known(
    truth: GroundTruth,
    vectors: Sequence[FloatArray],
    identities: Sequence[IntArray],
    frames: Sequence[IntArray],
    width: int,
) -> KnownEmbeddings:
    """Embeddings of people, read frame by frame, with what the ground truth says of them."""
    nothing = np.zeros(0, np.int64)
    known, seen = (np.concatenate([nothing, *parts]) for parts in (identities, frames))
    clean = dict(zip(_keys(truth.people), clean_sightings(truth).tolist(), strict=True))
    return KnownEmbeddings(
        np.concatenate([np.zeros((0, width), np.float16), *vectors]),
        known,
        seen,
        np.array([clean[key] for key in zip(seen.tolist(), known.tolist(), strict=True)], bool),
    )


def _keys(people: BoxRows) -> Iterator[tuple[int, int]]:
    return zip(people.frame.tolist(), people.track_id.tolist(), strict=True)
