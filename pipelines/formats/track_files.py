"""What is to be scored: sequences of tracks, their ground truth, and rows from either's files."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jde_ray.models.metrics.rows import BoxRows, check_unique
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.formats.mot import Benchmark, GroundTruth, read_ground_truth, read_results
from jde_ray.pipelines.names import safe_name, sequence_name
from jde_ray.pipelines.storage.stores import open_store

_CORNERS = ("x1", "y1", "x2", "y2")
_NOT_SEARCHED = frozenset({"img1", "det"})  # of a MOTChallenge sequence: many files, no truth


@dataclass(frozen=True)
class Pairing:
    """A sequence of tracks and its ground truth; None where there is none."""

    name: str
    tracks: Path
    truth: Path | None


@dataclass(frozen=True)
class TruthRules:
    """How ground truth is read.

    Attributes:
        benchmark: Whose rules for classes and distractors, see `read_ground_truth`.
        min_visibility: People seen less than that are neither right nor wrong to track. The
            benchmarks count everyone (0).
    """

    benchmark: Benchmark = "auto"
    min_visibility: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_visibility <= 1:
            raise ValueError(f"min-visibility: got {self.min_visibility}, accepted is 0 to 1")


@contextmanager
def local_copy(place: str, folder: str = "tracks") -> Iterator[Path]:
    """The place itself, or for OUT in a store a copy of one of its folders while it is needed.

    Args:
        place: A path, or `s3://bucket/prefix`.
        folder: Of the run: `tracks`, or `detections`.

    Raises:
        ValueError: If it is another kind of address.
        OSError: If the store does not answer.
    """
    if "://" not in place:
        yield Path(place)
        return
    store = open_store(place)
    with tempfile.TemporaryDirectory(prefix="jde-") as root:
        copy = Path(root, folder)
        copy.mkdir()
        keys = [key for key in store.list(f"{folder}/") if key.endswith((".parquet", ".txt"))]
        if store.exists("run.json"):
            Path(root, "run.json").write_bytes(store.get("run.json"))
        for key in keys:
            (copy / key.rpartition("/")[2]).write_bytes(store.get(key))
        if not keys:
            raise ValueError(f"{folder}: no Parquet file and no MOT text file in {place}")
        yield copy


def find_tracks(place: Path, folder: str = "tracks") -> dict[str, Path]:
    """Files of tracks by the name of their sequence, sorted.

    The name is the file's, without the hash of a video id. A date looks like one, so that files
    of one name go by all of their own.

    Args:
        place: OUT of a run, a folder of Parquet or of MOT text files (also one with them in
            `data/`, as TrackEval has it), or one such file. Of `detections` also a tree of
            NAME/det/det.txt.
        folder: Of the run: `tracks`, or `detections`.

    Raises:
        ValueError: If there are none, or two of one name.
    """
    files = _list_tracks(place, folder)
    numbers = Counter(_names_of(path)[-1] for path in files)
    found: dict[str, Path] = {}
    for path in files:
        own, *short = _names_of(path)
        name = short[0] if short and numbers[short[0]] == 1 else own
        if name in found:
            raise ValueError(f"{folder}: {found[name]} and {path} are both of {name}")
        found[name] = path
    return dict(sorted(found.items()))


def _list_tracks(place: Path, folder: str) -> list[Path]:
    if not place.exists():
        raise ValueError(f"{folder}: {place} does not exist")
    if place.is_file():
        if place.suffix not in (".parquet", ".txt"):
            raise ValueError(f"{folder}: got {place}, accepted are .parquet and .txt")
        return [place]
    for root in (place / folder, place, place / "data"):
        files = sorted(root.glob("*.parquet"))
        if not files and folder == "detections":
            files = _list_public(root)
        if files := files or sorted(root.glob("*.txt")):
            return files
    raise ValueError(f"{folder}: no Parquet file and no MOT text file in {place}")


def _names_of(path: Path) -> tuple[str, ...]:
    """Names of the sequence: NAME of NAME/det/det.txt; else the file's own, and without a hash."""
    folder = path.parent
    if folder.name == "det":
        return (folder.resolve().parent.name,)
    own = path.stem
    return (own,) if sequence_name(own) == own else (own, sequence_name(own))


def _list_public(root: Path) -> list[Path]:
    """Public detections of a MOTChallenge tree, a file a sequence.

    Raises:
        ValueError: If a sequence has several files and none of them is `det.txt`.
    """
    listed = []
    for folder in sorted(path for path in root.glob("**/det") if path.is_dir()):
        files = sorted(folder.glob("*.txt"))
        usual = [file for file in files if file.name == "det.txt"] or files
        if len(usual) > 1:
            names = ", ".join(file.name for file in usual)
            raise ValueError(f"detections: {folder} has {names}; name one of them")
        listed += usual
    return listed


