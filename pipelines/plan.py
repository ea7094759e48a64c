"""From what a user names to the videos there are. Nothing is decoded here.

A source is a video file, a folder, a glob, a list (`@list.txt`, or a `.csv` with a column
`source`), an image, a folder of images, or any of the first three on S3.
"""

from __future__ import annotations

import csv
import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.config import ResourceConfig
from pipelines.containers import VIDEO_SUFFIXES, to_video_error
from pipelines.errors import ExitCode, Reason, RunError, VideoError
from pipelines.image_folders import is_image, sequence_rate
from pipelines.s3_sources import find_objects
from pipelines.schema import Segment, Video

Failure = tuple[Video, VideoError]

_MOST_IN_PACK = 16
_FEWEST_PACKS = 128
_MAX_LIST_DEPTH = 4  # a list may name lists; one that names itself ends here


def find_videos(sources: Sequence[str]) -> tuple[list[Video], list[Failure]]:
    """Videos behind `sources`, sorted by URI, each once.

    A folder is searched recursively for files with a video suffix and for MOTChallenge sequences
    (`img1/` and `seqinfo.ini`, named by the sequence's folder); other files, hidden ones and
    links to folders are passed over. A folder with neither, but with images, is one video.

    Args:
        sources: As typed.

    Returns:
        Videos, and the sources in which there is none, each with its error.

    Raises:
        RunError: If there is no video at all, or a source is of a kind that cannot be read.
    """
    videos: dict[str, Video] = {}
    failures: dict[str, Failure] = {}
    for source in sources:
        for found in _expand(source, _MAX_LIST_DEPTH):
            if isinstance(found, Video):
                videos.setdefault(found.uri, found)
            else:
                failures.setdefault(found[0].uri, found)
    if not videos:
        details = [error.detail for _, error in failures.values()] or ["no source given"]
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        raise RunError(f"no video found: {details[0]}{more}", ExitCode.REFUSED)
    return [videos[uri] for uri in sorted(videos)], [failures[uri] for uri in sorted(failures)]


def take_share(
    videos: Sequence[Video], failures: Sequence[Failure], share: tuple[int, int]
) -> tuple[list[Video], list[Failure]]:
    """The k-th of K shares; every video is in one, whatever else is in the archive.

    Args:
        videos: All of them.
        failures: Sources without a video, shared out likewise.
        share: k and K, k from 1.
    """
    part, of = share

    def is_ours(video: Video) -> bool:
        # not the hash that picks the association actor, or some of them would have no work
        digest = hashlib.sha256(video.video_id.encode()).digest()
        return int.from_bytes(digest[:8]) % of == part - 1

    return [v for v in videos if is_ours(v)], [f for f in failures if is_ours(f[0])]


