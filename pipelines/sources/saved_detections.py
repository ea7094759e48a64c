"""Finds files of detections behind the sources that a user names; reads only names and headers.

A source is the OUT of a run with `--save-detections`, a folder of its Parquet files, one of them,
a MOT text file, a sequence folder (`NAME/det/det.txt`), a tree of those, or a glob.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from jde_ray.pipelines.config import SourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.detections import SavedVideo
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.formats.sequence_info import sequence_rate
from jde_ray.pipelines.names import sequence_name
from jde_ray.pipelines.output.layout import DETECTIONS_PREFIX
from jde_ray.pipelines.sources.cameras import from_pattern
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.sources.search import Source, list_sources
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video


def find_saved(sources: Source | Iterable[Source]) -> list[SavedVideo]:
    """Detections behind `sources`, sorted by video id.

    Raises:
        RunError: If there are none, a file cannot be read, or a video has two files.
    """
    found: dict[str, SavedVideo] = {}
    for source in list_sources(sources):
        for saved in _searched(source):
            before = found.setdefault(saved.video.video_id, saved)
            if (before.root, before.key) != (saved.root, saved.key):
                raise _refused(
                    f"{saved.video.name} has two files, {_place(before)} and {_place(saved)}; name"
                    " one"
                )
    if not found:
        raise _refused("no source given")
    return [found[video_id] for video_id in sorted(found)]


def from_addresses(saved: Sequence[SavedVideo], config: SourceConfig) -> list[SavedVideo]:
    """The detections with the camera and the start that the addresses of their videos tell.

    Others keep those that were saved with them.

    Raises:
        RunError: If there is a pattern, and it fits no video.
    """
    videos = from_pattern([one.video for one in saved], config)
    return [replace(one, video=video) for one, video in zip(saved, videos, strict=True)]


def _searched(source: str) -> list[SavedVideo]:
    try:
        return list(_expand(source))
    except OSError as error:
        if "://" in source:
            raise
        reason = error.strerror or type(error).__name__
        raise _refused(f"{source} cannot be searched ({reason})") from error


def with_frames(
    saved: Iterable[SavedVideo], sources: Source | Iterable[Source]
) -> list[SavedVideo]:
    """The detections with the videos that show their frames, found by name.

    Args:
        saved: From `find_saved`.
        sources: Videos and image folders, as `jde track` takes them.

    Raises:
        RunError: If a name has no video or several.
    """
    named: dict[str, list[Video]] = {}
    for video in find_videos(sources).videos:
        named.setdefault(video.name, []).append(video)
    found = []
    for one in saved:
        videos = named.get(one.video.name, [])
        if len(videos) != 1:
            places = " and ".join(video.uri for video in videos[:2]) or "none"
            raise RunError(
                f"frames: got {places} of {one.video.name}, expected one video of that name",
                ExitCode.REFUSED,
            )
        found.append(replace(one, frames=videos[0]))
    return found


def run_folder(saved: SavedVideo) -> str | None:
    """OUT of the run that a Parquet file belongs to; None for other files."""
    if saved.is_text:
        return None
    if saved.key.startswith(DETECTIONS_PREFIX):
        return saved.root
    return (
        str(Path(saved.root).parent) if f"{Path(saved.root).name}/" == DETECTIONS_PREFIX else None
    )


def _expand(source: str) -> Iterator[SavedVideo]:
    if "://" in source:
        yield from _run(source)
        return
    path = Path(os.path.expanduser(source))
    if path.is_dir():
        yield from _folder(path)
    elif path.exists():
        yield _file(path)
    elif glob.has_magic(str(path)) and (matches := sorted(glob.glob(str(path), recursive=True))):
        for match in matches:
            yield from _folder(Path(match)) if os.path.isdir(match) else [_file(Path(match))]
    else:
        raise _refused(f"{source} does not exist")


def _folder(folder: Path) -> list[SavedVideo]:
    if (folder / DETECTIONS_PREFIX).is_dir():
        return _run(str(folder))
    if files := sorted(folder.glob("*.parquet")):
        return [_file(file) for file in files]
    sequences = sorted({path.parent.parent for path in folder.glob("**/det/*.txt")})
    if sequences:
        return [_sequence(sequence) for sequence in sequences]
    if files := sorted(folder.glob("*.txt")):
        return [_file(file) for file in files]
    raise _refused(
        f"no detections in {folder}; expected detections/*.parquet, *.parquet, det/det.txt"
        " below it, *.txt"
    )


def _sequence(folder: Path) -> SavedVideo:
    files = sorted((folder / "det").glob("*.txt"))
    usual = [file for file in files if file.name == "det.txt"] or files
    if len(usual) > 1:
        names = ", ".join(file.name for file in usual)
        raise _refused(f"{folder}/det has {names}; name one, or several with a glob")
    return _file(usual[0])


def _file(path: Path) -> SavedVideo:
    place = os.path.realpath(path)
    root, key = os.path.split(place)
    if path.suffix.lower() == ".txt":
        # the detections belong to the sequence's images: use the id that `jde track NAME` does
        is_sequence = os.path.basename(root) == "det"
        uri = os.path.dirname(root) if is_sequence else place
        name = os.path.basename(uri) if is_sequence else path.stem
        video = Video(uri, name, is_sequence, sequence_rate(Path(uri)), version=_version(place))
        return SavedVideo(video, root, key)
    return _parquet(root, key)


def _run(out: str) -> list[SavedVideo]:
    try:
        store = open_store(out)
        keys = [key for key in store.list(DETECTIONS_PREFIX) if key.endswith(".parquet")]
    except (ValueError, OSError) as error:
        raise _refused(f"{out} cannot be read ({error})") from error
    if not keys:
        raise _refused(f"no detections in {out}; `jde track --save-detections` writes them")
    return [_parquet(store.uri, key) for key in keys]


def _parquet(root: str, key: str) -> SavedVideo:
    version = ""
    try:
        file = open_parquet(open_store(root), key)
        metadata, has_motion = file.metadata, "camera_motion" in file.schema_arrow.names
        if "://" not in root:
            version = _version(os.path.join(root, key))
        facts = FileFacts.of(metadata)
        video = facts.video
    except (OSError, pa.ArrowException, ValueError, TypeError) as error:
        raise _refused(f"{root}/{key} is not a readable Parquet file ({error})") from error
    if video is None:  # written by a version that did not store it
        name = sequence_name(Path(key).stem)
        video = Video(f"{root}/{key}", name)
    version = f"{facts.video_version}|{version}"
    return SavedVideo(replace(video, version=version), root, key, has_motion)


def _version(path: str) -> str:
    """Version that changes with the detections, so that checkpoints of others are not resumed."""
    status = os.stat(path)
    return f"detections-{status.st_size}-{status.st_mtime_ns}"


def _place(saved: SavedVideo) -> str:
    return f"{saved.root}/{saved.key}"


def _refused(message: str) -> RunError:
    return RunError(f"from-detections: {' '.join(message.split())}", ExitCode.REFUSED)
