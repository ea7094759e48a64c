"""Finds the videos behind one source: a path, a glob, a list or an S3 address."""

from __future__ import annotations

import errno
import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from pathlib import Path

from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError, printable
from jde_ray.pipelines.formats.sequence_info import sequence_rate
from jde_ray.pipelines.names import VIDEO_SUFFIXES
from jde_ray.pipelines.output import layout
from jde_ray.pipelines.sources.cameras import from_entry
from jde_ray.pipelines.sources.contents import refusal
from jde_ray.pipelines.sources.lists import read_entries
from jde_ray.pipelines.sources.passed_over import (
    DRAWN,
    FOLDER_LINK,
    PICTURE,
    PassedOver,
    media_kind,
)
from jde_ray.pipelines.sources.s3_search import MOST_DEEP, TOO_DEEP, find_objects
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.containers import to_video_error
from jde_ray.pipelines.video.image_folder import images_version, is_image

Source = str | os.PathLike[str]
Failure = tuple[Video, VideoError]
Found = Video | Failure | PassedOver

_MAX_LIST_DEPTH = 4  # of lists that name lists
_MOST_ENTRIES = 1_000_000  # in all lists together
_MOST_FAILURES = 10_000  # per list that are reported one by one
_LONGEST_SOURCE = 4096  # characters; no system allows longer paths


def list_sources(sources: Source | Iterable[Source]) -> list[str]:
    """One source or several, as a list of texts; a text counts as one source."""
    if isinstance(sources, str | bytes | os.PathLike):
        return [os.fsdecode(sources)]
    return [os.fsdecode(source) for source in sources]


class SourceSearch:
    """Expands sources into videos; lists may name each other, but none is read twice.

    Args:
        zone: Time zone of starts in lists that state none.
    """

    def __init__(self, zone: tzinfo = UTC) -> None:
        self._zone = zone
        self._read: set[str] = set()
        self._open: list[str] = []  # lists that are being read, outermost first
        self._num_entries = 0

    def expand(self, source: str) -> Iterator[Found]:
        """Videos of a source, unordered and maybe repeated; unreadable parts with their errors.

        Raises:
            RunError: If the source is of a kind that is not accepted.
        """
        if "://" in source and not source.startswith("s3://"):
            raise RunError(
                f"source: got {_shown(source)}, expected local files, folders, globs and lists,"
                " and s3://bucket/prefix (live video: jde serve, jde_ray.Tracker)",
                ExitCode.REFUSED,
            )
        try:
            if source in ("", "@"):  # `Path("")` would be the folder that the shell stands in
                detail = f"got {source!r}, expected a name" + (" behind the @" if source else "")
                raise VideoError(Reason.NOT_FOUND, detail)
            if len(source) > _LONGEST_SOURCE:
                raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
            if "\0" in source:
                raise VideoError(Reason.BAD_KEY, f"{source}: a NUL byte in its name")
            if source.startswith("s3://"):
                yield from find_objects(source)
            elif source.startswith("@"):
                yield from self._list(Path(os.path.expanduser(source[1:])))
            else:
                yield from self._path_or_glob(os.path.expanduser(source))
        except VideoError as error:
            yield _failure(source, error)
        except OSError as error:
            yield _failure(source, VideoError(to_video_error(error).reason, _detail(source, error)))

    def _path_or_glob(self, source: str) -> Iterator[Found]:
        path = Path(source)
        if path.is_dir():
            yield from _named_folder(path)
        elif path.suffix.lower() == ".csv":
            yield from self._list(path)
        elif path.exists():
            yield _named_file(path)
        elif glob.has_magic(source):
            yield from _glob(source)
        else:
            yield _failure(source, VideoError(Reason.NOT_FOUND, f"{_shown(source)} does not exist"))

    def _list(self, path: Path) -> Iterator[Found]:
        place = os.path.realpath(path)
        if place in self._open or len(self._open) == _MAX_LIST_DEPTH:
            detail = f"{path}: lists inside lists inside lists"
            yield _failure(str(path), VideoError(Reason.UNSUPPORTED_FORMAT, detail))
            return
        if place in self._read:
            return
        is_nested = bool(self._open)
        self._read.add(place)
        self._open.append(place)
        try:
            yield from self._lines(path, is_nested)
        finally:
            self._open.pop()

    def _lines(self, path: Path, is_nested: bool) -> Iterator[Found]:
        """Videos and failures behind the lines of a list.

        Lines of a list that is named only by another list may be private, so errors, which are
        written to OUT, do not quote them.
        """
        untold: list[int] = []
        num_told, number = 0, 0
        for entry in read_entries(path, is_nested=is_nested, zone=self._zone):
            number = entry.number
            self._num_entries += 1
            if self._num_entries > _MOST_ENTRIES:
                detail = f"{path}: more than {_MOST_ENTRIES} lines in all lists; the rest is left"
                yield _failure(f"{path}:{number}", VideoError(Reason.UNSUPPORTED_FORMAT, detail))
                break
            source = _beside(path, entry.source)
            try:
                for found in from_entry(self.expand(source), entry):
                    if isinstance(found, tuple) and (
                        num_told == _MOST_FAILURES
                        or (is_nested and not os.path.lexists(source.removeprefix("@")))
                    ):
                        untold.append(number)
                        continue
                    num_told += isinstance(found, tuple)
                    is_list = source.startswith("@")  # which names its own lines
                    yield found if is_nested or is_list else _on_line(found, path, number)
            except RunError as error:
                if not is_nested:
                    raise RunError(f"{path}, line {number}: {error}", error.exit_code) from error
                untold.append(number)
        if not number and not is_nested:
            detail = f"{path} names no source, expected one per line"
            yield _failure(str(path), VideoError(Reason.EMPTY, detail))
        if untold:
            more = f"{len(untold)} lines" if len(untold) > 1 else "a line"
            detail = f"{path}: no video behind {more}, the first is line {untold[0]}"
            yield _failure(f"{path}:{untold[0]}", VideoError(Reason.NOT_FOUND, detail))


