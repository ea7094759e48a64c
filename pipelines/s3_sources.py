"""Videos behind an `s3://` address: an object, all of a prefix, or a glob. Listed, never opened."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from pipelines.containers import VIDEO_SUFFIXES
from pipelines.errors import ExitCode, Reason, RunError, VideoError, printable
from pipelines.passed_over import DRAWN, PassedOver, media_kind
from pipelines.schema import Video
from pipelines.storage.s3 import list_objects

_MAGIC = re.compile(r"[*?\[]")


def find_objects(source: str) -> Iterator[Video | tuple[Video, VideoError] | PassedOver]:
    """Video objects behind a source, in the order of their keys.

    Args:
        source: `s3://bucket/key`, `s3://bucket/prefix` (everything below it with the suffix of a
            video), or a glob, in which `*` and `?` stay inside a part of the key and `**` does
            not. An object or prefix whose own key has such characters is taken literally too.

    Yields:
        Videos, and what was passed over; one failure if there is none.

    Raises:
        RunError: If the address names no bucket.
        OSError: If the bucket cannot be listed.
    """
    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise RunError(f"source: got {source}, accepted is s3://bucket/...", ExitCode.REFUSED)
    magic = _MAGIC.search(key)
    # keys may have line breaks, which `.` does not match by itself
    below = re.compile(f"(?:{re.escape(key.rstrip('/'))})(/.*)?", re.DOTALL)
    pattern = below if magic is None else re.compile(_glob_to_regex(key), re.DOTALL)
    is_all = not key.strip("/")
    found = False
    drawn = _DrawnVideos()
    others: Counter[tuple[str, str]] = Counter()
    for item in list_objects(bucket, key if magic is None else key[: magic.start()]):
        name = str(item["Key"])
        is_named = name == key
        is_drawn = drawn.see(name) and not is_named
        if not (is_named or is_all or pattern.fullmatch(name) or below.fullmatch(name)):
            continue
        if is_drawn or not _is_video(name, is_named):
            if kind := DRAWN if is_drawn else media_kind(name):
                others[kind, name.rpartition("/")[0]] += 1
            continue
        found = True
        uri = f"s3://{bucket}/{name}"
        stem = PurePosixPath(name).stem
        yield Video(uri, stem, num_bytes=int(item["Size"]), version=str(item["ETag"]))
    if not found:
        detail = f"{source}: no video there"
        missing = Video(printable(source), PurePosixPath(key).stem or bucket)
        yield missing, VideoError(Reason.NOT_FOUND, detail)
    for (kind, folder), count in others.items():
        yield PassedOver(kind, f"s3://{bucket}/{folder}", count)


class _DrawnVideos:
    """Which keys are videos that a run drew: `videos/NAME.mp4` beside `tracks/NAME.parquet`.

    Keys come sorted, so that of an OUT `run.json` comes first, then its tracks. If only the
    videos were asked for, nothing is known of a run, and they are sources like others.
    """

    def __init__(self) -> None:
        self._outs: set[str] = set()
        self._tracks: set[str] = set()

    def see(self, key: str) -> bool:
        """Take note of the next key; whether it is such a video."""
        folder, _, name = key.rpartition("/")
        out, _, kind = f"/{folder}".rpartition("/")
        if name == "run.json":
            self._outs.add(f"/{folder}".rstrip("/"))
        elif kind == "tracks" and out in self._outs:
            self._tracks.add(f"{out}/{name.removesuffix('.parquet')}")
        return kind == "videos" and f"{out}/{name.removesuffix('.mp4')}" in self._tracks


def _is_video(key: str, is_named: bool) -> bool:
    """Named in full it may have any suffix; hidden ones and folders' markers are passed over."""
    if key.endswith("/"):
        return False
    path = PurePosixPath(key)
    return is_named or (path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."))


def _glob_to_regex(pattern: str) -> str:
    r"""A glob over keys as a regular expression.

    >>> _glob_to_regex("a/**/*.mp4")
    'a/(?:.*/)?[^/]*\\.mp4'
    """
    parts, position = [], 0
    tokens = (("**/", "(?:.*/)?"), ("**", ".*"), ("*", "[^/]*"), ("?", "[^/]"))
    while position < len(pattern):
        for token, regex in tokens:
            if pattern.startswith(token, position):
                parts.append(regex)
                position += len(token)
                break
        else:
            end = pattern.find("]", position + 2)
            if pattern[position] == "[" and end > 0:
                inside = pattern[position + 1 : end].replace("\\", r"\\")
                inside = f"^{inside[1:]}" if inside.startswith("!") else inside
                parts.append(f"[{inside}]")
                position = end + 1
            else:
                parts.append(re.escape(pattern[position]))
                position += 1
    return "".join(parts)
