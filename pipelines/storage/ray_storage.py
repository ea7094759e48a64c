"""Where Ray Train puts its own files: pyarrow's file system for the address of a store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


def ray_storage(out: str) -> dict[str, Any]:
    """Options of `RunConfig` that put Ray's own files on a training beside ours.

    Ray accesses object stores through pyarrow, which does not know the environment variables that
    set boto3's endpoint.
    """
    if not out.startswith("s3://"):
        return {"storage_path": str(Path(out.removeprefix("file://")).absolute())}
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if not endpoint:
        return {"storage_path": out}
    from pyarrow.fs import S3FileSystem

    parts = urlsplit(endpoint)
    files = S3FileSystem(endpoint_override=parts.netloc, scheme=parts.scheme)
    return {"storage_path": out.removeprefix("s3://"), "storage_filesystem": files}
