"""Scores a network during training: boxes, embeddings and tracks on validation sequences."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import OVERALL, SequenceScores, score_sequence
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.finders import Finder, has_one_size
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.evaluation.detections import ImageBoxes, detection_scores
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings, embedding_scores
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen
from jde_ray.pipelines.evaluation.loaded_network import judge_network
from jde_ray.pipelines.formats.mot import GroundTruth, read_ground_truth
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.sources.saved_tracks import find_tracks
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.training.kinds.registry import kind_of
from jde_ray.pipelines.training.settings import ValidationConfig
from jde_ray.pipelines.video.image_folder import list_images

FALSE_ACCEPT_RATE = 0.1
LEAST_SCORE = 0.05  # detections below this score do not count for average precision


class Validation:
    """Scores a network: AP at IoU .5, TPR at FAR .1 if it has embeddings, MOTA, IDF1.

    Boxes, embeddings and tracks are scored by `pipelines.evaluation`, like `jde eval` scores them:
    detections on distractors do not count, and embeddings are read at the ground-truth boxes. A
    detector without embeddings is tracked by motion and overlap.

    Args:
        config: Sequences, and the number of their frames to use.
        root: Folder that contains them.
        show: Receives a line before each sequence, with the time left once a pace is known.

    Raises:
        ValueError: If a sequence or its ground truth is missing or cannot be read.
    """

    def __init__(
        self,
        config: ValidationConfig,
        root: Path,
        show: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.config, self._show = config, show
        self.folders = [root / name for name in config.sequences]
        self.truths: list[GroundTruth] = []
        for folder in self.folders:
            truth = folder / "gt" / "gt.txt"
            if not truth.is_file() or not (folder / "img1").is_dir():
                raise ValueError(f"validation: {folder} lacks gt/gt.txt or img1")
            if not list_images(str(folder)):
                raise ValueError(f"validation: {folder / 'img1'} holds no picture")
            self.truths.append(FramesSeen(config.max_frames, 1).truth(read_ground_truth(truth)))

    def __call__(self, model: Finder) -> dict[str, dict[str, float]]:
        """Scores in [0, 1] by sequence, and `OVERALL` for all frames together."""
        was_training, began = model.training, time.monotonic()
        model.eval()
        boxes: dict[str, ImageBoxes] = {}
        known: dict[str, KnownEmbeddings] = {}
        tracks: dict[str, SequenceScores] = {}
        with tempfile.TemporaryDirectory(prefix="jde-validation-") as scratch:
            weights = Path(scratch) / "network.safetensors"
            kind_of(model).save(model, weights, None)
            for number, (folder, truth) in enumerate(zip(self.folders, self.truths, strict=True)):
                self._show(_progress(folder.name, number, len(self.folders), began))
                name, out = str(folder), Path(scratch) / str(number)
                boxes[name], known[name] = self.judge(model, folder, truth)
                tracks[name] = self._track(model, folder, truth, weights, out)
        model.train(was_training)
        tracks[OVERALL] = sum(tracks.values(), SequenceScores())
        precision = detection_scores(boxes)
        rates = embedding_scores(known) if model.config.embedding_dim else {}
        of_embeddings = {
            name: {"tpr_at_far": one.at(FALSE_ACCEPT_RATE)} for name, one in rates.items()
        }
        return {
            Path(name).name: {
                "ap": precision[name].average_precision,
                **of_embeddings.get(name, {}),
                **_ratios(tracked),
            }
            for name, tracked in tracks.items()
        }

    def judge(
        self, model: Finder, folder: Path, truth: GroundTruth
    ) -> tuple[ImageBoxes, KnownEmbeddings]:
        """Detections and embeddings of every n-th frame, with the ground truth."""
        every, most = self.config.every, self.config.max_frames
        seen = FramesSeen(None if most is None else -(-most // every), every)
        video = Video(str(folder), folder.name, is_image_folder=True)
        try:
            return judge_network(
                model, video, truth, seen, score_threshold=LEAST_SCORE, nms_threshold=0.5
            )
        except VideoError as error:
            raise ValueError(f"validation: {folder}: {error}") from error

    def _track(
        self, model: Finder, folder: Path, truth: GroundTruth, weights: Path, out: Path
    ) -> SequenceScores:
        """Track the sequence as `jde track` does, but in this process, and score the tracks."""
        config = TrackConfig(
            detection=DetectionConfig(
                weights=str(weights),
                size=model.config.size,
                rect=not has_one_size(model),
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


def _progress(name: str, number: int, of: int, began: float) -> str:
    """`validating STREET-02, 2 of 4; about 30 s left`; `began` is a time of `time.monotonic`."""
    line = f"validating {name}, {number + 1} of {of}"
    if not number:
        return line
    return f"{line}; about {(time.monotonic() - began) / number * (of - number):.0f} s left"


def _ratios(scores: SequenceScores) -> dict[str, float]:
    figures = scores.figures()
    return {"mota": figures["MOTA"] / 100, "idf1": figures["IDF1"] / 100}


def headline(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Scores over all sequences in percent: `ap 61.2  tpr_at_far 80.1  mota 40.0  idf1 50.0`."""
    return "  ".join(f"{name} {100 * value:.1f}" for name, value in scores[OVERALL].items())
