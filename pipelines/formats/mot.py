"""Conversion between MOTChallenge text and rows.

In files, frames, ids and pixels count from 1 and boxes are left, top, width, height; in memory
frames and pixels count from 0 and boxes are corners. Only this module and `Tracks.to_mot` count
from 1.

A run writes the text of its tracks (`--save-mot`) under the key that `output.layout` gives it:
`output.result_files` while it tracks, `tracking.later_outputs` for earlier videos.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.boxes import tlbr_to_tlwh, tlwh_to_tlbr
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import FloatArray, IntArray, Tracks
from jde_ray.pipelines.formats.limits import MOST_FRAMES, MOST_ID, MOST_PIXELS

PEDESTRIAN = 1
DISTRACTORS = (2, 7, 8, 12)  # person on vehicle, static person, distractor, reflection
_NON_MOTOR_VEHICLE = 6  # a distractor of MOT20 only
LONGEST = 100  # characters of a line shown in an error
_RESULT_COLUMNS = (7, 10)  # frame, id, left, top, width, height, score [, x, y, z]
Benchmark = Literal["auto", "MOT15", "MOT16", "MOT17", "MOT20"]
BENCHMARKS = get_args(Benchmark)


@dataclass(frozen=True)
class GroundTruth:
    """Content of a `gt.txt`.

    Attributes:
        people: People to be found.
        visibility: `(n,)` visibility of `people` in [0, 1]; 1 where the file has none, or -1.
        ignore: Distractors, which may be tracked or not.
        other: All other annotations: vehicles, occluders, people not counted.
    """

    people: BoxRows
    visibility: FloatArray
    ignore: BoxRows
    other: BoxRows


@dataclass(frozen=True)
class ScoredRows:
    """Rows of a `det.txt` or of results: boxes with ids (-1 for none) and scores `(n,)`."""

    rows: BoxRows
    scores: FloatArray


def read_ground_truth(path: Path, benchmark: Benchmark = "auto") -> GroundTruth:
    """Read a `gt.txt` of MOT15 (10 columns) or MOT16, 17, 20 (9 columns).

    Rows with 0 in column 7 are not people to be found. MOT15 leaves them out; the other benchmarks
    match tracks to them too, and tracks on a distractor class are neither right nor wrong. In MOT20
    the distractor classes include non-motorised vehicles.

    Args:
        path: The `gt.txt`.
        benchmark: Benchmark whose rules apply. `auto` is MOT15 for other than 9 columns, MOT20 if a
            folder of the path has that name, else MOT16 and MOT17.

    Raises:
        ValueError: If a line cannot be parsed, has an id that is not an integer or repeats an id in
            a frame, in one line with the file and the line's number.
    """
    table, numbers = _read_table(path, least=7)
    _check_ids(path, table, numbers)
    _check_once(path, table, numbers)
    if benchmark == "auto" and any(part.startswith("MOT20") for part in path.parts):
        benchmark = "MOT20"
    flag = table[:, 6] > 0
    if table.shape[1] != 9 or benchmark == "MOT15":  # world coordinates, which we do not need
        ones = np.ones(int(flag.sum()))
        return GroundTruth(_rows(table[flag]), ones, BoxRows.empty(), BoxRows.empty())
    person = flag & (table[:, 7] == PEDESTRIAN)
    visibility = table[person, 8]
    visibility[visibility < 0] = 1.0  # -1 where nobody has judged it
    extra = (_NON_MOTOR_VEHICLE,) if benchmark == "MOT20" else ()
    distractor = np.isin(table[:, 7], (*DISTRACTORS, *extra))
    rest = ~person & ~distractor
    return GroundTruth(
        _rows(table[person]), visibility, _rows(table[distractor]), _rows(table[rest])
    )


def read_scored(path: Path) -> ScoredRows:
    """Read a `det.txt` or a file of results.

    Raises:
        ValueError: If a line cannot be parsed, in one line with the file and the line's number.
    """
    table, _ = _read_table(path, least=7)
    return ScoredRows(_rows(table), table[:, 6])


def read_results(path: Path) -> ScoredRows:
    """Read a tracker's results as strictly as a benchmark's server would.

    Raises:
        ValueError: If a line has other than 7 or 10 columns, an id that is negative or not an
            integer, or repeats an id in a frame, in one line with the file and the line's number;
            also for the reasons of `read_scored`.
    """
    table, numbers = _read_table(path, least=7, accepted=_RESULT_COLUMNS)
    _check_ids(path, table, numbers, least=0)
    _check_once(path, table, numbers)
    return ScoredRows(_rows(table), table[:, 6])


def format_tracks(frame: IntArray, track_id: IntArray, tlbr: FloatArray, score: FloatArray) -> str:
    """Text of the tracks of a run: one line per row, by frame.

    Args:
        frame: `(n,)` 0-based frames, in ascending order.
        track_id: `(n,)` ids.
        tlbr: `(n, 4)` corners in pixels.
        score: `(n,)` in [0, 1].
    """
    lines: list[str] = []
    for number, first, last in zip(*_runs(frame), strict=True):
        own = slice(first, last)
        index = np.arange(last - first)
        tracks = Tracks(track_id[own], tlbr[own].astype(np.float64), score[own], index)
        lines += tracks.to_mot(int(number))
    return "".join(f"{line}\n" for line in lines)


def _runs(values: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Each value of an ascending array, and the start and end of its run."""
    found, first = np.unique(values, return_index=True)
    return found, first, np.append(first[1:], len(values))