def _on_line(found: Found, path: Path, number: int) -> Found:
    """What was found; an error says on which line of the list."""
    if not isinstance(found, tuple):
        return found
    video, error = found
    return video, VideoError(error.reason, f"{path}, line {number}: {error.detail}", error.frame)


def _beside(path: Path, entry: str) -> str:
    """Resolve an entry against the working directory, then the list's folder; first that exists."""
    if "://" in entry:
        return entry
    beside = path.parent / entry
    is_beside = not os.path.lexists(entry) and os.path.lexists(beside)
    return str(beside) if is_beside else entry


def _glob(pattern: str) -> Iterator[Found]:
    if pattern.count("**") > MOST_DEEP:
        raise VideoError(Reason.UNSUPPORTED_FORMAT, f"{_shown(pattern)}: {TOO_DEEP}")
    matches = [Path(match) for match in sorted(set(glob.iglob(pattern, recursive=True)))]
    by_folder: dict[Path, list[str]] = {}
    for path in matches:
        if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file():
            by_folder.setdefault(path.parent, []).append(path.name)
    found: list[Found] = []
    named = os.path.dirname(pattern)  # no folder has this name if it contains wildcards
    for folder, names in by_folder.items():
        found += _videos(folder, names, is_named=folder == Path(named))
    for path in matches:
        if path.is_dir() and path.name != "img1":
            found += _folder(path, is_named=False)
    if all(isinstance(one, PassedOver) for one in found):
        detail = f"{_shown(pattern)} matches no video"
        yield _failure(pattern, VideoError(Reason.NOT_FOUND, detail))
    yield from found


def _named_folder(folder: Path) -> Iterator[Found]:
    found = _folder(folder, is_named=True)
    if any(not isinstance(one, PassedOver) for one in found):
        yield from found
    elif any(is_image(name) for name in os.listdir(folder)):
        yield _images(folder)
    else:
        detail = f"no video in folder {_shown(str(folder))}"
        yield _failure(str(folder), VideoError(Reason.NOT_FOUND, detail))
        yield from found


def _folder(folder: Path, *, is_named: bool) -> list[Found]:
    if folder.name == "img1" and (folder.parent / "seqinfo.ini").is_file():
        return [_images(folder.resolve().parent)]
    found: list[Found] = []
    unreadable: list[OSError] = []
    for name, folders, files in os.walk(folder, onerror=unreadable.append):
        here = Path(name)
        if "img1" in folders and "seqinfo.ini" in files:
            found.append(_images(here))
            folders.clear()
            continue
        cropped = _cropped_videos(here)
        folders[:] = [f for f in folders if not (f.startswith(".") or f in cropped)]
        videos = [file for file in files if _is_video(file)]
        found += _videos(here, videos, is_named=is_named and here == folder)
        kinds = Counter(kind for file in files if (kind := media_kind(file)))
        kinds[FOLDER_LINK] = sum((here / f).is_symlink() for f in folders)
        if videos or layout.RUN_KEY in files:  # images here are thumbnails, or belong to a run
            del kinds[PICTURE]
        if any(kinds.values()):
            place = os.path.realpath(here)
            found += [PassedOver(kind, place, number) for kind, number in kinds.items() if number]
    return found + [_unreadable(error) for error in unreadable]


