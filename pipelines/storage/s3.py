"""An S3 prefix as an object store. Commits are single PUTs with `If-None-Match: *`.

Large files that commit nothing (drawn videos, detections, checkpoints) are uploaded in parts. An
unfinished upload is aborted by its own process, or by the next one that writes the key.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from jde_ray.pipelines.storage import s3_client
from jde_ray.pipelines.storage.base import Body
from jde_ray.pipelines.storage.s3_client import ConditionError, StorageError
from jde_ray.pipelines.storage.s3_file import S3File, buffered

R = TypeVar("R")

PART_BYTES = 32 << 20
_LARGEST_PUT = 5 << 30
_UPLOAD_TRIES = 4


class S3Store:
    """Objects under `s3://bucket/prefix`.

    Args:
        bucket: Name of the bucket.
        prefix: Key prefix without leading and trailing slashes; may be empty.
        client: A boto3 S3 client, for tests; None for that of the process.
    """

    def __init__(self, bucket: str, prefix: str, client: Any = None) -> None:
        if not bucket:
            raise ValueError("out: got an s3 address without a bucket, expected s3://bucket/...")
        self._given_client = client
        self._bucket = bucket
        self._prefix = prefix

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str) -> bytes:
        """Content of the object; FileNotFoundError if it does not exist."""

        def read() -> bytes:
            content: bytes = self._client.get_object(**self._place(key))["Body"].read()
            return content

        return self._call("get", key, read)

    def open(self, key: str) -> BinaryIO:
        """The object, read in ranges; FileNotFoundError if it does not exist."""
        return buffered(S3File(self._bucket, self._key(key), self._given_client))

    def put(self, key: str, body: Body) -> None:
        """Write with one PUT, or an upload in parts for a file larger than `PART_BYTES`."""
        if isinstance(body, Path) and body.stat().st_size > PART_BYTES:
            self._upload(key, body)
        else:
            self._put(key, body)

    def put_if_absent(self, key: str, body: Body) -> bool:
        """Create with one PUT, which the store refuses if the key exists (412); retry a race (409).

        It never uploads in parts, since not every store honours the condition when completing an
        upload. If the response to a PUT that created the object is lost, the retry returns False.
        """
        if isinstance(body, Path) and body.stat().st_size > _LARGEST_PUT:
            raise StorageError(f"put {self.uri}/{key}: larger than the 5 GB of one PUT")
        try:
            self._put(key, body, IfNoneMatch="*")
        except ConditionError:
            return False
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, sorted, a thousand per request."""
        start = len(self._key(""))
        for item in list_objects(self._bucket, self._key(prefix), self._given_client):
            yield item["Key"][start:]

    def exists(self, key: str) -> bool:
        """Whether the object exists (HEAD)."""
        try:
            self._call("head", key, lambda: self._client.head_object(**self._place(key)))
        except FileNotFoundError:
            return False
        return True

    def delete(self, key: str) -> None:
        """Remove the object (DELETE), which succeeds for a missing one too."""
        try:
            self._call("delete", key, lambda: self._client.delete_object(**self._place(key)))
        except FileNotFoundError:  # raised by some stores
            return

    def abort_uploads(self, prefix: str = "", keys: Collection[str] | None = None) -> int:
        """Abort unfinished uploads in parts of keys that start with `prefix` (only of `keys`)."""
        count = 0
        wanted: dict[str, str] = {"Bucket": self._bucket, "Prefix": self._key(prefix)}
        while True:
            request = partial(self._client.list_multipart_uploads, **wanted)
            page = self._call("list uploads", prefix, request)
            for upload in page.get("Uploads", ()):
                if keys is None or upload["Key"][len(self._key("")) :] in keys:
                    self._abort(upload["Key"], upload["UploadId"])
                    count += 1
            if not page.get("IsTruncated"):
                return count
            wanted |= {
                "KeyMarker": page["NextKeyMarker"],
                "UploadIdMarker": page["NextUploadIdMarker"],
            }

    @property
    def _client(self) -> Any:
        return self._given_client or s3_client.client()

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _place(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._key(key)}

    def _call(self, verb: str, key: str, request: Callable[[], R]) -> R:
        return s3_client.call(f"{verb} {self.uri}/{key}", request)

    def _put(self, key: str, body: Body, **condition: str) -> None:
        digest = {"ContentMD5": _md5(body)}

        def put() -> None:
            if isinstance(body, Path):
                with body.open("rb") as file:
                    self._client.put_object(**self._place(key), Body=file, **digest, **condition)
            else:
                self._client.put_object(**self._place(key), Body=body, **digest, **condition)

        self._call("put", key, put)

    def _upload(self, key: str, path: Path) -> None:
        """Upload in parts; retry once if another writer of the key aborts it as a leftover."""
        self.abort_uploads(key)  # leftovers of killed processes
        for tries in range(_UPLOAD_TRIES):
            try:
                self._upload_once(key, path)
                return
            except FileNotFoundError:
                if tries == _UPLOAD_TRIES - 1:
                    raise

    def _upload_once(self, key: str, path: Path) -> None:
        place, client = self._place(key), self._client
        begin = self._call("begin upload", key, lambda: client.create_multipart_upload(**place))
        upload = {**place, "UploadId": begin["UploadId"]}
        try:
            parts: list[dict[str, Any]] = []
            with path.open("rb") as file:
                while content := file.read(PART_BYTES):
                    number = len(parts) + 1

                    def put(number: int = number, content: bytes = content) -> Any:
                        return client.upload_part(**upload, PartNumber=number, Body=content)

                    tag = self._call(f"upload part {number}", key, put)["ETag"]
                    parts.append({"PartNumber": number, "ETag": tag})
            self._complete(key, upload, parts)
        except BaseException:
            self._abort(upload["Key"], upload["UploadId"])
            raise

    def _complete(self, key: str, upload: dict[str, str], parts: Sequence[dict[str, Any]]) -> None:
        """Complete an upload; if the response to an earlier try was lost, check the object instead.

        Raises:
            FileNotFoundError: If the upload no longer exists, and the object is a different one.
        """
        whole = {"MultipartUpload": {"Parts": parts}}
        try:
            self._call(
                "end upload", key, lambda: self._client.complete_multipart_upload(**upload, **whole)
            )
        except FileNotFoundError:
            head = self._call("head", key, lambda: self._client.head_object(**self._place(key)))
            if head.get("ETag", "").strip('"') != _etag_of(parts):  # an older object, or another's
                raise

    def _abort(self, key: str, upload_id: str) -> None:
        upload = {"Bucket": self._bucket, "Key": key, "UploadId": upload_id}
        try:
            self._call("abort upload", key, lambda: self._client.abort_multipart_upload(**upload))
        except FileNotFoundError:
            return