def format_results(rows: BoxRows, scores: FloatArray | None) -> str:
    """Lines `frame,id,left,top,width,height,score,-1,-1,-1`, sorted by frame and id.

    Args:
        rows: Boxes of the tracks.
        scores: `(n,)` scores of the rows; None for 1, as in the examples of MOTChallenge's server.
    """
    if scores is None:
        return _lines(rows, ["1,-1,-1,-1"] * len(rows))
    return _lines(rows, [f"{score:.4f},-1,-1,-1" for score in scores])


def format_ground_truth(rows: BoxRows, visibility: FloatArray) -> str:
    """Lines `frame,id,left,top,width,height,1,1,visibility`, sorted by frame and id.

    Args:
        rows: Boxes of the people.
        visibility: `(n,)` in [0, 1].
    """
    return _lines(rows, [f"1,{PEDESTRIAN},{share:.3f}" for share in visibility])


def _lines(rows: BoxRows, endings: list[str]) -> str:
    """Lines of rows sorted by frame and id; `endings` holds the text after each box."""
    tlwh = tlbr_to_tlwh(rows.tlbr)
    return "".join(
        f"{rows.frame[i] + 1},{rows.track_id[i]},{tlwh[i, 0] + 1:.2f},{tlwh[i, 1] + 1:.2f},"
        f"{tlwh[i, 2]:.2f},{tlwh[i, 3]:.2f},{endings[i]}\n"
        for i in np.lexsort((rows.track_id, rows.frame))
    )


def _rows(table: NDArray[np.float64]) -> BoxRows:
    tlbr = tlwh_to_tlbr(table[:, 2:6]) - 1.0  # moves the origin, keeps the sizes
    return BoxRows(table[:, 0].astype(np.int64) - 1, table[:, 1].astype(np.int64), tlbr)


def _check_ids(
    path: Path, table: NDArray[np.float64], numbers: list[int], least: int | None = None
) -> None:
    """Refuse an id that is not a whole number, or below the least, naming its line."""
    ids = table[:, 1]
    bad = np.flatnonzero((ids != np.round(ids)) | (ids < (-np.inf if least is None else least)))
    if len(bad):
        got = f"got id {ids[bad[0]]:g}, expected whole numbers"
        where = "" if least is None else f" from {least}"
        raise ValueError(f"{path}:{numbers[bad[0]]}: {got}{where}")


