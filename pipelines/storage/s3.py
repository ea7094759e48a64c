"""An S3 prefix as an object store. Commits are single PUTs with `If-None-Match: *`."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.storage.base import Body

_CONFLICT_TRIES = 8


class S3Store:
    """Objects under `s3://bucket/prefix`; credentials and endpoint as boto3 finds them.

    Args:
        bucket: Name of the bucket.
        prefix: Key prefix without slashes at its ends, may be empty.
        client: A boto3 S3 client, for tests.
    """

    def __init__(self, bucket: str, prefix: str, client: Any = None) -> None:
        if not bucket:
            raise ValueError("out: got an s3 address without a bucket, accepted is s3://bucket/...")
        if client is None:
            import boto3
            from botocore.config import Config

            retries = {"mode": "standard", "max_attempts": 8}
            client = boto3.client("s3", config=Config(retries=retries))
        self._client = client
        self._bucket = bucket
        self._prefix = prefix

    @property
    def uri(self) -> str:
        """`s3://bucket/prefix`."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    def get(self, key: str) -> bytes:
        """Content of the object; FileNotFoundError if there is none."""
        try:
            answer = self._client.get_object(Bucket=self._bucket, Key=self._key(key))
        except Exception as error:
            if _status(error) == 404:
                raise FileNotFoundError(f"{self.uri}/{key}") from error
            raise
        content: bytes = answer["Body"].read()
        return content

    def put(self, key: str, body: Body) -> None:
        """One PUT."""
        self._put(key, body)

    def put_if_absent(self, key: str, body: Body) -> bool:
        """One PUT that the store refuses if the key is taken (412); a race (409) is tried again.

        Never multipart: not every store honours the condition when completing one.
        """
        for attempt in range(_CONFLICT_TRIES):
            try:
                self._put(key, body, IfNoneMatch="*")
            except Exception as error:
                status = _status(error)
                if status == 412:
                    return False
                if status != 409 or attempt == _CONFLICT_TRIES - 1:
                    raise
                time.sleep(random.uniform(0, 0.1 * 2**attempt))  # noqa: S311 - jitter
            else:
                return True
        raise AssertionError("unreachable")

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, sorted, a thousand a request."""
        start = len(self._key(""))
        pages = self._client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self._bucket, Prefix=self._key(prefix)):
            for item in page.get("Contents", ()):
                yield item["Key"][start:]

    def exists(self, key: str) -> bool:
        """Whether there is such an object (HEAD)."""
        try:
            self._client.head_object(Bucket=self._bucket, Key=self._key(key))
        except Exception as error:
            if _status(error) == 404:
                return False
            raise
        return True

    def delete(self, key: str) -> None:
        """DELETE, which says nothing about a missing object."""
        self._client.delete_object(Bucket=self._bucket, Key=self._key(key))

    def _key(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key

    def _put(self, key: str, body: Body, **condition: str) -> None:
        where = {"Bucket": self._bucket, "Key": self._key(key)}
        if isinstance(body, Path):
            with body.open("rb") as file:
                self._client.put_object(**where, Body=file, **condition)
        else:
            self._client.put_object(**where, Body=body, **condition)


def _status(error: Exception) -> int | None:
    answer = getattr(error, "response", None) or {}
    status: int | None = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status
