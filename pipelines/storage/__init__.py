"""Objects of a run: read, written, and created only if absent (the commit)."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from pipelines.storage.base import Body, ObjectStore
from pipelines.storage.s3_client import StorageError, configure, deadline_s

__all__ = ["Body", "ObjectStore", "StorageError", "configure", "deadline_s", "open_store"]


def open_store(uri: str) -> ObjectStore:
    """Store of a folder or of an S3 prefix.

    Args:
        uri: A local path, `file://...` or `s3://bucket/prefix`.

    Raises:
        ValueError: If the scheme is another one.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        from pipelines.storage.s3 import S3Store

        return S3Store(bucket=parts.netloc, prefix=parts.path.strip("/"))
    if "://" in uri and parts.scheme != "file":
        raise ValueError(f"out: got {uri!r}, accepted is a local path or s3://bucket/prefix")
    from pipelines.storage.local import LocalStore

    return LocalStore(Path(parts.path if parts.scheme == "file" else uri))