def _check_once(path: Path, table: NDArray[np.float64], numbers: list[int]) -> None:
    """Refuse an id that has two boxes in one frame, naming the line of the second."""
    order = np.lexsort((np.arange(len(table)), table[:, 1], table[:, 0]))
    same = (np.diff(table[order, :2], axis=0) == 0).all(axis=1)
    if same.any():
        line = int(order[1:][same].min())
        frame, track_id = table[line, :2]
        raise ValueError(
            f"{path}:{numbers[line]}: got id {track_id:g} twice in frame {frame:g}, "
            "expected one box an id and frame"
        )


def _read_table(
    path: Path, least: int, accepted: tuple[int, ...] = ()
) -> tuple[NDArray[np.float64], list[int]]:
    """`(n, columns)` values of a file, and the numbers of its lines; all have equal columns."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()  # some tools write a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error

    def refuse(number: int, reason: str) -> None:
        raise ValueError(f"{path}:{number}: {reason}")

    table: list[list[float]] = []
    numbers: list[int] = []
    written = ((number, line) for number, line in enumerate(lines, start=1) if line.strip())
    for number, values in parse_rows(written, refuse, least=least):
        columns = len(values)
        if abs(values[1]) > MOST_ID:
            refuse(number, f"got id {values[1]:.15g}, expected up to {MOST_ID}")
        if table and columns != len(table[0]):
            refuse(number, f"got {columns} columns, lines before have {len(table[0])}")
        if accepted and columns not in accepted:
            wanted = " or ".join(map(str, accepted))
            layout = "(frame,id,left,top,width,height,score[,x,y,z])"
            refuse(number, f"got {columns} columns, expected {wanted} {layout}")
        table.append(values)
        numbers.append(number)
    return np.array(table, np.float64).reshape(len(table), -1 if table else least), numbers


def parse_rows(
    lines: Iterable[tuple[int, str]],
    refuse: Callable[[int, str], None],
    *,
    least: int = 7,
    accepted: tuple[int, ...] = (),
) -> Iterator[tuple[int, list[float]]]:
    """Parse lines of MOTChallenge text, in which commas or blanks separate the numbers.

    Args:
        lines: Number and text of each line that is not empty.
        refuse: Called with a line's number and the reason why it is left out. A strict caller
            raises here, a lenient one collects the reasons.
        least: Smallest number of columns.
        accepted: Numbers of columns that a line may have; empty for any from `least`.

    Yields:
        Number of the line and its values: finite, the first one an integer from 1 to `MOST_FRAMES`,
        the four of the box below `MOST_PIXELS`.
    """
    for number, line in lines:
        text = line.strip().rstrip(",")
        shown = repr(line.strip() if len(line) <= LONGEST else line.strip()[:LONGEST] + "...")
        try:
            values = [float(cell) for cell in (text.split(",") if "," in text else text.split())]
        except ValueError:
            refuse(number, f"got {shown}, expected numbers")
            continue
        if len(values) < least or (accepted and len(values) not in accepted):
            wanted = " or ".join(map(str, accepted)) or f"at least {least}"
            refuse(number, f"got {len(values)} columns, expected {wanted}")
        elif not np.isfinite(values).all() or values[0] < 1 or values[0] != int(values[0]):
            refuse(number, f"got {shown}, expected finite numbers and frames from 1")
        elif values[0] > MOST_FRAMES:
            refuse(number, f"got frame {values[0]:.15g}, expected 1 to {MOST_FRAMES}")
        elif max(map(abs, values[2:6])) >= MOST_PIXELS:
            refuse(number, f"got {shown}, expected a box below {MOST_PIXELS:g} pixels")
        else:
            yield number, values


def rows_of_frames(frames: Iterable[tuple[int, Any, FloatArray]]) -> BoxRows:
    """Rows from `(frame_index, (n,) ids, (n, 4) tlbr)`, one item per frame."""
    parts = [
        BoxRows(np.full(len(ids), index, np.int64), np.asarray(ids, np.int64), np.asarray(tlbr))
        for index, ids, tlbr in frames
    ]
    return BoxRows.concatenate(parts) if parts else BoxRows.empty()
