"""Scores the detections of `--save-detections`, and their embeddings, against ground truth.

A ground-truth box takes the embedding of its matched detection (IoU of at least .5, largest sum of
IoU); boxes without a match have none. These are the embeddings that the association sees. The
published protocol reads the network at every box instead, found or not:
`pipelines.evaluation.network_scores`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq

from jde_ray.models.metrics.detection import DetectionScores, score_detections
from jde_ray.models.metrics.detection_classes import JudgedDetections, judge_detections
from jde_ray.models.metrics.distractors import on_distractor
from jde_ray.models.metrics.rows import by_frame
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.evaluation.frames_seen import frames_seen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.detection_rows import DetectionRows, read_detections
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.formats.sequence_info import read_sequence_info, sequence_info_path
from jde_ray.pipelines.names import listed
from jde_ray.pipelines.report.tables import FigureTable

OVERALL = "OVERALL"


@dataclass(frozen=True)
class ImageBoxes:
    """People and detections of a sequence; lists have one item per frame.

    Attributes:
        truths: `(n, 4)` people.
        boxes: `(m, 4)` detections.
        scores: Their `(m,)` scores.
        visible: Visible shares of the people, `(n,)`.
        frame_size: Width and height of the frames in source pixels; None if unknown.
    """

    truths: list[FloatArray] = field(default_factory=list)
    boxes: list[FloatArray] = field(default_factory=list)
    scores: list[FloatArray] = field(default_factory=list)
    visible: list[FloatArray] = field(default_factory=list)
    frame_size: tuple[int, int] | None = None

    def judged(self) -> JudgedDetections:
        """People and detections matched. Shares that are 1 for everyone count as unknown."""
        is_known = any((shares < 1).any() for shares in self.visible)
        return judge_detections(
            self.truths,
            self.boxes,
            self.scores,
            visible=self.visible if is_known else None,
            frame_size=self.frame_size,
        )


def collect_boxes(pairing: Pairing, rules: TruthRules = TruthRules()) -> ImageBoxes:
    """People and detections of a sequence, frame by frame; those on distractors are left out.

    If the run processed only some frames, only these count.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    path = truth_of(pairing)
    truth = read_truth(path, rules)
    seen = frames_seen(pairing.predictions)
    return image_boxes(
        truth if seen is None else seen.truth(truth),
        read_detections(pairing.predictions),
        _frame_size(pairing.predictions, path),
    )


def image_boxes(
    truth: GroundTruth, found: DetectionRows, frame_size: tuple[int, int] | None = None
) -> ImageBoxes:
    """People and detections frame by frame, like `collect_boxes`, from data in memory.

    Args:
        truth: People to be found.
        found: Detections.
        frame_size: Width and height of the frames in pixels of both; None if unknown.
    """
    keep = ~on_distractor(truth.people, found.rows, truth.ignore, truth.other)
    rows, scores = found.rows[keep], found.scores[keep]
    images = ImageBoxes(frame_size=frame_size)
    for _, (i, j) in by_frame(truth.people, rows):
        images.truths.append(truth.people.tlbr[i])
        images.visible.append(truth.visibility[i])
        images.boxes.append(rows.tlbr[j])
        images.scores.append(scores[j])
    return images


def _frame_size(found: Path, truth: Path) -> tuple[int, int] | None:
    """Size of the frames, from a file of a run or the `seqinfo.ini` of a sequence; None if unknown.

    Raises:
        ValueError: If there is a `seqinfo.ini` that cannot be read.
    """
    if found.suffix == ".parquet":
        with suppress(KeyError, ValueError):  # no file of a run
            return FileFacts.of(pq.read_metadata(found)).size
    beside = truth.parent.parent / "seqinfo.ini"
    is_beside = truth.parent.name == "gt" and beside.is_file()
    place = beside if is_beside else sequence_info_path(found)
    if place is None:
        return None
    info = read_sequence_info(place)
    return info.width, info.height


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


def class_tables(images: Mapping[str, ImageBoxes]) -> list[FigureTable]:
    """Who is found, by height, by visible share and by overlap; `OVERALL` pools the sequences.

    A table lacks the sequences whose frames have no known size, or whose ground truth states no
    visible share, and names them; there is no table without any.
    """
    judged = {name: one.judged() for name, one in images.items()}
    sized = {name: one for name, one in judged.items() if one.height is not None}
    shared = {name: one for name, one in judged.items() if one.visible is not None}
    sure = "Rcll@.5 counts scores of at least .5 only."
    shapes: list[tuple[str, str, str, Mapping[str, JudgedDetections], _Figures, str]] = [
        (
            "by_height", "By height", "pixels", sized, JudgedDetections.by_height,
            f"Heights in a frame letterboxed into 576x320, whatever size the network ran at. {sure}"
            + _lacking(judged, sized, "size of the frames"),
        ),
        (
            "by_visible_share", "By visible share", "share", shared,
            JudgedDetections.by_visible_share,
            f"In every class AP counts all detections that found nobody. {sure}"
            + _lacking(judged, shared, "visible share"),
        ),
        (
            "by_overlap", "By overlap with another person", "largest IoU", judged,
            JudgedDetections.by_overlap, sure,
        ),
    ]  # fmt: skip
    tables = []
    for key, title, heading, known, figures, note in shapes:
        if known:
            first, *rest = known.values()
            lines = {name: figures(one) for name, one in known.items()}
            lines[OVERALL] = figures(sum(rest, first))
            tables.append(FigureTable(key, title, heading, lines, note, is_long=True))
    return tables


_Figures = Callable[[JudgedDetections], dict[str, dict[str, float]]]


def _lacking(whole: Mapping[str, object], known: Mapping[str, object], fact: str) -> str:
    """Sentence that names the sequences that a table lacks; empty for none."""
    missing = [name for name in whole if name not in known]
    return f" Left out, without a known {fact}: {listed(missing)}." if missing else ""
