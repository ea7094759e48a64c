"""Lists videos behind an `s3://` address: an object, a prefix or a glob. Opens no object."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError, printable
from jde_ray.pipelines.names import VIDEO_SUFFIXES
from jde_ray.pipelines.output.layout import CROPS_PREFIX, RUN_KEY, TRACKS_PREFIX, VIDEOS_PREFIX
from jde_ray.pipelines.sources.findings import Finding
from jde_ray.pipelines.sources.passed_over import DRAWN, PICTURE, PassedOver, media_kind
from jde_ray.pipelines.storage.s3 import list_objects
from jde_ray.pipelines.structures import Video

MOST_DEEP = 2  # `**` in a glob; each multiplies the time of a search by the depth
TOO_DEEP = f"got a glob with too many **, expected {MOST_DEEP}"

_MAGIC = re.compile(r"[*?\[]")


def find_objects(source: str) -> Iterator[Finding]:
    """Video objects behind a source, in the order of their keys.

    Args:
        source: `s3://bucket/key`, `s3://bucket/prefix` (all keys below it with the suffix of a
            video), or a glob, in which `*` and `?` do not match `/` and `**` does. It also matches
            an object or prefix whose key contains these characters literally.

    Yields:
        Videos and skipped objects; one failure if there is no video.

    Raises:
        RunError: If the address names no bucket.
        VideoError: If a glob has more than `MOST_DEEP` `**`.
        OSError: If the bucket cannot be listed.
    """
    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise RunError(f"source: got {source}, expected s3://bucket/...", ExitCode.REFUSED)
    if key.count("**") > MOST_DEEP:
        raise VideoError(Reason.UNSUPPORTED_FORMAT, f"{source}: {TOO_DEEP}")
    magic = _MAGIC.search(key)
    # keys may contain line breaks, which `.` matches only with DOTALL
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
                others[kind, _folder_of(name)] += 1
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
        if kind == PICTURE and drawn.has_crops(folder):
            continue
        yield PassedOver(kind, f"s3://{bucket}/{folder}", count)


class _DrawnVideos:
    """Recognises videos that a run drew: `videos/NAME.mp4` beside `tracks/NAME.parquet`.

    Keys come sorted: `run.json` of an OUT first, then its tracks, then its videos. If only the
    videos are listed, no run is seen, and they are sources like others.
    """

    def __init__(self) -> None:
        self._outs: set[str] = set()
        self._tracks: set[str] = set()

    def see(self, key: str) -> bool:
        """Record the next key; return whether it is such a video."""
        folder, _, name = key.rpartition("/")
        out, _, kind = f"/{folder}".rpartition("/")
        if name == RUN_KEY:
            self._outs.add(f"/{folder}".rstrip("/"))
        elif f"{kind}/" == TRACKS_PREFIX and out in self._outs:
            self._tracks.add(f"{out}/{name.removesuffix('.parquet')}")
        return f"{kind}/" == VIDEOS_PREFIX and f"{out}/{name.removesuffix('.mp4')}" in self._tracks

    def has_crops(self, folder: str) -> bool:
        """Whether a folder holds the crops of a run that was seen."""
        out, _, kind = f"/{folder}".rpartition("/")
        return f"{kind}/" == CROPS_PREFIX and out in self._outs


def _folder_of(key: str) -> str:
    """The folder of a key; `crops` for all below it, since each track of a run has a folder."""
    folder = key.rpartition("/")[0]
    above, found, _ = f"/{folder}/".partition(f"/{CROPS_PREFIX}")
    return f"{above}/{CROPS_PREFIX}".strip("/") if found else folder


def _is_video(key: str, is_named: bool) -> bool:
    """Whether a key is a video: by its suffix, or any object named in full, but no hidden ones."""
    if key.endswith("/"):
        return False
    path = PurePosixPath(key)
    return is_named or (path.suffix.lower() in VIDEO_SUFFIXES and not path.name.startswith("."))


def _glob_to_regex(pattern: str) -> str:
    r"""A glob over keys as a regular expression that malicious keys cannot slow down.

    >>> _glob_to_regex("a/**/*.mp4")
    'a/(?:.*/)?[^/]*\\.mp4'
    """
    *folders, last = pattern.split("/")
    parts = ["(?:.*/)?" if folder == "**" else f"{_part(folder)}/" for folder in folders]
    return "".join([*parts, _part(last)])


def _part(pattern: str) -> str:
    """Regular expression for the part of a glob between two slashes."""
    if "**" in pattern:
        return ".*".join(_part(piece) for piece in pattern.split("**"))
    first, *pieces = _fixed(pattern)
    if not pieces:
        return first
    *middle, last = pieces
    # the first match of a piece is as good as any later one, so backtracking is switched off
    return first + "".join(f"(?>[^/]*?{piece})" for piece in middle) + f"[^/]*{last}"


def _fixed(pattern: str) -> list[str]:
    """Pieces between the `*` in a part of a pattern; each matches texts of one length."""
    pieces, position = [""], 0
    while position < len(pattern):
        letter, end = pattern[position], pattern.find("]", position + 2)
        if letter == "*":
            pieces.append("")
        elif letter == "[" and end > 0:
            inside = re.sub(r"([\\\[&~|])", r"\\\1", pattern[position + 1 : end])
            inside = f"^{inside[1:]}" if inside.startswith("!") else inside
            pieces[-1] += f"[{inside}]"
            position = end
        else:
            pieces[-1] += "[^/]" if letter == "?" else re.escape(letter)
        position += 1
    return pieces
