"""An S3 object as a seekable file; it is read in ranges, and must not change while it is open."""

from __future__ import annotations

import io
from typing import Any, cast

from typing_extensions import Buffer

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.storage import s3_client
from jde_ray.pipelines.storage.s3_client import ConditionError

_FIRST_WINDOW, _LARGEST_WINDOW = 256 << 10, 8 << 20  # bytes per request


class S3File(io.RawIOBase):
    """Reads one version (ETag) of an object; reads ahead more the longer there is no seek.

    Args:
        bucket: Name of the bucket.
        key: Key of the object.
        client: A boto3 S3 client, for tests; None for that of the process.

    Attributes:
        version: ETag of the object.
        num_requests: Number of range requests so far.

    Raises:
        FileNotFoundError: If the object does not exist.
        PermissionError: If access is denied.
        StorageError: If the store does not answer.
    """

    def __init__(self, bucket: str, key: str, client: Any = None) -> None:
        self._client = client or s3_client.client()
        self._place = {"Bucket": bucket, "Key": key}
        self._name = f"s3://{bucket}/{key}"
        head = s3_client.call(f"head {self._name}", lambda: self._client.head_object(**self._place))
        self.version: str = head["ETag"]
        self.num_requests = 0
        self._size: int = head["ContentLength"]
        self._position = 0
        self._block, self._block_start = b"", 0
        self._window = _FIRST_WINDOW

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set the position; nothing is requested before the next read."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError(22, "seek before the start of the file")
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        """Position of the next byte to read."""
        return self._position

    def readinto(self, buffer: Buffer) -> int:
        """Fill the buffer up to the end of the current block, requesting a block if needed.

        Raises:
            VideoError: `changed_during_read` if the object has been replaced.
            StorageError: If the store does not answer before the deadline.
        """
        view = memoryview(buffer).cast("B")
        offset = self._position - self._block_start
        if not 0 <= offset < len(self._block):
            self._fetch(len(view))
            offset = 0
        content = self._block[offset : offset + len(view)]
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _fetch(self, wanted: int) -> None:
        is_next = self._position == self._block_start + len(self._block)
        self._window = min(2 * self._window, _LARGEST_WINDOW) if is_next else _FIRST_WINDOW
        start = self._position
        stop = min(self._size, start + max(self._window, min(wanted, _LARGEST_WINDOW)))
        self._block, self._block_start = b"", start
        if start >= stop:
            return
        span = {"Range": f"bytes={start}-{stop - 1}", "IfMatch": self.version}

        def read() -> bytes:
            return cast(bytes, self._client.get_object(**self._place, **span)["Body"].read())

        try:
            content = s3_client.call(f"read {self._name}", read)
        except ConditionError as error:
            detail = "the object was replaced while it was read"
            raise VideoError(Reason.CHANGED_DURING_READ, detail) from error
        if len(content) != stop - start:
            raise VideoError(Reason.CHANGED_DURING_READ, "the object is shorter than it was")
        self.num_requests += 1
        self._block = content


def open_object(uri: str) -> io.BufferedReader:
    """A buffered file for `s3://bucket/key`; errors are those of `S3File`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return buffered(S3File(bucket, key))


def buffered(file: S3File) -> io.BufferedReader:
    """The object behind a buffer, so that short reads cost no request each."""
    return io.BufferedReader(file, 1 << 18)
