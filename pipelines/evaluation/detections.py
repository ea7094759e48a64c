"""Detections and their embeddings against ground truth, from what `--save-detections` left.

Embeddings are judged over ground-truth boxes: a box takes the embedding of the detection that
found it (IoU of at least .5, pairs of greatest sum), and boxes that nobody found have none: these
are the embeddings that the association sees. The published protocol reads the network at every
box instead, found or not: `pipelines.evaluation.embedding_protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.detection import DetectionScores, score_detections
from jde_ray.models.metrics.distractors import IOU_THRESHOLD, on_distractor
from jde_ray.models.metrics.embedding import EmbeddingScores, score_embeddings
from jde_ray.models.metrics.rows import BoxRows, by_frame
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.evaluation.frames_seen import frames_seen
from jde_ray.pipelines.formats.mot import GroundTruth, read_scored
from jde_ray.pipelines.formats.track_files import Pairing, TruthRules, read_truth
from scipy.optimize import linear_sum_assignment

OVERALL = "OVERALL"


@dataclass(frozen=True)
class DetectionRows:
    """Detections of a sequence, a row each.

    Attributes:
        rows: Their frames and boxes; ids are row numbers.
        scores: `(n,)`.
        embeddings: `(n, D)` float16, None where the file has none.
    """

    rows: BoxRows
    scores: FloatArray
    embeddings: FloatArray | None


@dataclass(frozen=True)
class ImageBoxes:
    """Boxes a frame: `(n, 4)` of people, `(m, 4)` found and their `(m,)` scores."""

    truths: list[FloatArray]
    boxes: list[FloatArray]
    scores: list[FloatArray]


@dataclass(frozen=True)
class KnownEmbeddings:
    """`(n, D)` float16 embeddings of people, and the `(n,)` ids of the ground truth."""

    embeddings: FloatArray
    identities: IntArray


def read_detections(path: Path) -> DetectionRows:
    """Detections from a file of `detections/`, or from a MOT `det.txt`.

    Raises:
        ValueError: If they cannot be read, in one line with the file.
    """
    if path.suffix != ".parquet":
        scored = read_scored(path)
        return DetectionRows(_numbered(scored.rows), scored.scores, None)
    try:
        names = ["frame", "boxes", "scores"]
        has_embeddings = "embeddings" in pq.read_schema(path).names
        table = pq.read_table(path, columns=names + ["embeddings"] * has_embeddings)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a file of detections/ ({reason})") from error
    lists = {n: table.column(n).combine_chunks() for n in table.column_names if n != "frame"}
    count = lists["scores"].value_lengths().to_numpy()
    frame = np.repeat(table.column("frame").to_numpy().astype(np.int64), count)
    tlbr = lists["boxes"].flatten().flatten().to_numpy().astype(np.float64).reshape(-1, 4)
    scores = lists["scores"].flatten().to_numpy().astype(np.float64)
    if not (np.isfinite(tlbr).all() and np.isfinite(scores).all()):
        raise ValueError(f"{path}: got NaN or Inf, accepted are finite boxes and scores")
    embeddings = None
    if has_embeddings:
        content = b"".join(lists["embeddings"].flatten().to_pylist())
        embeddings = np.frombuffer(content, np.float16).reshape(len(scores), -1 if content else 0)
    return DetectionRows(BoxRows(frame, np.arange(len(scores)), tlbr), scores, embeddings)


def _numbered(rows: BoxRows) -> BoxRows:
    return BoxRows(rows.frame, np.arange(len(rows)), rows.tlbr)


def collect_boxes(pairing: Pairing, rules: TruthRules = TruthRules()) -> ImageBoxes:
    """People and detections of a sequence, frame by frame; those on distractors are left out.

    Of a run that was told to look at some frames, these count.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    truth = read_truth(truth_of(pairing), rules)
    seen = frames_seen(pairing.tracks)
    return image_boxes(
        truth if seen is None else seen.truth(truth), read_detections(pairing.tracks)
    )


def image_boxes(truth: GroundTruth, found: DetectionRows) -> ImageBoxes:
    """The same of rows in memory."""
    keep = ~on_distractor(truth.people, found.rows, truth.ignore, truth.other)
    rows, scores = found.rows[keep], found.scores[keep]
    images = ImageBoxes([], [], [])
    for _, (i, j) in by_frame(truth.people, rows):
        images.truths.append(truth.people.tlbr[i])
        images.boxes.append(rows.tlbr[j])
        images.scores.append(scores[j])
    return images


def collect_embeddings(pairing: Pairing, rules: TruthRules = TruthRules()) -> KnownEmbeddings:
    """Embeddings of the detections that found somebody, with that person's id.

    Raises:
        ValueError: If a file cannot be read or has no embeddings, in one line.
    """
    truth = read_truth(truth_of(pairing), rules)
    found = read_detections(pairing.tracks)
    if found.embeddings is None:
        raise ValueError(
            f"{pairing.tracks}: no embeddings, accepted are files of detections/ of a run whose"
            " network gives them"
        )
    taken, identities = [], []
    for _, (i, j) in by_frame(truth.people, found.rows):
        iou = iou_matrix(truth.people.tlbr[i], found.rows.tlbr[j])
        iou[iou < IOU_THRESHOLD] = 0
        rows, columns = linear_sum_assignment(-iou)
        matched = iou[rows, columns] > 0
        taken.append(j[columns[matched]])
        identities.append(truth.people.track_id[i[rows[matched]]])
    nothing = np.zeros(0, np.int64)
    return KnownEmbeddings(
        found.embeddings[np.concatenate([nothing, *taken])],
        np.concatenate([nothing, *identities]),
    )


def truth_of(pairing: Pairing) -> Path:
    """Path of the ground truth.

    Raises:
        ValueError: If there is none.
    """
    if pairing.truth is None:
        raise ValueError(f"gt: no ground truth of {pairing.name}")
    return pairing.truth


def detection_scores(images: Mapping[str, ImageBoxes]) -> dict[str, DetectionScores]:
    """Average precision by sequence, and `OVERALL` with all frames ranked together."""
    parts = dict(images)
    whole = ImageBoxes(
        [box for one in parts.values() for box in one.truths],
        [box for one in parts.values() for box in one.boxes],
        [score for one in parts.values() for score in one.scores],
    )
    return {
        name: score_detections(one.truths, one.boxes, one.scores)
        for name, one in (parts | {OVERALL: whole}).items()
    }


def embedding_scores(known: Mapping[str, KnownEmbeddings]) -> dict[str, EmbeddingScores]:
    """TPR at FAR by sequence, and `OVERALL` with people of different sequences told apart too.

    Raises:
        ValueError: If embeddings of two sequences differ in width.
    """
    widths = {one.embeddings.shape[1] for one in known.values() if len(one.embeddings)}
    if len(widths) > 1:
        raise ValueError(f"embeddings: got widths {sorted(widths)}, accepted is one")
    scores, offset, identities = {}, 0, []
    for name, one in known.items():
        scores[name] = score_embeddings(one.embeddings, one.identities)
        _, own = np.unique(one.identities, return_inverse=True)
        identities.append(own + offset)
        offset += int(own.max(initial=-1)) + 1
    filled = [one.embeddings for one in known.values() if len(one.embeddings)]
    vectors = np.concatenate(filled) if filled else np.zeros((0, 0), np.float16)
    scores[OVERALL] = score_embeddings(
        vectors, np.concatenate([np.zeros(0, np.int64), *identities])
    )
    return scores
