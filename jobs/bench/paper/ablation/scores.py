"""Scores a trained row like all others: boxes, embeddings, and tracks of the published association.

AP counts scores from .05 over all pictures ranked together; beside it stands the published code's
mean over pictures, of scores above .3. TPR at FAR .1 is read at all labelled boxes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jde_ray.models.jde.weights import load
from jde_ray.models.metrics.detection import DetectionScores
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.pipelines.config import DetectionConfig, Device, ResourceConfig, TrackConfig
from jde_ray.pipelines.evaluation.detections import OVERALL, ImageBoxes, detection_scores
from jde_ray.pipelines.evaluation.embeddings import embedding_scores
from jde_ray.pipelines.evaluation.network_scores import PUBLISHED_SCORE
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.sources.saved_tracks import find_tracks
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.training.settings import ValidationConfig
from jde_ray.pipelines.training.validation import Validation

FALSE_ACCEPT_RATE = 0.1
RECALLS = (0.3, 0.5, 0.7)  # at which false alarms per frame are compared


def score(
    weights: Path,
    config: ValidationConfig,
    root: Path,
    *,
    device: Device = "cpu",
    threads: int = 1,
    with_tracks: bool = True,
) -> dict[str, Any]:
    """Figures of a network over all sequences together, as numbers for JSON.

    Args:
        weights: File of the network.
        config: Sequences; `every` thins out AP and TPR, `max_frames` everything.
        root: Folder to which the sequences are relative.
        device: Where the network runs.
        threads: CPU threads of the network.
        with_tracks: Track too; otherwise there is no MOTA, IDF1 and IDs.

    Returns:
        `ap`, `ap_published`, `tpr`, `recall`, `false_alarms` (per frame, by recall), and `mota`,
        `idf1`, `ids`: ratios in percent, None where there is nothing to measure.

    Raises:
        VideoError: If a sequence cannot be read.
        FloatingPointError: If the network's output is not finite.
    """
    model = load(weights).eval().to("cuda" if device == "cuda" else "cpu")
    torch.set_num_threads(threads)
    validation = Validation(config, root)
    tracks = SequenceScores()
    readings = {one.name: validation.read(model, one, weights) for one in validation.for_boxes}
    boxes = {one.name: one.boxes(readings[one.name]) for one in validation.for_boxes}
    known = {one.name: one.embeddings(readings[one.name]) for one in validation.for_boxes}
    if with_tracks:
        for folder, truth in zip(validation.folders, validation.truths, strict=True):
            tracks += _tracks(weights, folder, truth, config.max_frames, device, threads)
    found = detection_scores(boxes)[OVERALL]
    above = {name: _above(one, PUBLISHED_SCORE) for name, one in boxes.items()}
    frames = sum(len(one.truths) for one in boxes.values())
    figures: dict[str, Any] = {
        "ap": 100 * found.average_precision,
        "ap_published": 100 * detection_scores(above)[OVERALL].published_mean,
        "tpr": 100 * embedding_scores(known)[OVERALL].at(FALSE_ACCEPT_RATE),
        "recall": 100 * found.recall,
    }
    if with_tracks:
        named = tracks.figures()
        figures |= {"mota": named["MOTA"], "idf1": named["IDF1"], "ids": int(named["IDs"])}
    known_figures = {name: _known(value) for name, value in figures.items()}
    return {**known_figures, "false_alarms": false_alarms(found, frames)}


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _above(images: ImageBoxes, least: float) -> ImageBoxes:
    """The images with their detections of larger scores only."""
    keep = [scores > least for scores in images.scores]
    return replace(
        images,
        boxes=[rows[mask] for rows, mask in zip(images.boxes, keep, strict=True)],
        scores=[rows[mask] for rows, mask in zip(images.scores, keep, strict=True)],
    )


def false_alarms(found: DetectionScores, num_frames: int) -> dict[str, float | None]:
    """Wrong detections per frame where the recall reaches some values; None where it never does."""
    curve = found.curve
    alarms: dict[str, float | None] = {}
    for recall in RECALLS:
        place = int(np.searchsorted(curve.recall, recall))
        alarms[f"{recall:g}"] = None
        if place < len(curve.recall):
            wrong = (place + 1) * (1 - float(curve.precision[place]))
            alarms[f"{recall:g}"] = wrong / num_frames
    return alarms


def _tracks(
    weights: Path,
    folder: Path,
    truth: GroundTruth,
    max_frames: int | None,
    device: Device,
    threads: int,
) -> SequenceScores:
    """Scores of a sequence tracked by the published association, as `jde track` does it."""
    model = load(weights).config
    config = TrackConfig(
        detection=DetectionConfig(
            weights=str(weights), size=model.size, rect=not model.has_published_layout
        ),
        tracking=TrackingConfig(mode="published"),
        max_frames=max_frames,
    )
    resources = ResourceConfig(device=device, torch_threads=threads)
    rows = BoxRows.empty()
    with tempfile.TemporaryDirectory(prefix="jde-ablation-") as out:
        reference.track([str(folder)], out, config, resources=resources)
        for path in find_tracks(Path(out)).values():
            rows = read_tracks(path)
    return score_sequence(truth.people, rows, truth.ignore, truth.other)


def final_weights(curves: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Weight of each head and task in the last row of `curves.csv`."""
    last = curves[-1] if curves else {}
    return {
        name.removeprefix("weight_"): float(value)
        for name, value in last.items()
        if name.startswith("weight_") and value
    }
