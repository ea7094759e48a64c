"""Videos behind an `s3://` address: an object, all of a prefix, or a glob. Listed, never opened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from pipelines.containers import VIDEO_SUFFIXES
from pipelines.errors import ExitCode, Reason, RunError, VideoError
from pipelines.schema import Video
from pipelines.storage.s3 import list_objects

_MAGIC = re.compile(r"[*?\[]")


def find_objects(source: str) -> Iterator[Video | tuple[Video, VideoError]]:
    """Video objects behind a source, in the order of their keys.

    Args:
        source: `s3://bucket/key`, `s3://bucket/prefix` (everything below it with the suffix of a
            video), or a glob, in which `*` and `?` stay inside a part of the key and `**` does
            not. An object whose own key has such characters is taken literally.

    Yields:
        Videos; one failure if there is none.

    Raises:
        RunError: If the address names no bucket.
        OSError: If the bucket cannot be listed.
    """
    bucket, _, key = source.removeprefix("s3://").partition("/")
    if not bucket:
        raise RunError(f"source: got {source}, accepted is s3://bucket/...", ExitCode.REFUSED)
    is_glob = _MAGIC.search(key) is not None
    pattern = re.compile(
        _glob_to_regex(key) if is_glob else f"(?:{re.escape(key.rstrip('/'))})(/.*)?"
    )
    is_all = not key.strip("/")
    prefix = key[: _MAGIC.search(key).start()] if is_glob else key  # type: ignore[union-attr]
    found = False
    for item in list_objects(bucket, prefix):
        name = str(item["Key"])
        is_named = name == key
        if not (is_named or is_all or pattern.fullmatch(name)) or not _is_video(name, is_named):
            continue
        found = True
        uri = f"s3://{bucket}/{name}"
        stem = PurePosixPath(name).stem
        yield Video(uri, stem, num_bytes=int(item["Size"]), version=str(item["ETag"]))
    if not found:
        detail = f"{source}: no video there"
        yield Video(source, PurePosixPath(key).stem or bucket), VideoError(Reason.NOT_FOUND, detail)


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
