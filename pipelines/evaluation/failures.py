"""Gathers where identities break: the ceiling, every switch, who is found, and pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from jde_ray.models.metrics.ceiling import AS_REPORTED, score_ceiling
from jde_ray.models.metrics.distractors import without_distractors
from jde_ray.models.metrics.recall import HEIGHT_CLASSES, Recall, count_recall, overlap_figures
from jde_ray.models.metrics.switches import Switch, count_kinds, find_switches
from jde_ray.models.metrics.tracking import OVERALL, SequenceScores, summarize
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.detection.weights import load_reid
from jde_ray.pipelines.evaluation.frame_sources import find_frames, frames_of, read_some_frames
from jde_ray.pipelines.evaluation.ground_truth import TruthRules
from jde_ray.pipelines.evaluation.pairing import Pairing, for_each_pairing
from jde_ray.pipelines.evaluation.separate_embeddings import SeparateTest, compare_embeddings
from jde_ray.pipelines.evaluation.tracks import SequenceRows, read_pairing
from jde_ray.pipelines.formats.detection_rows import read_camera_motion
from jde_ray.pipelines.names import listed
from jde_ray.pipelines.report.contact_sheet import Shot, picture_of, shots_of
from jde_ray.pipelines.report.failures import Case, failures_page, switch_columns
from jde_ray.pipelines.report.tables import FigureTable

NUM_CASES = 24  # switches on the contact sheet
CEILING_COLUMNS = ("IDF1", "HOTA", "AssA", "IDs")
CameraMotion = Mapping[str, Mapping[int, FloatArray]]  # by sequence and frame, see `find_switches`


@dataclass(frozen=True)
class SequenceFailures:
    """Failures of one sequence.

    Attributes:
        ceiling: Scores by kind of ids, see `score_ceiling`.
        switches: Every switch that CLEAR counts.
        recall: Who is found.
    """

    ceiling: dict[str, SequenceScores]
    switches: list[Switch]
    recall: Recall


def find_failures(
    pairing: Pairing, rules: TruthRules = TruthRules(), camera_motion: CameraMotion | None = None
) -> SequenceFailures:
    """Failures of one sequence, in the frames that its run processed.

    Args:
        pairing: Tracks and ground truth.
        rules: Rules for reading ground truth.
        camera_motion: Motion of the camera by sequence, if it is known; a run that saved its
            detections also knows it.

    Raises:
        ValueError: If a file cannot be read, in one line.
    """
    rows = read_pairing(pairing, rules)
    truth, stride = rows.truth, rows.stride
    ceiling = score_ceiling(truth.people, rows.tracks, truth.ignore, truth.other, stride=stride)
    tracks = without_distractors(truth.people, rows.tracks, truth.ignore, truth.other)
    moved = (camera_motion or {}).get(pairing.name) or saved_motion(pairing.predictions) or None
    switches = find_switches(truth.people, tracks, stride=stride, camera_motion=moved)
    return SequenceFailures(ceiling, switches, count_recall(truth.people, tracks))


@dataclass(frozen=True)
class Failures:
    """Failures of all sequences.

    Attributes:
        found: Failures by sequence.
        cases: The worst switches, worst first.
        notes: Lines that say what is missing.
        separate: The test with separate embeddings; None if it was not asked for.
    """

    found: dict[str, SequenceFailures]
    cases: list[Case]
    notes: list[str]
    separate: SeparateTest | None = None

    def scores(self) -> dict[str, SequenceScores]:
        """Scores of the tracks as they are, by sequence."""
        return {name: one.ceiling[AS_REPORTED] for name, one in self.found.items()}

    def tables(self) -> list[FigureTable]:
        """Tables of the ceiling, of the kinds of switches, of who is found, and of the test."""
        other = self._other
        return failure_tables(self.found) + ([] if other is None else [other])

    @property
    def _other(self) -> FigureTable | None:
        return None if self.separate is None else self.separate.table()

    def write(self, out: Path, tracks: str, gt: str) -> None:
        """Write `index.html`, `failures.json` and `switches.csv` into a folder.

        Args:
            out: The folder; it is created if it is missing, and files of these names are replaced.
            tracks: Path of the tracks, to be named in the files.
            gt: Path of the ground truth, likewise.

        Raises:
            OSError: If a file cannot be written.
        """
        ceiling, kinds, *recall = failure_tables(self.found)
        switches = all_switches(self.found)
        columns = switch_columns(switches)
        lines = list(zip(*columns.values(), strict=True))
        out.mkdir(parents=True, exist_ok=True)
        with (out / "switches.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(lines)
        content = {
            "tracks": tracks,
            "gt": gt,
            **{table.key: table.plain() for table in self.tables()},
            "switches": [dict(zip(columns, line, strict=True)) for line in lines],
            "notes": self.notes,
        }
        text = json.dumps(content, indent=1, allow_nan=False)
        (out / "failures.json").write_text(text + "\n", encoding="utf-8")
        place = f"{tracks} against {gt}"
        more = (switches, self.cases, self.notes, self._other)
        page = failures_page(place, ceiling, kinds, recall, *more)
        (out / "index.html").write_text(page, encoding="utf-8")


def saved_motion(tracks: Path) -> dict[int, FloatArray]:
    """The camera's motion in the detections that the run saved beside its tracks, if it did."""
    path = tracks.parent.parent / "detections" / tracks.name
    is_of_run = tracks.parent.name == "tracks" and path.suffix == ".parquet" and path.is_file()
    return read_camera_motion(path) if is_of_run else {}


