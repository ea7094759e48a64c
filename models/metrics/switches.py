"""Every switch that CLEAR counts (IDs): where it happened, what happened, and what it cost.

A person who was matched to one track and is matched to another one next has switched. Each switch
has one kind, the first of these that holds:

* `swap`: another person changes from the id after to the id before, at most `NEAR` frames away.
* `taken over`: the id before is matched to another person, between the last sighting and `NEAR`
  frames after the switch.
* `another's id`: the id after was matched to another person when it was last matched.
* `after a gap`: the person was not matched for more than `LONG_GAP` frames.
* `second track`: the id after has been reported before, though never on another person last: it ran
  beside the id before on the same person, or matched nobody, or is a former id of this person.
* `in an overlap`: a new id, and from the last sighting to the switch the person overlapped another
  person of the truth by more than `OVERLAP`.
* `born again`: a new id though nothing overlapped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.metrics.clear import clear_matches
from jde_ray.models.metrics.rows import BoxRows, by_frame
from jde_ray.models.structures import FloatArray, IntArray

Kind = Literal[
    "swap",
    "taken over",
    "another's id",
    "after a gap",
    "second track",
    "in an overlap",
    "born again",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
NEAR = 10  # processed frames between the two switches of a swap
LONG_GAP = 10  # processed frames
OVERLAP = 0.1  # IoU of two people of the truth
GAP_CLASSES = {"1": 1, "2 to 10": 10, "11 to 60": 60, "> 60": None}  # frames since last matched


@dataclass(frozen=True)
class Switch:
    """A person who is matched to another track than before.

    Attributes:
        frame: Frame of the switch, from 0.
        person: Id in the truth.
        before: Reported id at the last sighting.
        after: Reported id from this frame on.
        last_frame: Frame of the last sighting, the last match before the switch.
        gap: Processed frames since the last sighting; 1 if it was in the frame before.
        kind: What happened, see the module.
        overlap_before: Largest IoU with another person of the truth at the last sighting.
        overlap_after: The same at the switch.
        wrong_frames: Matches of the person under the id after, at once and later; 0 if the person
            had this id before. So every match under another than a person's first id is the
            consequence of one switch.
        camera_motion: Pixels by which the background at the person moved into this frame; None if
            unknown.
    """

    frame: int
    person: int
    before: int
    after: int
    last_frame: int
    gap: int
    kind: Kind
    overlap_before: float
    overlap_after: float
    wrong_frames: int
    camera_motion: float | None = None


def find_switches(
    truth: BoxRows,
    tracks: BoxRows,
    *,
    stride: int = 1,
    camera_motion: Mapping[int, FloatArray] | None = None,
) -> list[Switch]:
    """All switches of a sequence, by frame and person.

    Args:
        truth: People to be found; an id has at most one box per frame.
        tracks: People found, without those on distractors; an id has at most one box per frame.
        stride: Every n-th frame was processed.
        camera_motion: By frame (from 0), the `(2, 3)` affine that maps pixels of the processed
            frame before to pixels of this one; frames may be missing.

    Returns:
        As many as `clear_counts` counts.

    Raises:
        ValueError: If an affine has another shape.
    """
    matches = _Matches.of(truth, tracks)
    overlaps = overlap_with_others(truth)
    rows = np.flatnonzero(matches.switched)
    earlier = matches.earlier_of_person(rows)
    found = []
    for row, last in zip(rows.tolist(), earlier.tolist(), strict=True):
        seen = (truth.track_id == matches.person[row]) & (truth.frame >= matches.frame[last])
        seen &= truth.frame <= matches.frame[row]
        kind = _kind(matches, row, last, tracks, float(overlaps[seen].max()), stride)
        box = truth.tlbr[matches.truth_row[row]]
        moved = None if camera_motion is None else camera_motion.get(int(matches.frame[row]))
        found.append(
            Switch(
                frame=int(matches.frame[row]),
                person=int(matches.person[row]),
                before=int(matches.track[last]),
                after=int(matches.track[row]),
                last_frame=int(matches.frame[last]),
                gap=matches.gap(last, row, stride),
                kind=kind,
                overlap_before=float(overlaps[matches.truth_row[last]]),
                overlap_after=float(overlaps[matches.truth_row[row]]),
                wrong_frames=matches.wrong_frames(row),
                camera_motion=None if moved is None else _moved(moved, box),
            )
        )
    return sorted(found, key=lambda one: (one.frame, one.person))


def overlap_with_others(people: BoxRows) -> FloatArray:
    """`(n,)` largest IoU of every box with another box of its frame; 0 if it is alone."""
    largest = np.zeros(len(people))
    for _, (own,) in by_frame(people):
        if len(own) > 1:
            iou = iou_matrix(people.tlbr[own], people.tlbr[own])
            np.fill_diagonal(iou, 0)
            largest[own] = iou.max(axis=1)
    return largest


def count_kinds(switches: list[Switch]) -> dict[str, dict[str, int]]:
    """Numbers of switches by kind and class of gap (`GAP_CLASSES`), each with their sum.

    Returns:
        Rows by kind, `all` last; columns by class, then `all` and the `wrong frames`.
    """
    columns = [*GAP_CLASSES, "all", "wrong frames"]
    table: dict[str, dict[str, int]] = {row: dict.fromkeys(columns, 0) for row in (*KINDS, "all")}
    for one in switches:
        own = next(name for name, most in GAP_CLASSES.items() if most is None or one.gap <= most)
        for kind in (one.kind, "all"):
            table[kind][own] += 1
            table[kind]["all"] += 1
            table[kind]["wrong frames"] += one.wrong_frames
    return table


@dataclass(frozen=True)
class _Matches:
    """The m matches of CLEAR in the order of frames, one row each: `(m,)` arrays."""

    frame: IntArray
    person: IntArray
    track: IntArray
    truth_row: IntArray
    switched: NDArray[np.bool_]

    @staticmethod
    def of(truth: BoxRows, tracks: BoxRows) -> _Matches:
        parts = list(clear_matches(truth, tracks))
        people = _joined([one.people for one in parts], np.int64)
        return _Matches(
            np.repeat(np.array([one.frame for one in parts], np.int64),
                      np.array([len(one.people) for one in parts], np.int64)),
            truth.track_id[people],
            tracks.track_id[_joined([one.tracks for one in parts], np.int64)],
            people,
            _joined([one.switched for one in parts], np.bool_),
        )  # fmt: skip

    def earlier_of_person(self, rows: IntArray) -> IntArray:
        """For each of these rows, the row of the same person before it."""
        order = np.lexsort((self.frame, self.person))
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        earlier: IntArray = order[place[rows] - 1]
        return earlier

    def gap(self, last: int, row: int, stride: int) -> int:
        return int(self.frame[row] - self.frame[last]) // stride

    def wrong_frames(self, row: int) -> int:
        """Matches of the person under the track of this row, unless there are earlier ones."""
        own = np.flatnonzero((self.person == self.person[row]) & (self.track == self.track[row]))
        return len(own) if own[0] == row else 0


def _kind(
    matches: _Matches, row: int, last: int, tracks: BoxRows, overlap: float, stride: int
) -> Kind:
    """The first kind that holds, as the module lists them."""
    frame, person, track = matches.frame, matches.person, matches.track
    now, near = int(frame[row]), NEAR * stride
    before, after = track[last], track[row]
    is_other = person != person[row]
    close = np.flatnonzero(matches.switched & is_other & (track == before))
    close = close[np.abs(frame[close] - now) <= near]
    if len(close) and (track[matches.earlier_of_person(close)] == after).any():
        return "swap"
    lent = is_other & (track == before) & (frame > frame[last]) & (frame <= now + near)
    if lent.any():
        return "taken over"
    users = np.flatnonzero((track == after) & (frame < now))
    if len(users) and is_other[users[-1]]:
        return "another's id"
    if matches.gap(last, row, stride) > LONG_GAP:
        return "after a gap"
    if ((tracks.track_id == after) & (tracks.frame < now)).any():
        return "second track"
    return "in an overlap" if overlap > OVERLAP else "born again"


def _moved(affine: FloatArray, tlbr: FloatArray) -> float:
    """Distance in pixels by which an affine moves the centre of a box."""
    affine = np.asarray(affine, np.float64)
    if affine.shape != (2, 3):
        raise ValueError(f"camera_motion: got shape {affine.shape}, expected (2, 3)")
    centre = (tlbr[:2] + tlbr[2:]) / 2
    return float(np.linalg.norm(affine[:, :2] @ centre + affine[:, 2] - centre))


def _joined(parts: list[Any], kind: type[Any]) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, kind), *parts])
