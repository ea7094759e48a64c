"""Scores the detections of `--save-detections`, and their embeddings, against ground truth.

A ground-truth box takes the embedding of its matched detection (IoU of at least .5, largest sum of
IoU); boxes without a match have none. These are the embeddings that the association sees. The
published protocol reads the network at every box instead, found or not:
`pipelines.evaluation.embedding_protocol`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from jde_ray.models.metrics.detection import DetectionScores, score_detections
from jde_ray.models.metrics.distractors import on_distractor
from jde_ray.models.metrics.rows import by_frame
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.evaluation.frames_seen import frames_seen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.detections import DetectionRows, read_detections
from jde_ray.pipelines.formats.mot import GroundTruth

OVERALL = "OVERALL"


@dataclass(frozen=True)
class ImageBoxes:
    """Lists with one item per frame: `(n, 4)` people, `(m, 4)` detections, their `(m,)` scores."""

    truths: list[FloatArray]
    boxes: list[FloatArray]
    scores: list[FloatArray]


def collect_boxes(pairing: Pairing, rules: TruthRules = TruthRules()) -> ImageBoxes:
    """People and detections of a sequence, frame by frame; those on distractors are left out.

    If the run processed only some frames, only these count.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    truth = read_truth(truth_of(pairing), rules)
    seen = frames_seen(pairing.predictions)
    return image_boxes(
        truth if seen is None else seen.truth(truth), read_detections(pairing.predictions)
    )


def image_boxes(truth: GroundTruth, found: DetectionRows) -> ImageBoxes:
    """People and detections frame by frame, like `collect_boxes`, from data in memory."""
    keep = ~on_distractor(truth.people, found.rows, truth.ignore, truth.other)
    rows, scores = found.rows[keep], found.scores[keep]
    images = ImageBoxes([], [], [])
    for _, (i, j) in by_frame(truth.people, rows):
        images.truths.append(truth.people.tlbr[i])
        images.boxes.append(rows.tlbr[j])
        images.scores.append(scores[j])
    return images


def truth_of(pairing: Pairing) -> Path:
    """Path of the ground truth.

    Raises:
        ValueError: If the pairing has none.
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
