"""Finds and reads ground truth: MOTChallenge trees, Parquet, and what CVAT and COCO tools write.

A video of a COCO file that names its videos has the path FILE/NAME, as if the file was a folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from jde_ray.models.metrics.rows import BoxRows, check_unique
from jde_ray.pipelines.formats.exchange.annotated import AnnotatedVideo, raise_refusal
from jde_ray.pipelines.formats.exchange.coco_reader import read_coco, video_names
from jde_ray.pipelines.formats.exchange.cvat_reader import read_cvat
from jde_ray.pipelines.formats.mot import BENCHMARKS, Benchmark, GroundTruth, read_ground_truth
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.names import safe_name

_NOT_SEARCHED = frozenset({"img1", "det"})  # in a MOTChallenge sequence: many files, no truth
_COCO_SUFFIX = ".coco.json"
_HEAD_BYTES = 4096  # of an XML file, which say whether it is CVAT's


@dataclass(frozen=True)
class TruthRules:
    """Rules for reading ground truth.

    Attributes:
        benchmark: Benchmark whose rules for classes and distractors apply, see
            `read_ground_truth`.
        min_visibility: Tracks on people below this visibility are neither right nor wrong. The
            benchmarks count everyone (0).
    """

    benchmark: Benchmark = "auto"
    min_visibility: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.min_visibility <= 1:
            raise ValueError(f"min-visibility: got {self.min_visibility}, expected 0 to 1")


def rules_of(benchmark: str, min_visibility: float) -> TruthRules:
    """Rules for ground truth, from the name of a benchmark in any case.

    Raises:
        ValueError: If the benchmark is unknown or the visibility out of range.
    """
    for known in BENCHMARKS:
        if benchmark.lower() == known.lower():
            return TruthRules(known, min_visibility)
    raise ValueError(f"benchmark: got {benchmark}, expected {' | '.join(BENCHMARKS)}")


def find_truths(root: Path) -> dict[str, list[Path]]:
    """Files of ground truth by the name of their sequence.

    Args:
        root: Folder with NAME/gt/gt.txt, NAME.gt.txt, NAME.parquet, or CVAT's and COCO's files
            (`truth_name`) anywhere below it; or one file, whose videos are found if it is COCO.

    Raises:
        ValueError: If a COCO file cannot be read.
    """
    found: dict[str, list[Path]] = {}
    if root.is_file():
        for name in video_names(root) if root.suffix == ".json" else ():
            found.setdefault(name, []).append(root / safe_name(name))
        return found
    for folder, subfolders, files in os.walk(root, followlinks=True):
        subfolders[:] = sorted(set(subfolders) - _NOT_SEARCHED)
        here = Path(folder)
        for file in sorted(files):
            for name, path in _truths_in(here / file):
                found.setdefault(name, []).append(path)
    return found


def _truths_in(path: Path) -> list[tuple[str, Path]]:
    """Name and path of each sequence in a file."""
    name = truth_name(path)
    if path.suffix != ".json" or name is None:
        return [] if name is None else [(name, path)]
    names = video_names(path)
    return [(name, path / safe_name(name)) for name in names] or [(name, path)]


def truth_name(path: Path) -> str | None:
    """Name of the sequence whose ground truth the file is; None if it is called otherwise.

    Files that tools call the same for every video (`annotations.xml` of CVAT, `annotations.json`,
    `annotations/instances_default.json` of COCO) have the name of their folder; others are
    NAME.xml and NAME.coco.json.
    """
    if path.parent.suffix == ".json":  # a video of a COCO file
        return path.name
    folder = path.parent.resolve()
    if path.suffix == ".xml" and _is_cvat(path):
        return folder.name if path.name == "annotations.xml" else path.stem
    if path.name.endswith(_COCO_SUFFIX):
        return path.name.removesuffix(_COCO_SUFFIX)
    if path.suffix == ".json" and path.name.startswith("instances_"):
        return folder.parent.name if folder.name == "annotations" else folder.name
    if path.name == "annotations.json":
        return folder.name
    if path.name == "gt.txt" and path.parent.name == "gt":
        return path.parent.resolve().parent.name
    if path.name.endswith(".gt.txt"):
        return path.name.removesuffix(".gt.txt")
    return path.stem if path.name.endswith(".parquet") else None


def _is_cvat(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b"<annotations" in file.read(_HEAD_BYTES)
    except OSError:
        return False


def read_truth(path: Path, rules: TruthRules = TruthRules()) -> GroundTruth:
    """Ground truth of a sequence: MOT text, Parquet as in `tracks/`, CVAT for video 1.1, or COCO.

    Args:
        path: The file; FILE/NAME for a video of a COCO file.
        rules: Rules for classes and visibility.

    Raises:
        ValueError: If it cannot be read, in one line with the file, and the line of a text file.
    """
    if path.suffix == ".parquet":
        rows = read_tracks(path)
        truth = GroundTruth(rows, np.ones(len(rows)), BoxRows.empty(), BoxRows.empty())
    elif path.suffix == ".xml":
        truth = _of_annotations(path, read_cvat(path, raise_refusal(str(path))).video)
    elif path.suffix == ".json" or path.parent.suffix == ".json":
        truth = _of_annotations(path, _coco_video(path))
    else:
        truth = read_ground_truth(path, rules.benchmark)
    hidden = truth.visibility < rules.min_visibility
    if not hidden.any():
        return truth
    ignore = BoxRows.concatenate([truth.ignore, truth.people[hidden]])
    return GroundTruth(truth.people[~hidden], truth.visibility[~hidden], ignore, truth.other)


@lru_cache(maxsize=1)  # its videos are scored one after the other
def _coco_videos(file: Path, _changed_ns: int, _size: int) -> list[AnnotatedVideo]:
    return read_coco(file, raise_refusal(str(file)))


def _coco_video(path: Path) -> AnnotatedVideo:
    """The video of a COCO file that a path names; the only one for the file itself."""
    file = path if path.is_file() else path.parent
    written = file.stat()
    videos = _coco_videos(file, written.st_mtime_ns, written.st_size)
    if path != file:
        videos = [video for video in videos if safe_name(video.name) == path.name]
    if len(videos) != 1:
        raise ValueError(f"{path}: got {len(videos)} videos, expected one of this name")
    return videos[0]


def _of_annotations(path: Path, video: AnnotatedVideo) -> GroundTruth:
    """Ground truth from another tool, in which everyone is visible.

    Raises:
        ValueError: If a box has no id, or an id two boxes in a frame.
    """
    people = video.rows[video.is_person & ~video.is_ignored]
    if len(nameless := np.flatnonzero(people.track_id < 0)):
        frame = people.frame[nameless[0]]
        raise ValueError(
            f"{path}: {len(nameless)} boxes have no track_id, the first in frame {frame} (from 0);"
            " expected the id of a person, the same in all frames"
        )
    check_unique(str(path), people)
    other = video.rows[~video.is_person & ~video.is_ignored]
    return GroundTruth(people, np.ones(len(people)), video.rows[video.is_ignored], other)
