"""Pairs the predictions of a sequence with its ground truth."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from jde_ray.pipelines.evaluation.ground_truth import TruthRules, find_truths
from jde_ray.pipelines.names import listed, sequence_name
from jde_ray.pipelines.output.layout import RUN_KEY
from jde_ray.pipelines.parallel import for_each
from jde_ray.pipelines.sources.saved_tracks import by_all_names, names_of
from jde_ray.pipelines.storage.stores import open_store

Result = TypeVar("Result")


@dataclass(frozen=True)
class Pairing:
    """A sequence to score.

    Attributes:
        name: Name of the sequence in the table of scores.
        predictions: File of tracks or of detections, or the frames (a video or an image folder)
            on which a network is run.
        truth: File of ground truth; None if there is none.
    """

    name: str
    predictions: Path
    truth: Path | None


@contextmanager
def local_copy(place: str, folder: str = "tracks") -> Iterator[Path]:
    """A local path unchanged, or a temporary local copy of one folder of OUT in S3.

    Args:
        place: A path, or `s3://bucket/prefix`.
        folder: Subfolder of OUT: `tracks` or `detections`.

    Raises:
        ValueError: If the address has another form, or the folder is empty.
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
        if store.exists(RUN_KEY):
            Path(root, RUN_KEY).write_bytes(store.get(RUN_KEY))
        for key in keys:
            (copy / key.rpartition("/")[2]).write_bytes(store.get(key))
        if not keys:
            raise ValueError(f"{folder}: no Parquet file and no MOT text file in {place}")
        yield copy


def pair(predictions: Mapping[str, Path], gt: Path) -> tuple[list[Pairing], list[str]]:
    """Find the ground truth of each sequence of predictions.

    Args:
        predictions: Files by the name of their sequence, as `find_tracks` returns them.
        gt: Folder for `find_truths`, or the one file of a single sequence.

    Returns:
        The pairings in the order of `predictions`, and the names of sequences with ground truth
        but without predictions.

    Raises:
        ValueError: If `gt` is missing, is one file for several sequences, or has two files for one
            sequence.
    """
    if not gt.is_dir() and not gt.is_file():
        raise ValueError(f"gt: {gt} is neither a folder nor a file")
    truths = find_truths(gt)
    if gt.is_file() and sum(map(len, truths.values())) < 2:
        if len(predictions) > 1:
            raise ValueError(f"gt: {gt} is one sequence, beside tracks of {len(predictions)}")
        return [Pairing(name, path, gt) for name, path in predictions.items()], []
    named = by_all_names(truths)
    pairings: list[Pairing] = []
    owners: dict[Path, Path] = {}
    for shown, path in predictions.items():
        # the full name first, since a date looks like the hash of an id
        names = (names_of(path)[0], shown, sequence_name(shown))
        name = next((name for name in names if name in named), None)
        if name is None:
            pairings.append(Pairing(shown, path, None))
            continue
        if len(named[name]) > 1:
            first, second = named[name][:2]
            both = f"two videos of {first.parent}" if first == second else f"{first} and {second}"
            raise ValueError(f"gt: {both} are both of {name}")
        (truth,) = named[name]
        if owners.setdefault(truth, path) != path:
            raise ValueError(f"tracks: {owners[truth]} and {path} are both of {name}")
        pairings.append(Pairing(name, path, truth))
    return pairings, sorted(
        name for name, files in truths.items() if owners.keys().isdisjoint(files)
    )


def pair_all(
    files: Mapping[str, Path], gt: Path, skip_missing: bool
) -> tuple[list[Pairing], list[str], list[str]]:
    """Pair files with ground truth; every file needs some.

    Args:
        files: Files by the name of their sequence.
        gt: Ground truth, see `pair`.
        skip_missing: Leave out sequences without ground truth.

    Returns:
        The pairings, names of sequences skipped for lack of ground truth, and names of ground
        truth without tracks.

    Raises:
        ValueError: If ground truth is missing without `skip_missing`, or for all sequences; and
            what `pair` raises.
    """
    pairings, unscored = pair(files, gt)
    missing = [pairing.name for pairing in pairings if pairing.truth is None]
    if missing and not skip_missing:
        more = f", nor such a file for {listed(missing[1:])}" if len(missing) > 1 else ""
        raise ValueError(
            f"gt: no {missing[0]}/gt/gt.txt, {missing[0]}.gt.txt, {missing[0]}.parquet, "
            f"{missing[0]}.xml or {missing[0]}.coco.json below {gt}{more}; "
            "--skip-missing leaves out sequences without ground truth"
        )
    found = [pairing for pairing in pairings if pairing.truth is not None]
    if not found:
        raise ValueError(f"gt: no ground truth below {gt} for any sequence")
    return found, missing, unscored


def for_each_pairing(
    work: Callable[..., Result],
    pairings: Sequence[Pairing],
    rules: TruthRules = TruthRules(),
    address: str | None = None,
) -> dict[str, Result]:
    """Call a function for every sequence, each in a separate task (`pipelines.parallel`).

    Args:
        work: Function at the top of a module; it is called with a pairing and `rules`.
        pairings: Sequences with ground truth.
        rules: Rules for reading ground truth.
        address: Address of the Ray cluster; None for this process if there are few sequences.

    Returns:
        Results of `work` by sequence, in the order of `pairings`.

    Raises:
        ValueError: If `work` raises it.
        RunError: If there is no Ray at the address.
    """
    results = for_each(partial(work, rules=rules), pairings, address)
    return {pairing.name: result for pairing, result in zip(pairings, results, strict=True)}