def list_objects(bucket: str, prefix: str, client: Any = None) -> Iterator[dict[str, Any]]:
    """Objects of a bucket whose keys start with `prefix`: `Key`, `Size`, `ETag`; sorted by key.

    Pages are requested one by one, each with its own retries.
    """
    token: dict[str, str] = {}
    while True:

        def page() -> Any:
            used = client or s3_client.client()
            return used.list_objects_v2(Bucket=bucket, Prefix=prefix, **token)  # noqa: B023

        answer = s3_client.call(f"list s3://{bucket}/{prefix}", page)
        if not answer.keys() & {"Contents", "Name", "KeyCount", "IsTruncated"}:
            raise s3_client.no_store(f"list s3://{bucket}/{prefix}")
        yield from answer.get("Contents", ())
        if not answer.get("IsTruncated"):
            return
        token = {"ContinuationToken": answer["NextContinuationToken"]}


def _etag_of(parts: Sequence[dict[str, Any]]) -> str | None:
    """ETag of an object uploaded in these parts; None if a store's ETags are not MD5 sums."""
    try:
        sums = b"".join(bytes.fromhex(part["ETag"].strip('"')) for part in parts)
    except ValueError:
        return None
    return f"{hashlib.md5(sums, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _md5(body: Body) -> str:
    """MD5 sum of a body, with which the store detects changes in transit."""
    if isinstance(body, Path):
        with body.open("rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
    else:
        digest = hashlib.md5(body, usedforsecurity=False)
    return base64.b64encode(digest.digest()).decode()