def gather_failures(
    pairings: Sequence[Pairing],
    rules: TruthRules = TruthRules(),
    address: str | None = None,
    frames: Path | None = None,
    camera_motion: CameraMotion | None = None,
    reid: str | None = None,
) -> Failures:
    """Failures of all sequences, each in a separate task, with pictures of the worst switches.

    Args:
        pairings: Sequences with ground truth.
        rules: Rules for reading ground truth.
        address: Address of the Ray cluster; None for this process if there are few sequences.
        frames: Place of videos and image folders; None to look beside the ground truth.
        camera_motion: Motion of the camera by sequence, if it is known.
        reid: Re-identification network for the test with separate embeddings; None for no test.

    Raises:
        ValueError: If a file cannot be read, in one line.
        RunError: If there is no Ray at the address, or there are no frames at `frames`.
    """
    named = None if frames is None else find_frames(frames)
    embedder = None if reid is None else load_reid(reid)  # its errors come before any work
    find = partial(find_failures, camera_motion=camera_motion)
    found = for_each_pairing(find, pairings, rules, address)
    cases, notes = worst_cases(found, pairings, rules, named)
    if embedder is None:
        return Failures(found, cases, notes)
    separate = compare_embeddings(pairings, embedder, rules, named)
    if separate.without:
        notes.append(
            "Without saved detections or frames, so without the test of separate embeddings: "
            f"{listed(separate.without)}."
        )
    return Failures(found, cases, notes, separate)


