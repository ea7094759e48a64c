"""Finds the videos behind one source: a path, a glob, a list or an S3 address."""

from __future__ import annotations

import errno
import glob
import os
from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from pathlib import Path

from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.sources.cameras import from_entry
from jde_ray.pipelines.sources.findings import LONGEST_SOURCE, Finding, failure, shown
from jde_ray.pipelines.sources.lists import read_entries
from jde_ray.pipelines.sources.local_search import glob_videos, look_at_file, search_folder
from jde_ray.pipelines.sources.s3_search import find_objects
from jde_ray.pipelines.video.containers import to_video_error

Source = str | os.PathLike[str]

_MAX_LIST_DEPTH = 4  # of lists that name lists
_MOST_ENTRIES = 1_000_000  # in all lists together
_MOST_FAILURES = 10_000  # per list that are reported one by one


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

    def expand(self, source: str) -> Iterator[Finding]:
        """Videos of a source, unordered and maybe repeated; unreadable parts with their errors.

        Raises:
            RunError: If the source is of a kind that is not accepted.
        """
        if "://" in source and not source.startswith("s3://"):
            raise RunError(
                f"source: got {shown(source)}, expected local files, folders, globs and lists,"
                " and s3://bucket/prefix (live video: jde serve, jde_ray.Tracker)",
                ExitCode.REFUSED,
            )
        try:
            if source in ("", "@"):  # `Path("")` would be the folder that the shell stands in
                detail = f"got {source!r}, expected a name" + (" behind the @" if source else "")
                raise VideoError(Reason.NOT_FOUND, detail)
            if len(source) > LONGEST_SOURCE:
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
            yield failure(source, error)
        except OSError as error:
            yield failure(source, VideoError(to_video_error(error).reason, _detail(source, error)))

    def _path_or_glob(self, source: str) -> Iterator[Finding]:
        path = Path(source)
        if path.is_dir():
            yield from search_folder(path)
        elif path.suffix.lower() == ".csv":
            yield from self._list(path)
        elif path.exists():
            yield look_at_file(path)
        elif glob.has_magic(source):
            yield from glob_videos(source)
        else:
            yield failure(source, VideoError(Reason.NOT_FOUND, f"{shown(source)} does not exist"))

    def _list(self, path: Path) -> Iterator[Finding]:
        place = os.path.realpath(path)
        if place in self._open or len(self._open) == _MAX_LIST_DEPTH:
            detail = f"{path}: lists inside lists inside lists"
            yield failure(str(path), VideoError(Reason.UNSUPPORTED_FORMAT, detail))
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

    def _lines(self, path: Path, is_nested: bool) -> Iterator[Finding]:
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
                yield failure(f"{path}:{number}", VideoError(Reason.UNSUPPORTED_FORMAT, detail))
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
            yield failure(str(path), VideoError(Reason.EMPTY, detail))
        if untold:
            more = f"{len(untold)} lines" if len(untold) > 1 else "a line"
            detail = f"{path}: no video behind {more}, the first is line {untold[0]}"
            yield failure(f"{path}:{untold[0]}", VideoError(Reason.NOT_FOUND, detail))


def _on_line(found: Finding, path: Path, number: int) -> Finding:
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


def _detail(source: str, error: OSError) -> str:
    """One line with the source and the error; errors of S3 name the request already."""
    if error.errno is None:
        return str(error)
    known = to_video_error(error)
    text = known.detail if known.reason != Reason.STORAGE else error.strerror
    return f"{shown(source)}: {text}"
