"""Open a source on disk or S3 as a file, and verify that it does not change while it is read."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import av

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.storage.s3_file import S3File, open_object
from jde_ray.pipelines.video.containers import to_video_error


@contextmanager
def source_file(uri: str, version: str = "") -> Iterator[BinaryIO]:
    """Open a source as a seekable file; reading fails if the source is changed meanwhile.

    Args:
        uri: A path, or `s3://bucket/key`.
        version: Expected result of `file_version`; empty for any.

    Raises:
        VideoError: `not_found`, `access_denied`, `bad_key`, `unsupported_format` (not a regular
            file), `changed_during_read` or `storage`.
    """
    with _open(uri) as file:
        before = file_version(file)
        if version and before != version:
            raise VideoError(Reason.CHANGED_DURING_READ, "the file was replaced during the run")
        try:
            yield file
        except (VideoError, av.error.FFmpegError, OSError):
            _check_unchanged(file, before)  # a file that is still being written looks truncated
            raise
        _check_unchanged(file, before)


def file_version(file: Any) -> str:
    """Version that changes with the content: the ETag of an object, size and time of a file."""
    if isinstance(getattr(file, "raw", None), S3File):
        version: str = file.raw.version
        return version
    status = os.fstat(file.fileno())
    return f"{status.st_size}-{status.st_mtime_ns}"


def _check_unchanged(file: BinaryIO, before: str) -> None:
    if file_version(file) != before:
        raise VideoError(Reason.CHANGED_DURING_READ, "the file was written to while it was read")


def _open(uri: str) -> BinaryIO:
    try:
        if uri.startswith("s3://"):
            return open_object(uri)
        if not stat.S_ISREG(os.stat(uri).st_mode):
            raise VideoError(Reason.UNSUPPORTED_FORMAT, f"not a regular file: {uri}")
        return open(uri, "rb")
    except OSError as error:
        raise to_video_error(error) from error
    except ValueError as error:
        raise VideoError(Reason.BAD_KEY, "a NUL byte in its name") from error
