"""How good a network is while it learns: boxes, embeddings and tracks on sequences left out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.jde.decode import select
from jde_ray.models.jde.losses.task_aligned import pair_iou
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.weights import save
from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.models.metrics.detection import score_detections
from jde_ray.models.metrics.embedding import score_embeddings
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import OVERALL, SequenceScores, score_sequence
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.formats.mot import GroundTruth, read_ground_truth
from jde_ray.pipelines.formats.track_files import find_tracks
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.training.settings import ValidationConfig
from jde_ray.pipelines.video.image_folder import list_images

FALSE_ACCEPT_RATE = 0.1
LEAST_SCORE = 0.05  # of detections that average precision looks at
IDENTITIES_APART = 1_000_000  # between the numbers of two sequences


@dataclass
class _Found:
    """What a network gives on labelled frames, summed up over sequences."""

    truths: list[FloatArray]
    boxes: list[FloatArray]
    scores: list[FloatArray]
    embeddings: list[FloatArray]
    identities: list[IntArray]

    @staticmethod
    def nothing() -> _Found:
        return _Found([], [], [], [], [])

    def add(self, other: _Found) -> None:
        for name, values in vars(other).items():
            getattr(self, name).extend(values)

    def figures(self) -> dict[str, float]:
        """`ap` and `tpr_at_far`, in [0, 1]; NaN where there is nothing to measure."""
        found = score_detections(self.truths, self.boxes, self.scores)
        rate = float("nan")
        if self.embeddings:
            known = np.concatenate(self.identities)
            vectors = np.concatenate(self.embeddings)
            rates = (FALSE_ACCEPT_RATE,)
            compared = score_embeddings(vectors, known, false_accept_rates=rates)
            rate = compared.at(FALSE_ACCEPT_RATE)
        return {"ap": found.average_precision, "tpr_at_far": rate}


class Validation:
    """Scores a network: AP at IoU .5, TPR at FAR .1, MOTA, IDF1.

    The embedding of a person of the ground truth is that of the candidate that overlaps the
    person most, by half at least; who has none does not count for TPR at FAR.

    Args:
        config: Which sequences, how densely.
        root: Folder that they lie under.

    Raises:
        ValueError: If a sequence or its ground truth is missing or cannot be read.
    """

    def __init__(self, config: ValidationConfig, root: Path) -> None:
        self.config = config
        self.folders = [root / name for name in config.sequences]
        self.truths: list[GroundTruth] = []
        for folder in self.folders:
            truth = folder / "gt" / "gt.txt"
            if not truth.is_file() or not (folder / "img1").is_dir():
                raise ValueError(f"validation: {folder} lacks gt/gt.txt or img1")
            if not list_images(str(folder)):
                raise ValueError(f"validation: {folder / 'img1'} holds no picture")
            self.truths.append(_cut(read_ground_truth(truth), config.max_frames))

    def __call__(self, model: JDE) -> dict[str, dict[str, float]]:
        """Scores in [0, 1] by sequence, and `OVERALL` of all frames together."""
        was_training = model.training
        model.eval()
        found, tracks = _Found.nothing(), SequenceScores()
        scores: dict[str, dict[str, float]] = {}
        with tempfile.TemporaryDirectory(prefix="jde-validation-") as scratch:
            weights = Path(scratch) / "network.safetensors"
            save(model, weights)
            for number, (folder, truth) in enumerate(zip(self.folders, self.truths, strict=True)):
                mine = self._look(model, folder, truth, number)
                tracked = self._track(model, folder, truth, weights, Path(scratch) / str(number))
                found.add(mine)
                tracks = tracks + tracked
                scores[folder.name] = {**mine.figures(), **_ratios(tracked)}
        model.train(was_training)
        scores[OVERALL] = {**found.figures(), **_ratios(tracks)}
        return scores

    def _frames(self, folder: Path) -> Iterator[tuple[int, Path]]:
        paths = list_images(str(folder))[: self.config.max_frames]  # in the order of tracking
        return iter(list(enumerate(paths))[:: self.config.every])

    @torch.inference_mode()
    def _look(self, model: JDE, folder: Path, truth: GroundTruth, number: int) -> _Found:
        """Detections and embeddings of every n-th frame."""
        found = _Found.nothing()
        for index, path in self._frames(folder):
            image = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
            if image is None:
                raise ValueError(f"validation: {path} is no image")
            height, width = image.shape[:2]
            size = model.config.size
            if not model.config.has_published_layout:
                size = fitted_size(width, height, size)
            box = Letterbox(width, height, *size)
            pixels = torch.from_numpy(box.apply(np.ascontiguousarray(image[:, :, ::-1])))
            candidates = model(model.normalise(pixels[None]))
            (kept,) = select(candidates, LEAST_SCORE, 0.5, 300)
            people = truth.people[truth.people.frame == index]
            wanted = box.to_network(people.tlbr)
            aside = [rows[rows.frame == index].tlbr for rows in (truth.ignore, truth.other)]
            counted = _counted(kept.tlbr, wanted, box.to_network(np.concatenate(aside)))
            found.truths.append(wanted)
            found.boxes.append(kept.tlbr[counted])
            found.scores.append(kept.scores[counted])
            if not len(wanted):
                continue
            target = torch.as_tensor(wanted, dtype=torch.float32, device=candidates.boxes.device)
            xy, half = candidates.boxes[0, :, :2], candidates.boxes[0, :, 2:] / 2
            overlap, rows = pair_iou(target, torch.cat((xy - half, xy + half), 1)).max(1)
            good = overlap >= 0.5
            vectors = candidates.embeddings(0, rows[good]).float().cpu().numpy()
            found.embeddings.append(vectors)
            known = people.track_id[good.cpu().numpy()]
            found.identities.append(known + number * IDENTITIES_APART)
        return found

    def _track(
        self, model: JDE, folder: Path, truth: GroundTruth, weights: Path, out: Path
    ) -> SequenceScores:
        """The sequence tracked as `jde track` does it, in this process."""
        config = TrackConfig(
            detection=DetectionConfig(
                weights=str(weights),
                size=model.config.size,
                rect=not model.config.has_published_layout,
            ),
            max_frames=self.config.max_frames,
        )
        device = next(model.parameters()).device.type
        resources = ResourceConfig(
            device="cuda" if device == "cuda" else "cpu", torch_threads=torch.get_num_threads()
        )
        reference.track([str(folder)], str(out), config, resources=resources)
        rows = BoxRows.empty()
        for path in find_tracks(out).values():
            rows = read_tracks(path)
        return score_sequence(truth.people, rows, truth.ignore, truth.other)


def _ratios(scores: SequenceScores) -> dict[str, float]:
    figures = scores.figures()
    return {"mota": figures["MOTA"] / 100, "idf1": figures["IDF1"] / 100}


def _cut(truth: GroundTruth, max_frames: int | None) -> GroundTruth:
    """The truth of the first frames."""
    if max_frames is None:
        return truth
    early = truth.people.frame < max_frames
    rest = (rows[rows.frame < max_frames] for rows in (truth.ignore, truth.other))
    return GroundTruth(truth.people[early], truth.visibility[early], *rest)


def _counted(found: FloatArray, wanted: FloatArray, aside: FloatArray) -> FloatArray:
    """`(N,)` bool, false for detections on boxes that are neither right nor wrong to find."""
    if not len(found) or not len(aside):
        return np.ones(len(found), bool)
    best = iou_matrix(found, wanted).max(1) if len(wanted) else np.zeros(len(found))
    beside: FloatArray = (iou_matrix(found, aside).max(1) < 0.5) | (best >= 0.5)
    return beside


def headline(scores: Mapping[str, Mapping[str, float]]) -> str:
    """`ap 61.2  tpr_at_far 80.1  mota 40.0  idf1 50.0` over all sequences, percent."""
    return "  ".join(f"{name} {100 * value:.1f}" for name, value in scores[OVERALL].items())
