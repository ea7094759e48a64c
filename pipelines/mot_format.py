"""MOTChallenge text to rows and back. Only this module and `Tracks.to_mot` count from 1.

In files frames, ids and the origin of boxes count from 1 and boxes are left, top, width, height;
in memory frames count from 0 and boxes are corners in pixels from 0.
"""

from __future__ import annotations

import configparser
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.boxes import tlbr_to_tlwh, tlwh_to_tlbr
from models.metrics.rows import BoxRows
from models.structures import FloatArray

PEDESTRIAN = 1
DISTRACTORS = (2, 7, 8, 12)  # person on vehicle, static person, distractor, reflection


@dataclass(frozen=True)
class GroundTruth:
    """What a `gt.txt` says.

    Attributes:
        people: To be found.
        visibility: `(n,)` of `people` in [0, 1]; 1 where the file does not tell.
        ignore: Distractors, which may be tracked or not.
        other: Everything else that is annotated: vehicles, occluders, people not counted.
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


@dataclass(frozen=True)
class SequenceInfo:
    """What a `seqinfo.ini` says; sizes in pixels."""

    name: str
    frames_per_second: float
    num_frames: int
    width: int
    height: int
    image_folder: str
    image_suffix: str


def read_ground_truth(path: Path) -> GroundTruth:
    """Read a `gt.txt` of MOT15 (10 columns) or MOT16, 17, 20 (9 columns).

    Raises:
        ValueError: If a line cannot be read, in one line with the file and the line's number.
    """
    table = _read_table(path, least=7)
    flag = table[:, 6] > 0
    if table.shape[1] != 9:  # MOT15: only people, and world coordinates we do not need
        return GroundTruth(
            _rows(table[flag]), np.ones(int(flag.sum())), BoxRows.empty(), BoxRows.empty()
        )
    person = flag & (table[:, 7] == PEDESTRIAN)
    distractor = np.isin(table[:, 7], DISTRACTORS)
    rest = ~person & ~distractor
    return GroundTruth(
        _rows(table[person]), table[person, 8], _rows(table[distractor]), _rows(table[rest])
    )


def read_scored(path: Path) -> ScoredRows:
    """Read a `det.txt` or a file of results.

    Raises:
        ValueError: If a line cannot be read, in one line with the file and the line's number.
    """
    table = _read_table(path, least=7)
    return ScoredRows(_rows(table), table[:, 6])


def format_results(rows: BoxRows, scores: FloatArray) -> str:
    """Lines `frame,id,left,top,width,height,score,-1,-1,-1`, by frame and id.

    Args:
        rows: Tracks.
        scores: `(n,)`.
    """
    return _lines(rows, [f"{score:.4f},-1,-1,-1" for score in scores])


def format_ground_truth(rows: BoxRows, visibility: FloatArray) -> str:
    """Lines `frame,id,left,top,width,height,1,1,visibility`, by frame and id.

    Args:
        rows: People.
        visibility: `(n,)` in [0, 1].
    """
    return _lines(rows, [f"1,{PEDESTRIAN},{share:.3f}" for share in visibility])


def _lines(rows: BoxRows, endings: list[str]) -> str:
    """Text of rows by frame and id; `endings` are what stands behind each box."""
    tlwh = tlbr_to_tlwh(rows.tlbr)
    return "".join(
        f"{rows.frame[i] + 1},{rows.track_id[i]},{tlwh[i, 0] + 1:.2f},{tlwh[i, 1] + 1:.2f},"
        f"{tlwh[i, 2]:.2f},{tlwh[i, 3]:.2f},{endings[i]}\n"
        for i in np.lexsort((rows.track_id, rows.frame))
    )


def read_sequence_info(path: Path) -> SequenceInfo:
    """Read a `seqinfo.ini`.

    Raises:
        ValueError: If the file or a value cannot be read, in one line.
    """
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
        section = parser["Sequence"]
        return SequenceInfo(
            name=section.get("name", path.parent.name),
            frames_per_second=float(section["frameRate"]),
            num_frames=int(section["seqLength"]),
            width=int(section["imWidth"]),
            height=int(section["imHeight"]),
            image_folder=section.get("imDir", "img1"),
            image_suffix=section.get("imExt", ".jpg"),
        )
    except (OSError, UnicodeDecodeError, KeyError, ValueError, configparser.Error) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable seqinfo.ini: {reason}") from error


def format_sequence_info(info: SequenceInfo) -> str:
    """Text of a `seqinfo.ini`."""
    return (
        f"[Sequence]\nname={info.name}\nimDir={info.image_folder}\n"
        f"frameRate={info.frames_per_second:g}\nseqLength={info.num_frames}\n"
        f"imWidth={info.width}\nimHeight={info.height}\nimExt={info.image_suffix}\n"
    )


def _rows(table: NDArray[np.float64]) -> BoxRows:
    tlbr = tlwh_to_tlbr(table[:, 2:6]) - 1.0  # sizes are kept, only the origin moves
    return BoxRows(table[:, 0].astype(np.int64) - 1, table[:, 1].astype(np.int64), tlbr)


def _read_table(path: Path, least: int) -> NDArray[np.float64]:
    """`(n, columns)` numbers of a file whose lines all have as many columns."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file") from error
    table: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if line.strip():
            table.append(_parse(path, number, line, least))
            if len(table[-1]) != len(table[0]):
                got, wanted = len(table[-1]), len(table[0])
                raise ValueError(f"{path}:{number}: got {got} columns, lines before have {wanted}")
    return np.array(table, np.float64).reshape(len(table), -1 if table else least)


def _parse(path: Path, number: int, line: str, least: int) -> list[float]:
    try:
        values = [float(cell) for cell in line.strip().rstrip(",").split(",")]
    except ValueError:
        raise ValueError(f"{path}:{number}: got {line.strip()!r}, accepted are numbers") from None
    if len(values) < least:
        raise ValueError(
            f"{path}:{number}: got {len(values)} columns, accepted are at least {least}"
        )
    if not np.isfinite(values).all() or values[0] < 1 or values[0] != int(values[0]):
        raise ValueError(
            f"{path}:{number}: got {line.strip()!r}, accepted are finite numbers and frames from 1"
        )
    return values


def rows_of_frames(frames: Iterable[tuple[int, Any, FloatArray]]) -> BoxRows:
    """Rows of `(frame_index, (n,) ids, (n, 4) tlbr)`, one item a frame."""
    parts = [
        BoxRows(np.full(len(ids), index, np.int64), np.asarray(ids, np.int64), np.asarray(tlbr))
        for index, ids, tlbr in frames
    ]
    return BoxRows.concatenate(parts) if parts else BoxRows.empty()
