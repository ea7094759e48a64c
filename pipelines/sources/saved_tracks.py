"""Finds files of tracks and detections by the name of their sequence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jde_ray.pipelines.names import safe_name, sequence_name
from jde_ray.pipelines.output.layout import RUN_KEY, TRACKS_PREFIX
from jde_ray.pipelines.output.run_record import frame_limits, parse_record
from jde_ray.pipelines.storage.stores import open_store


def find_tracks(place: Path, folder: str = "tracks") -> dict[str, Path]:
    """Files of tracks by the name of their sequence, sorted.

    The name is the file's name without the hash of a video id. A date looks like such a hash, so if
    two names become equal without it, the full names are used.

    Args:
        place: OUT of a run, a folder of Parquet or MOT text files (also in its subfolder `data/`,
            TrackEval's layout), or one such file. For `detections` also a tree of
            NAME/det/det.txt.
        folder: Subfolder of OUT: `tracks` or `detections`.

    Raises:
        ValueError: If there are no files, or two have one name.
    """
    files = _list_tracks(place, folder)
    numbers = Counter(names_of(path)[-1] for path in files)
    found: dict[str, Path] = {}
    for path in files:
        own, *short = names_of(path)
        name = short[0] if short and numbers[short[0]] == 1 else own
        if name in found:
            raise ValueError(f"{folder}: {found[name]} and {path} are both of {name}")
        found[name] = path
    return dict(sorted(found.items()))


def _list_tracks(place: Path, folder: str) -> list[Path]:
    try:
        return _found(place, folder)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{folder}: {place} cannot be searched ({reason})") from error


def _found(place: Path, folder: str) -> list[Path]:
    if not place.exists():
        raise ValueError(f"{folder}: {place} does not exist")
    if place.is_file():
        if place.suffix not in (".parquet", ".txt"):
            raise ValueError(f"{folder}: got {place}, expected .parquet and .txt")
        return [place]
    for root in (place / folder, place, place / "data"):
        files = sorted(root.glob("*.parquet"))
        if not files and folder == "detections":
            files = _list_public(root)
        if files := files or sorted(root.glob("*.txt")):
            return files
    raise ValueError(f"{folder}: no Parquet file and no MOT text file in {place}")


def names_of(path: Path) -> tuple[str, ...]:
    """Names of the sequence: NAME for NAME/det/det.txt, else the file's, with and without hash."""
    folder = path.parent
    if folder.name == "det":
        return (folder.resolve().parent.name,)
    own = path.stem
    return (own,) if sequence_name(own) == own else (own, sequence_name(own))


def _list_public(root: Path) -> list[Path]:
    """Public detections of a MOTChallenge tree, one file per sequence.

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


def list_tracks(source: str) -> list[str]:
    """Addresses of the files of tracks in a place that may be in an object store.

    Args:
        source: As for `find_tracks`, or OUT of a run at `s3://bucket/prefix`.

    Raises:
        ValueError: As `find_tracks`.
        OSError: If the store does not answer.
    """
    if "://" not in source:
        return [str(path) for path in find_tracks(Path(source)).values()]
    store = open_store(source)
    keys = [key for key in store.list(TRACKS_PREFIX) if key.endswith((".parquet", ".txt"))]
    if not keys:
        raise ValueError(f"tracks: no Parquet file and no MOT text file in {source}")
    return [f"{store.uri}/{key}" for key in keys]


def record_of(source: str) -> dict[str, Any]:
    """`run.json` of the run that wrote the tracks in a place, empty if there is none.

    Args:
        source: As for `list_tracks`.

    Raises:
        ValueError: If it cannot be read, in one line.
        OSError: If the store does not answer.
    """
    places = [source]
    if "://" not in source:
        folders = (Path(source), Path(source).parent, Path(source).parent.parent)
        places = [str(folder) for folder in folders if (folder / RUN_KEY).is_file()]
    for place in places:
        store = open_store(place)
        if not store.exists(RUN_KEY):
            continue
        try:
            return parse_record(store.get(RUN_KEY))
        except ValueError as error:
            raise ValueError(
                f"{place}/{RUN_KEY} cannot be read ({error}); put back the one that the"
                " run wrote, or take its tracks/ from a folder without it"
            ) from error
    return {}


def stride_of(record: dict[str, Any]) -> int:
    """Every how many-th frame a run processed, by its `run.json`; 1 if there is none.

    Raises:
        ValueError: If the number is wrong.
    """
    stride = record.get("config", {}).get("vid_stride", 1)
    try:
        return frame_limits({"vid_stride": stride})[0]
    except ValueError as error:
        raise ValueError(f"run.json: {error}") from error


@contextmanager
def local_file(file: str, folder: Path) -> Iterator[Path]:
    """A local path of a file; one in an object store is copied into `folder`."""
    if "://" not in file:
        yield Path(file)
        return
    place, _, name = file.rpartition("/")
    path = folder / name
    path.write_bytes(open_store(place).get(name))
    yield path


def by_all_names(truths: Mapping[str, list[Path]]) -> dict[str, list[Path]]:
    """Ground truth also by the form that its name has in an id, and by the name in its own id.

    Args:
        truths: Files by name, as `find_truths` returns them.
    """
    named = dict(truths)
    for name, files in truths.items():
        for other in {sequence_name(name), safe_name(name)} - truths.keys():
            named[other] = [*named.get(other, ()), *files]
    return named