def _videos(folder: Path, names: list[str], *, is_named: bool) -> Iterator[Found]:
    """Videos of a folder, without those drawn by a run unless the folder itself was named."""
    drawn = frozenset() if is_named else _drawn_videos(folder).intersection(names)
    if drawn:
        yield PassedOver(DRAWN, os.path.realpath(folder), len(drawn))
    yield from (_file(folder / name) for name in names if name not in drawn)


def _is_video(file: str) -> bool:
    return not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_SUFFIXES


def _drawn_videos(folder: Path) -> frozenset[str]:
    """Names of videos here that a run drew: in `videos` of its OUT, with tracks of that name.

    OUT may be below its own source, and its drawn videos are not recordings.
    """
    out = folder.parent
    if f"{folder.name}/" != layout.VIDEOS_PREFIX or not (out / layout.RUN_KEY).is_file():
        return frozenset()
    try:
        tracks = os.listdir(out / layout.TRACKS_PREFIX)
    except OSError:
        return frozenset()
    return frozenset(f"{name.removesuffix('.parquet')}.mp4" for name in tracks)


def _cropped_videos(folder: Path) -> frozenset[str]:
    """Names of folders here with a run's crops, of which there may be many: `crops` of its OUT."""
    if f"{folder.name}/" != layout.CROPS_PREFIX or not (folder.parent / layout.RUN_KEY).is_file():
        return frozenset()
    try:
        tables = os.listdir(folder.parent / layout.CROP_INDEX_PREFIX)
    except OSError:
        return frozenset()
    return frozenset(name.removesuffix(".parquet") for name in tables)


def _unreadable(error: OSError) -> Failure:
    detail = f"{error.filename}: {to_video_error(error).detail}"
    return _failure(str(error.filename), VideoError(to_video_error(error).reason, detail))


def _canonical(path: Path) -> str:
    """Absolute path with links resolved in its folder; the file name itself is kept."""
    return os.path.join(os.path.realpath(path.parent), path.name)


def _named_file(path: Path) -> Video | Failure:
    """A file that is named itself may have any suffix, but not any content."""
    video = _file(path)
    if not isinstance(video, Video) or _is_video(path.name) or is_image(path.name):
        return video
    error = refusal(video, _shown(str(path)))
    return video if error is None else _failure(str(path), error)


def _file(path: Path) -> Video | Failure:
    uri = _canonical(path)
    if not _is_text(uri):
        return _failure(uri, VideoError(Reason.BAD_KEY, "its name is not valid UTF-8"))
    if is_image(path.name):
        return Video(uri, path.stem, True, version=_images_version(uri))
    try:
        status = path.stat()
    except OSError:  # a broken link; decoding reports the error
        return Video(uri, path.stem)
    version = f"{status.st_size}-{status.st_mtime_ns}"
    return Video(uri, path.stem, num_bytes=status.st_size, version=version)


def _images(folder: Path) -> Video | Failure:
    uri = os.path.realpath(folder)
    if not _is_text(uri):
        return _failure(uri, VideoError(Reason.BAD_KEY, "its name is not valid UTF-8"))
    rate = sequence_rate(Path(uri))
    return Video(uri, os.path.basename(uri), True, rate, version=_images_version(uri))


def _images_version(uri: str) -> str:
    try:
        return images_version(uri)
    except OSError:  # decoding reports the error
        return ""


def _is_text(uri: str) -> bool:
    try:
        uri.encode()
    except UnicodeEncodeError:
        return False
    return True


def _detail(source: str, error: OSError) -> str:
    """One line with the source and the error; errors of S3 name the request already."""
    if error.errno is None:
        return str(error)
    known = to_video_error(error)
    text = known.detail if known.reason != Reason.STORAGE else error.strerror
    return f"{_shown(source)}: {text}"


def _shown(source: str) -> str:
    """A source shortened for a message, since it may be any line of a list."""
    return source if len(source) <= 300 else f"{source[:300]}..."


def _failure(source: str, error: VideoError) -> Failure:
    """The error of a source, with a video named by the absolute path or by the typed text."""
    is_object = source.startswith("s3://")
    text = printable(_shown(source) if len(source) > _LONGEST_SOURCE else source)
    uri = text if is_object else os.path.abspath(text.removeprefix("@"))
    return Video(uri, Path(uri).stem or "source"), error
