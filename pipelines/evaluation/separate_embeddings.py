"""The paper's second test: what would embeddings of a network of its own win at the same boxes?

The detections that a run saved are associated twice with the run's settings: with the embeddings
that it saved, and with those of a re-identification network at the very same boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jde_ray.models.metrics.tracking import OVERALL, SequenceScores, summarize
from jde_ray.models.structures import Described, Detections
from jde_ray.models.tracking.registry import build_config
from jde_ray.pipelines.config import DetectionConfig, TrackConfig
from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.evaluation.frame_sources import frames_of, read_some_frames, video_at
from jde_ray.pipelines.evaluation.ground_truth import TruthRules
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.evaluation.tuning import TuningSet, load_sequences, score_settings
from jde_ray.pipelines.formats.detections import SavedFrame
from jde_ray.pipelines.output.layout import RUN_KEY
from jde_ray.pipelines.output.run_record import parse_record
from jde_ray.pipelines.report.tables import FigureTable
from jde_ray.pipelines.sources.saved_detections import find_saved

if TYPE_CHECKING:
    from jde_ray.models.sde.network import AppearanceEmbedder

OWN, SEPARATE = "the run's own", "separate"  # embeddings
COLUMNS = ("IDF1", "HOTA", "AssA", "IDs")
_OF_RUN = ("vid_stride", "max_frames", "min_box_area", "camera_motion")


@dataclass(frozen=True)
class SeparateTest:
    """Scores with both kinds of embeddings, by sequence; empty for those without the test.

    Attributes:
        scores: Scores by sequence and kind.
        without: Sequences whose run saved no detections, or whose frames are not at hand.
    """

    scores: dict[str, dict[str, SequenceScores]]
    without: list[str]

    def table(self) -> FigureTable | None:
        """Both rows by sequence; None if no sequence has them."""
        if not self.scores:
            return None
        by_kind = {
            kind: summarize({name: own[kind] for name, own in self.scores.items()})
            for kind in (OWN, SEPARATE)
        }
        figures = {
            name: {
                kind: {column: found[name].figures()[column] for column in COLUMNS}
                for kind, found in by_kind.items()
            }
            for name in [*self.scores, OVERALL]
        }
        return FigureTable(
            "separate",
            "The same detections associated with other embeddings",
            "embeddings",
            figures,
            "The run's settings, with the embeddings that it saved and with those of the "
            "re-identification network.",
        )


def compare_embeddings(
    pairings: Sequence[Pairing],
    embedder: AppearanceEmbedder,
    rules: TruthRules = TruthRules(),
    named: Mapping[str, Path] | None = None,
) -> SeparateTest:
    """Associate the detections of each sequence with both kinds of embeddings.

    Args:
        pairings: Tracks of runs with `--save-detections`, and ground truth.
        embedder: The re-identification network.
        rules: Rules for reading ground truth.
        named: Frames by name (`find_frames`); None to look beside the ground truth.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    scores, without = {}, []
    for pairing in pairings:
        found = pairing.predictions.parent.parent / "detections" / pairing.predictions.name
        place, record = frames_of(pairing, named), found.parent.parent / RUN_KEY
        if place is None or pairing.truth is None or not (found.is_file() and record.is_file()):
            without.append(pairing.name)
            continue
        try:
            config = settings_of(record)
            (saved,) = find_saved([str(found)])
            if not saved.has_motion:  # the run estimated it from the frames, or not at all
                saved = replace(saved, frames=video_at(place))
            sets = [TuningSet(pairing.name, saved, str(pairing.truth))]
            (loaded,) = load_sequences(config, sets, rules)
        except RunError as error:
            raise ValueError(str(error)) from error
        other = replace(loaded, frames=with_looks(loaded.frames, place, embedder))
        both = ((OWN, loaded), (SEPARATE, other))
        scores[pairing.name] = {k: score_settings(config, [one])[one.name] for k, one in both}
    return SeparateTest(scores, without)


def with_looks(
    frames: list[SavedFrame], place: Path, embedder: AppearanceEmbedder
) -> list[SavedFrame]:
    """The detections with the vectors of their crops, in source pixels, as embeddings.

    Raises:
        ValueError: If the frames cannot be read, or one is missing.
    """
    left = {seen.frame: row for row, seen in enumerate(frames) if len(seen.found)}
    looks = {}
    for number, picture in read_some_frames(place, set(left)):
        row = left.pop(number)
        looks[row] = embedder.describe(picture, frames[row].found.tlbr)
    if left:
        raise ValueError(f"{place}: it has no frame {min(left)}, expected the video of these boxes")
    nothing = Described(np.zeros((0, embedder.width), np.float32))
    return [
        seen._replace(
            found=Detections(seen.found.tlbr, seen.found.scores, *looks.get(row, nothing))
        )
        for row, seen in enumerate(frames)
    ]


def settings_of(record: Path) -> TrackConfig:
    """The settings of a run that matter for the association of its detections.

    Raises:
        ValueError: If its `run.json` cannot be read.
    """
    try:
        config = parse_record(record.read_bytes())["config"]
        threshold = config["detection"]["score_threshold"]
        return TrackConfig(
            detection=DetectionConfig(score_threshold=threshold),
            tracking=build_config(**config["tracking"]),
            **{name: config[name] for name in _OF_RUN},
        )
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"{record} cannot be read ({error})") from error
