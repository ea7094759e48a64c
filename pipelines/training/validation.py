"""Scores a network during training: boxes, embeddings and tracks of data that it does not learn."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import OVERALL, SequenceScores, score_sequence
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.finders import Finder, has_one_size
from jde_ray.pipelines.detection.known_boxes import LabelledFrames, Readings
from jde_ray.pipelines.evaluation.detections import detection_scores
from jde_ray.pipelines.evaluation.embeddings import embedding_scores
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen
from jde_ray.pipelines.evaluation.network_scores import LEAST_SCORE, ScoredFrames, check_names
from jde_ray.pipelines.formats.mot import GroundTruth, read_ground_truth
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.sources.saved_tracks import find_tracks
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.tracking.network_readings import read_here
from jde_ray.pipelines.training.data.scored_lists import read_scored
from jde_ray.pipelines.training.kinds.registry import kind_of
from jde_ray.pipelines.training.settings import SCORES, ValidationConfig
from jde_ray.pipelines.video.image_folder import list_images

FALSE_ACCEPT_RATE = 0.1
NMS = 0.5


class Validation:
    """Scores a network: AP at IoU .5, TPR at FAR .1, MOTA, IDF1, identity switches.

    Boxes, embeddings and tracks are scored by `pipelines.evaluation`, like `jde eval` scores them:
    detections on distractors do not count, and embeddings are read at the ground-truth boxes. A
    detector without embeddings has no TPR, and is tracked by motion and overlap. Where the
    configuration names lists for boxes or embeddings, these are scored instead of the sequences'
    own.

    Args:
        config: Sequences and lists, and the number of frames to use.
        root: Folder that contains them.
        show: Receives a line before each sequence or list, with the time left once a pace is known.

    Raises:
        ValueError: If a sequence, a list or its ground truth is missing or cannot be read.
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
        own = [self._frames_of(*pair) for pair in zip(self.folders, self.truths, strict=True)]
        lists = {source: read_scored(root, source) for source in config.lists}
        self.for_boxes = [lists[source] for source in config.detection] or own
        self.for_embeddings = [lists[source] for source in config.embedding] or own
        check_names([*own, *lists.values()])

    def _frames_of(self, folder: Path, truth: GroundTruth) -> ScoredFrames:
        """The frames of a sequence on which boxes and embeddings are scored."""
        every, most = self.config.every, self.config.max_frames
        seen = FramesSeen(None if most is None else -(-most // every), every)
        video = Video(str(folder), folder.name, is_image_folder=True)
        frames = LabelledFrames(folder.name, BoxRows.empty(), video)
        return ScoredFrames(frames, seen.truth(truth))

    def __call__(self, model: Finder) -> dict[str, dict[str, float]]:
        """Scores by sequence and list, and `OVERALL` for all frames together.

        Shares are in [0, 1]. Each line has what was measured on it; `OVERALL` has all `SCORES`, NaN
        for what was measured nowhere.
        """
        was_training, began = model.training, time.monotonic()
        model.eval()
        tracks: dict[str, SequenceScores] = {}
        readings: dict[str, Readings] = {}
        for_embeddings = self.for_embeddings if model.config.embedding_dim else []
        sets = {one.name: one for one in (*self.for_boxes, *for_embeddings)}
        tracked = {
            folder.name: (folder, truth)
            for folder, truth in zip(self.folders, self.truths, strict=True)
        }
        names = list(dict.fromkeys((*sets, *tracked)))
        with tempfile.TemporaryDirectory(prefix="jde-validation-") as scratch:
            weights = Path(scratch) / "network.safetensors"
            kind_of(model).save(model, weights, None)
            for number, name in enumerate(names):
                self._show(_progress(name, number, len(names), began))
                if name in sets:
                    readings[name] = self.read(model, sets[name], weights)
                if name in tracked:
                    out = Path(scratch) / str(number)
                    tracks[name] = self._track(model, *tracked[name], weights, out)
        model.train(was_training)
        return _rows(self.for_boxes, for_embeddings, readings, tracks)

    def read(self, model: Finder, one: ScoredFrames, weights: Path) -> Readings:
        """What a network gives on some frames, in this process.

        Args:
            model: The network, for its device and size.
            one: The frames.
            weights: Its weight file.
        """
        detection = DetectionConfig(
            weights=str(weights),
            size=model.config.size,
            rect=not has_one_size(model),
            score_threshold=LEAST_SCORE,
            nms_threshold=NMS,
            precision="fp32",
        )
        every, most = self.config.every, self.config.max_frames
        config = TrackConfig(
            detection=detection,
            vid_stride=every,
            max_frames=None if most is None else -(-most // every),
            camera_motion=False,
        )
        is_read = bool(model.config.embedding_dim) and any(
            one is other for other in self.for_embeddings
        )
        frames = one.wanting("embeddings" if is_read else "boxes")
        try:
            return read_here([frames], config, _resources(model))[one.name]
        except ValueError as error:
            raise ValueError(f"validation: {error}") from error

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
        reference.track([str(folder)], str(out), config, resources=_resources(model))
        rows = BoxRows.empty()
        for path in find_tracks(out).values():
            rows = read_tracks(path)
        return score_sequence(truth.people, rows, truth.ignore, truth.other)


def _resources(model: Finder) -> ResourceConfig:
    device = next(model.parameters()).device.type
    return ResourceConfig(
        device="cuda" if device == "cuda" else "cpu", torch_threads=torch.get_num_threads()
    )


def _rows(
    for_boxes: Sequence[ScoredFrames],
    for_embeddings: Sequence[ScoredFrames],
    readings: Mapping[str, Readings],
    tracks: Mapping[str, SequenceScores],
) -> dict[str, dict[str, float]]:
    """Scores by name, those over all together last."""
    rows: dict[str, dict[str, float]] = {}
    boxes = {one.name: one.boxes(readings[one.name]) for one in for_boxes}
    for name, precision in detection_scores(boxes).items():
        rows.setdefault(name, {})["ap"] = precision.average_precision
    known = {one.name: one.embeddings(readings[one.name]) for one in for_embeddings}
    for name, rates in embedding_scores(known).items():
        rows.setdefault(name, {})["tpr_at_far"] = rates.at(FALSE_ACCEPT_RATE)
    whole = {OVERALL: sum(tracks.values(), SequenceScores())} if tracks else {}
    for name, tracked in (*tracks.items(), *whole.items()):
        figures = tracked.figures()
        rows.setdefault(name, {}).update(
            mota=figures["MOTA"] / 100, idf1=figures["IDF1"] / 100, id_switches=figures["IDs"]
        )
    overall = rows.pop(OVERALL)
    return rows | {OVERALL: {name: overall.get(name, float("nan")) for name in SCORES}}


def _progress(name: str, number: int, of: int, began: float) -> str:
    """`validating STREET-02, 2 of 4; about 30 s left`; `began` is a time of `time.monotonic`."""
    line = f"validating {name}, {number + 1} of {of}"
    if not number:
        return line
    return f"{line}; about {(time.monotonic() - began) / number * (of - number):.0f} s left"
