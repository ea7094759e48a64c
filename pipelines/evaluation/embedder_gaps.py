"""How well re-identification networks know people again over gaps, at the boxes of ground truth."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import OVERALL
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings, clean_sightings, gap_table
from jde_ray.pipelines.evaluation.frame_sources import read_some_frames
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.report.tables import FigureTable

if TYPE_CHECKING:
    from jde_ray.models.sde.network import AppearanceEmbedder

LEAST_VISIBILITY = 0.2  # of a person whose box is looked at, where the ground truth says it


def embed_truth(
    sequence: Path, embedders: Mapping[str, AppearanceEmbedder], every: int = 1
) -> dict[str, KnownEmbeddings]:
    """Vectors of the people of a sequence, by embedder, each frame read once.

    Args:
        sequence: A MOTChallenge folder with `img1/` and `gt/gt.txt`.
        embedders: Opened networks by name.
        every: Take every n-th frame.

    Raises:
        ValueError: If the frames or the truth cannot be read, in one line.
    """
    path = sequence / "gt" / "gt.txt"
    try:
        truth = read_truth(path, TruthRules(min_visibility=LEAST_VISIBILITY))
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror})") from None
    chosen = truth.people.frame % every == 0
    people, clean = truth.people[chosen], clean_sightings(truth)[chosen]
    order = np.argsort(people.frame, kind="stable")
    people, clean = people[order], clean[order]
    vectors: dict[str, list[np.ndarray]] = {name: [] for name in embedders}
    wanted = set(people.frame.tolist())
    for number, picture in read_some_frames(sequence, wanted):
        wanted.discard(number)
        tlbr = people.tlbr[people.frame == number]
        for name, embedder in embedders.items():
            vectors[name].append(embedder.embed(picture, tlbr))
    if wanted:
        raise ValueError(f"{sequence}: it has no frame {min(wanted)}, expected that of the truth")
    return {
        name: _known(people, clean, vectors[name], embedder.width)
        for name, embedder in embedders.items()
    }


def _known(
    people: BoxRows, clean: np.ndarray, vectors: list[np.ndarray], width: int
) -> KnownEmbeddings:
    joined = np.concatenate([np.zeros((0, width), np.float32), *vectors])
    seen = joined.any(axis=1)  # boxes of under 2 px have no vector
    return KnownEmbeddings(joined[seen], people.track_id[seen], people.frame[seen], clean[seen])


def compare_embedders(known: Mapping[str, Mapping[str, KnownEmbeddings]]) -> FigureTable:
    """One line an embedder and range of gaps.

    Args:
        known: Vectors by sequence and embedder.
    """
    names = list(next(iter(known.values())))
    figures: dict[str, dict[str, dict[str, float]]] = {}
    for name in names:
        table = gap_table({sequence: own[name] for sequence, own in known.items()})
        assert table is not None  # noqa: S101 - the frames are known
        for sequence, lines in table.figures.items():
            of_sequence = figures.setdefault(sequence, {})
            of_sequence |= {f"{name}: {line}": dict(own) for line, own in lines.items()}
            note = table.note
    ordered = {sequence: figures[sequence] for sequence in (*known, OVERALL)}
    heading = "network: sightings, frames"
    return FigureTable("embedders", "By the frames between two sightings", heading, ordered, note)