def find_truths(root: Path) -> dict[str, list[Path]]:
    """Files of ground truth by the name of their sequence.

    Args:
        root: Folder with NAME/gt/gt.txt, NAME.gt.txt or NAME.parquet anywhere below it.
    """
    found: dict[str, list[Path]] = {}
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = sorted(set(subfolders) - _NOT_SEARCHED)
        here = Path(folder)
        for file in sorted(files):
            if file == "gt.txt" and here.name == "gt":
                name = here.resolve().parent.name
            elif file.endswith(".gt.txt"):
                name = file.removesuffix(".gt.txt")
            elif file.endswith(".parquet"):
                name = Path(file).stem
            else:
                continue
            found.setdefault(name, []).append(here / file)
    return found


def pair(tracks: Mapping[str, Path], gt: Path) -> tuple[list[Pairing], list[str]]:
    """Ground truth beside each sequence of tracks.

    Args:
        tracks: Of `find_tracks`.
        gt: Folder for `find_truths`, or one file, which then goes with the one sequence.

    Returns:
        The pairings in the order of `tracks`, and the names of sequences of ground truth without
        tracks.

    Raises:
        ValueError: If `gt` is missing, is one file beside several sequences, or holds two truths
            of one sequence.
    """
    if gt.is_file():
        if len(tracks) > 1:
            raise ValueError(f"gt: {gt} is one sequence, beside tracks of {len(tracks)}")
        return [Pairing(name, path, gt) for name, path in tracks.items()], []
    if not gt.is_dir():
        raise ValueError(f"gt: {gt} is no folder and no file")
    truths = find_truths(gt)
    named = by_all_names(truths)
    pairings: list[Pairing] = []
    owners: dict[Path, Path] = {}
    for shown, path in tracks.items():
        # the whole name first: what looks like the hash of an id may be a date
        names = (_names_of(path)[0], shown, sequence_name(shown))
        name = next((name for name in names if name in named), None)
        if name is None:
            pairings.append(Pairing(shown, path, None))
            continue
        if len(named[name]) > 1:
            both = " and ".join(map(str, named[name][:2]))
            raise ValueError(f"gt: {both} are both of {name}")
        (truth,) = named[name]
        if owners.setdefault(truth, path) != path:
            raise ValueError(f"tracks: {owners[truth]} and {path} are both of {name}")
        pairings.append(Pairing(name, path, truth))
    return pairings, sorted(
        name for name, files in truths.items() if owners.keys().isdisjoint(files)
    )


def by_all_names(truths: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """Ground truth also by what an id makes of its name, and by its own id's name.

    Args:
        truths: Of `find_truths`.
    """
    named = dict(truths)
    for name, files in truths.items():
        for other in {sequence_name(name), safe_name(name)} - truths.keys():
            named[other] = [*named.get(other, ()), *files]
    return named


def read_truth(path: Path, rules: TruthRules = TruthRules()) -> GroundTruth:
    """Ground truth of a sequence, from MOT text or Parquet in the schema of `tracks/`.

    Raises:
        ValueError: If it cannot be read, in one line with the file, and the line of a text file.
    """
    if path.suffix == ".parquet":
        rows = read_tracks(path)
        truth = GroundTruth(rows, np.ones(len(rows)), BoxRows.empty(), BoxRows.empty())
    else:
        truth = read_ground_truth(path, rules.benchmark)
    hidden = truth.visibility < rules.min_visibility
    if not hidden.any():
        return truth
    ignore = BoxRows.concatenate([truth.ignore, truth.people[hidden]])
    return GroundTruth(truth.people[~hidden], truth.visibility[~hidden], ignore, truth.other)


def read_tracks(path: Path) -> BoxRows:
    """Tracks of a sequence, from MOT text or a file of `tracks/`.

    Raises:
        ValueError: If they cannot be read, in one line with the file, and the line of a text file
            or the row (from 0) of Parquet.
    """
    return read_scored_tracks(path)[0]


def read_scored_tracks(path: Path) -> tuple[BoxRows, FloatArray]:
    """As `read_tracks`, with the `(n,)` scores; 1 where a Parquet has none."""
    if path.suffix != ".parquet":
        results = read_results(path)
        return results.rows, results.scores
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: not a readable Parquet file ({reason})") from error
    wanted = ("frame", "track_id", *_CORNERS)
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]}, accepted are {', '.join(wanted)}")
    columns = {name: table.column(name).to_numpy().astype(np.float64) for name in wanted}
    tlbr = np.stack([columns[name] for name in _CORNERS], 1)
    numbers = np.column_stack([columns["frame"], columns["track_id"], tlbr])
    bad = np.flatnonzero(~np.isfinite(numbers).all(axis=1) | (columns["frame"] < 0))
    if len(bad):
        got = ", ".join(f"{value:g}" for value in numbers[bad[0]])
        raise ValueError(
            f"{path}: row {bad[0]}: got {got}, accepted are finite numbers and frames from 0"
        )
    rows = BoxRows(columns["frame"].astype(np.int64), columns["track_id"].astype(np.int64), tlbr)
    check_unique(str(path), rows)
    scores = (
        table.column("score").to_numpy() if "score" in table.column_names else np.ones(len(rows))
    )
    return rows, scores.astype(np.float64)
