"""Scores a network on frames with ground truth, by the published protocols.

`pipelines.tracking.network_readings` runs the network; here its readings meet the ground truth.
Embeddings are read at the boxes of all people, detected or not, which saved detections do not
contain. Detections use the protocol's own thresholds, not those of a run.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import IntArray
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.detection.known_boxes import LabelledFrames, Readings
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.evaluation.detections import ImageBoxes, image_boxes, truth_of
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings, clean_sightings
from jde_ray.pipelines.evaluation.frame_sources import video_at
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.detection_rows import DetectionRows
from jde_ray.pipelines.formats.mot import GroundTruth

PUBLISHED_SCORE = 0.3  # threshold in the original's `test.py`, which computes its AP
PUBLISHED_NMS = 0.45
LEAST_SCORE = 0.05  # from here on the whole curve of precision and recall is known

Wanted = Literal["boxes", "embeddings", "both"]


@dataclass(frozen=True)
class ScoredFrames:
    """Frames on which a network is scored.

    Attributes:
        name: Name of the sequence or list.
        frames: What the network is run on.
        truth: Ground truth of exactly these frames; corners as in `frames`. People without a known
            identity have a negative one, and count as people to be found only.
    """

    frames: LabelledFrames
    truth: GroundTruth

    @property
    def name(self) -> str:
        """Name of the sequence or list."""
        return self.frames.name

    def wanting(self, wanted: Wanted) -> LabelledFrames:
        """The frames, with the people whose embeddings are to be read."""
        people = self.truth.people
        known = people.track_id >= 0 if wanted != "boxes" else np.zeros(len(people), bool)
        return replace(self.frames, people=people[np.flatnonzero(known)])

    def boxes(self, readings: Readings, least_score: float = 0.0) -> ImageBoxes:
        """People and detections of these frames.

        Args:
            readings: What the network gave.
            least_score: Detections up to this score do not count.
        """
        above = readings.scores > np.float32(least_score)
        found = DetectionRows(readings.found[above], readings.scores[above], None)
        sizes = np.unique(readings.sizes[:, 1:], axis=0)
        size = (int(sizes[0, 0]), int(sizes[0, 1])) if len(sizes) == 1 else None
        return image_boxes(self._in_pixels(readings.sizes), found, size)

    def _in_pixels(self, sizes: IntArray) -> GroundTruth:
        """The ground truth in source pixels, given number, width and height of all frames."""
        if self.frames.video is not None:
            return self.truth
        by_frame = {int(frame): (int(width), int(height)) for frame, width, height in sizes}
        people, ignore, other = (
            _scaled(rows, by_frame)
            for rows in (self.truth.people, self.truth.ignore, self.truth.other)
        )
        return GroundTruth(people, self.truth.visibility, ignore, other)

    def embeddings(self, readings: Readings) -> KnownEmbeddings:
        """The people's embeddings; by gap only in a video, whose frames follow each other."""
        known = readings.known
        if self.frames.video is None:
            return KnownEmbeddings(readings.vectors, known.track_id)
        keys = _keys(self.truth.people)
        clean = dict(zip(keys, clean_sightings(self.truth).tolist(), strict=True))
        is_clean = np.array([clean[key] for key in _keys(known)], bool)
        return KnownEmbeddings(readings.vectors, known.track_id, known.frame, is_clean)


def _scaled(rows: BoxRows, sizes: dict[int, tuple[int, int]]) -> BoxRows:
    scale = np.array([sizes[frame] * 2 for frame in rows.frame.tolist()], np.float64)
    return BoxRows(rows.frame, rows.track_id, rows.tlbr * scale.reshape(-1, 4))


def _keys(people: BoxRows) -> Iterator[tuple[int, int]]:
    return zip(people.frame.tolist(), people.track_id.tolist(), strict=True)


def sequence_frames(
    pairing: Pairing,
    rules: TruthRules = TruthRules(),
    every: int = 1,
    max_frames: int | None = None,
) -> ScoredFrames:
    """A video or an image folder with its ground truth.

    Args:
        pairing: The frames and the file of ground truth.
        rules: Rules for reading ground truth.
        every: Every n-th frame counts.
        max_frames: Leave out later frames; None for none.

    Raises:
        ValueError: If the truth cannot be read, in one line.
    """
    truth = read_truth(truth_of(pairing), rules)
    seen = FramesSeen(None if max_frames is None else -(-max_frames // every), every).truth(truth)
    video = video_at(pairing.predictions)
    return ScoredFrames(LabelledFrames(pairing.name, BoxRows.empty(), video), seen)


def network_config(
    weights: str = "small",
    size: tuple[int, int] | None = None,
    every: int = 1,
    max_frames: int | None = None,
) -> TrackConfig:
    """Settings that a network is scored with: float32, scores from .05, the published NMS of .45.

    Suppression goes by falling score, so detections above .3 are those of the published settings.

    Args:
        weights: Name or path of the network, or of the YAML of separate ones.
        size: Width and height of its input; None for the size in the weights.
        every: Process every n-th frame of videos.
        max_frames: Leave out later frames; None for none.

    Raises:
        ValueError: If the weights cannot be used.
    """
    detection = replace(
        detection_for(weights, size, reid="none"),
        precision="fp32",
        score_threshold=LEAST_SCORE,
        nms_threshold=PUBLISHED_NMS,
        max_detections=1000,
    )
    most = None if max_frames is None else -(-max_frames // every)
    return TrackConfig(detection=detection, vid_stride=every, max_frames=most, camera_motion=False)


def check_names(sets: Sequence[ScoredFrames]) -> None:
    """Refuse two sets of one name, which would be one line of the table.

    Raises:
        ValueError: If there are such.
    """
    seen: set[str] = set()
    for one in sets:
        if one.name in seen:
            raise ValueError(f"lists: two are named {one.name}, expected different names")
        seen.add(one.name)
