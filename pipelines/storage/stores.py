"""Opens the store of a folder or an S3 prefix."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jde_ray.pipelines.storage.base import Body, ObjectStore
from jde_ray.pipelines.storage.s3_client import (
    StorageError,
    configure,
    deadline_s,
    expect_first_contact,
)

__all__ = [
    "Body",
    "ObjectStore",
    "StorageError",
    "configure",
    "deadline_s",
    "expect_first_contact",
    "open_store",
    "real_place",
    "writing",
]


def open_store(uri: str | os.PathLike[str]) -> ObjectStore:
    """Store of a folder or of an S3 prefix.

    Args:
        uri: A local path, `file://...` or `s3://bucket/prefix`. Keys are taken literally, also
            `#`, `?` and `%`.

    Raises:
        ValueError: If the scheme is unknown, or there is no path.
    """
    text = os.fspath(uri)
    if text.startswith("s3://"):
        from jde_ray.pipelines.storage.s3 import S3Store

        bucket, _, prefix = text.removeprefix("s3://").partition("/")
        return S3Store(bucket=bucket, prefix=prefix.strip("/"))
    path = text.removeprefix("file://")
    is_strange = "://" in path or path.startswith("s3:")
    if not path or is_strange or (path != text and not path.startswith("/")):  # "" would be here
        raise ValueError(f"out: got {text!r}, expected a local path or s3://bucket/prefix")
    from jde_ray.pipelines.storage.local import LocalStore

    return LocalStore(Path(os.path.expanduser(path)))


@contextmanager
def writing(store: ObjectStore, flag: str) -> Iterator[None]:
    """Say of errors within that it is a store that cannot be written, and why.

    Args:
        store: The store that is written.
        flag: The flag that named it.

    Raises:
        ValueError: If a file is where its folder should be.
        OSError: If it cannot be written for another reason.
    """
    try:
        yield
    except NotADirectoryError:
        raise file_in_the_way(store.uri, flag) from None
    except StorageError:
        raise  # says what it asked, and of whom
    except OSError as error:
        raise OSError(f"cannot write to {store.uri}: {error.strerror or error}") from error


def file_in_the_way(place: str, flag: str) -> ValueError:
    """The refusal of a place at or above which a file is where a folder should be."""
    return ValueError(f"{flag}: got {place}, where a file is in the way; expected a folder")


def real_place(place: str) -> str:
    """An address without links, by which places can be compared."""
    return place if "://" in place else os.path.realpath(place)