def pack(segments: Sequence[Segment], resources: ResourceConfig) -> list[list[Segment]]:
    """Input rows of the dataflow: short videos of a large archive go together.

    A row costs the driver a task, whatever is in it. Few videos stay alone, so that all decoders
    have work; so do large ones, and those whose size is not known.
    """
    most = max(1, min(_MOST_IN_PACK, len(segments) // _FEWEST_PACKS))
    packs: list[list[Segment]] = []
    open_pack: list[Segment] = []
    for segment in segments:
        if not 0 < segment.video.num_bytes < resources.cut_bytes or segment.start_frame:
            packs.append([segment])
            continue
        if not open_pack or len(open_pack) == most:
            open_pack = []
            packs.append(open_pack)
        open_pack.append(segment)
    return packs


def _expand(source: str, depth: int) -> Iterator[Video | Failure]:
    if "://" in source and not source.startswith("s3://"):
        raise RunError(
            f"source: got {source}, accepted are local files, folders, globs and lists,"
            " and s3://bucket/prefix",
            ExitCode.REFUSED,
        )
    try:
        if source.startswith("s3://"):
            yield from find_objects(source)
        elif source.startswith("@"):
            yield from _list(Path(source[1:]).expanduser(), depth)
        else:
            yield from _path_or_glob(os.path.expanduser(source), depth)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        known = to_video_error(error)
        if isinstance(error, OSError):
            yield _failure(source, VideoError(known.reason, f"{source}: {known.detail}"))
        else:
            detail = f"{source}: not a list in UTF-8 text"
            yield _failure(source, VideoError(Reason.UNSUPPORTED_FORMAT, detail))


def _path_or_glob(source: str, depth: int) -> Iterator[Video | Failure]:
    path = Path(source)
    if path.is_dir():
        yield from _folder_or_failure(path)
    elif path.suffix.lower() == ".csv":
        yield from _list(path, depth)
    elif path.exists():
        yield _file(path)
    elif glob.has_magic(source):
        yield from _glob(source)
    else:
        yield _failure(source, VideoError(Reason.NOT_FOUND, f"{source} does not exist"))


def _glob(pattern: str) -> Iterator[Video | Failure]:
    matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
    found = [_file(p) for p in matches if p.is_file() and p.suffix.lower() in VIDEO_SUFFIXES]
    for path in matches:
        if path.is_dir() and path.name != "img1":
            found += _folder(path)
    if not found:
        detail = f"{pattern} matches no video"
        yield _failure(pattern, VideoError(Reason.NOT_FOUND, detail))
    yield from found


def _list(path: Path, depth: int) -> Iterator[Video | Failure]:
    if depth == 0:
        detail = f"{path}: lists inside lists inside lists"
        yield _failure(str(path), VideoError(Reason.UNSUPPORTED_FORMAT, detail))
        return
    for entry in _entries(path):
        if "://" in entry:
            yield from _expand(entry, depth - 1)
            continue
        # written where the shell stood, or beside the videos: the first that exists
        beside = path.parent / entry
        is_beside = not os.path.lexists(entry) and os.path.lexists(beside)
        yield from _expand(str(beside) if is_beside else entry, depth - 1)


def _entries(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8-sig")
    if path.suffix.lower() != ".csv":
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    reader = csv.DictReader(text.splitlines())
    if "source" not in (reader.fieldnames or ()):
        names = ", ".join(reader.fieldnames or ()) or "none"
        raise RunError(
            f"{path}: got columns {names}, accepted is a column `source`", ExitCode.REFUSED
        )
    return [row["source"].strip() for row in reader if row["source"]]


def _folder_or_failure(folder: Path) -> Iterator[Video | Failure]:
    found = _folder(folder)
    if not found and any(is_image(name) for name in os.listdir(folder)):
        found = [_images(folder)]
    if not found:
        yield _failure(str(folder), VideoError(Reason.NOT_FOUND, f"no video in folder {folder}"))
    yield from found


def _folder(folder: Path) -> list[Video | Failure]:
    if folder.name == "img1" and (folder.parent / "seqinfo.ini").is_file():
        return [_images(folder.resolve().parent)]
    found: list[Video | Failure] = []
    unreadable: list[OSError] = []
    for name, folders, files in os.walk(folder, onerror=unreadable.append):
        here = Path(name)
        if "img1" in folders and "seqinfo.ini" in files:
            found.append(_images(here))
            folders.clear()
            continue
        folders[:] = [f for f in folders if not f.startswith(".")]
        found += [
            _file(here / file)
            for file in files
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES
        ]
    return found + [_unreadable(error) for error in unreadable]


def _unreadable(error: OSError) -> Failure:
    detail = f"{error.filename}: {to_video_error(error).detail}"
    return _failure(str(error.filename), VideoError(to_video_error(error).reason, detail))


def _canonical(path: Path) -> str:
    """Absolute, with the links in its folder resolved; the file keeps the name it goes by."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _file(path: Path) -> Video | Failure:
    uri = _canonical(path)
    if not _is_text(uri):
        return _failure(uri, VideoError(Reason.BAD_KEY, "its name is not valid UTF-8"))
    try:
        status = path.stat()
    except OSError:  # a broken link: decoding says so
        return Video(uri, path.stem, is_image(path.name))
    version = f"{status.st_size}-{status.st_mtime_ns}"
    is_folder = is_image(path.name)
    return Video(uri, path.stem, is_folder, num_bytes=status.st_size, version=version)


def _images(folder: Path) -> Video | Failure:
    uri = os.path.realpath(folder)
    if not _is_text(uri):
        return _failure(uri, VideoError(Reason.BAD_KEY, "its name is not valid UTF-8"))
    return Video(uri, os.path.basename(uri), True, sequence_rate(Path(uri)))


def _is_text(uri: str) -> bool:
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True


def _failure(source: str, error: VideoError) -> Failure:
    """The error of a source; as a video it goes by the absolute path, or by what was typed."""
    is_object = source.startswith("s3://")
    path = source if is_object else os.path.abspath(source)
    uri = path.encode("utf-8", "backslashreplace").decode()
    return Video(uri, Path(uri).stem or "source"), error