def failure_tables(found: Mapping[str, SequenceFailures]) -> list[FigureTable]:
    """Tables of the ceiling, of the kinds of switches, and of recall by overlap and height."""
    ids = list(next(iter(found.values())).ceiling)
    scores = {name: summarize({n: one.ceiling[name] for n, one in found.items()}) for name in ids}
    ceiling = {
        sequence: {
            name: {column: scores[name][sequence].figures()[column] for column in CEILING_COLUMNS}
            for name in ids
        }
        for sequence in [*found, OVERALL]
    }
    switches = {name: one.switches for name, one in found.items()}
    switches[OVERALL] = [switch for one in found.values() for switch in one.switches]
    recall = {name: one.recall for name, one in found.items()}
    first, *others = recall.values()
    recall[OVERALL] = sum(others, first)
    return [
        FigureTable(
            "ceiling", "Ids at the reported boxes", "ids", ceiling,
            "True ids: those of the truth at exactly the reported boxes, throughout, or new after "
            "so many frames without a match. The distance to the first line is what "
            "association can win.",
        ),
        FigureTable(
            "kinds", "Switches, by frames since the person was last matched", "what happened",
            {name: count_kinds(own) for name, own in switches.items()},
            "Wrong frames: matches of the person under the new id, at once and later; none where "
            "the person returns to an id.", is_long=True,
        ),
        FigureTable(
            "by_overlap", "By overlap with another person", "largest IoU",
            {name: overlap_figures(own.by_overlap) for name, own in recall.items()},
            is_long=True,
        ),
        FigureTable(
            "by_height", "By height", "pixels",
            {name: own.by_height.figures(HEIGHT_CLASSES) for name, own in recall.items()},
            is_long=True,
        ),
    ]  # fmt: skip


def all_switches(found: Mapping[str, SequenceFailures]) -> list[tuple[str, Switch]]:
    """Every switch with its sequence, by sequence and frame."""
    return [(name, switch) for name, one in found.items() for switch in one.switches]


def worst_cases(
    found: Mapping[str, SequenceFailures],
    pairings: Sequence[Pairing],
    rules: TruthRules = TruthRules(),
    named: Mapping[str, Path] | None = None,
    most: int = NUM_CASES,
) -> tuple[list[Case], list[str]]:
    """The switches after which a person is seen longest under a wrong id, with pictures.

    Args:
        found: Failures by sequence.
        pairings: The sequences.
        rules: Rules for reading ground truth.
        named: Frames by name (`find_frames`); None to look beside the ground truth.
        most: Number of switches.

    Returns:
        The switches, worst first, and lines that name sequences without frames.

    Raises:
        ValueError: If a file of tracks or ground truth cannot be read.
    """
    ranked = sorted(
        (one for one in all_switches(found) if one[1].wrong_frames),
        key=lambda one: (-one[1].wrong_frames, one[0], one[1].frame, one[1].person),
    )[:most]
    pictures: dict[tuple[str, Switch], list[tuple[str, str]]] = {}
    without, notes = [], []
    for pairing in pairings:
        own = [switch for name, switch in ranked if name == pairing.name]
        place = frames_of(pairing, named) if own else None
        if own and place is None:
            without.append(pairing.name)
        if place is None:
            continue
        rows = read_pairing(pairing, rules)
        try:
            taken = _pictures(own, rows, place)
        except ValueError as error:
            notes.append(f"Frames cannot be read: {error}")
            continue
        pictures |= {(pairing.name, switch): shown for switch, shown in taken.items()}
    if without:
        notes.append(f"Without frames, so without pictures: {listed(without)}.")
    return [Case(*one, pictures.get(one, [])) for one in ranked], notes


def _pictures(
    switches: Sequence[Switch], rows: SequenceRows, place: Path
) -> dict[Switch, list[tuple[str, str]]]:
    """Captions and addresses of the pictures of each switch, by time."""
    people, tracks = rows.truth.people, rows.tracks
    shots = {
        one: shots_of(one, people[people.track_id == one.person], rows.stride) for one in switches
    }
    wanted: dict[int, list[tuple[Switch, Shot]]] = {}
    for switch, own in shots.items():
        for shot in own:
            wanted.setdefault(shot.frame, []).append((switch, shot))
    taken: dict[Switch, list[tuple[int, str, str]]] = {one: [] for one in switches}
    for frame, image in read_some_frames(place, wanted):
        here = tracks[tracks.frame == frame]
        for switch, shot in wanted[frame]:
            picture = picture_of(image, shot, shots[switch], here)
            taken[switch].append((frame, f"{shot.label}, frame {frame + 1}", picture))
    return {one: [(caption, source) for _, caption, source in own] for one, own in taken.items()}
