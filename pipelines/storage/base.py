"""The interface of a store; its strongest guarantee is create-if-absent, which all stores give."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

Body = bytes | Path  # small values in memory, a video's rows in a local file


class ObjectStore(Protocol):
    """Objects under one prefix. Keys are relative, `/` between parts, never empty."""

    @property
    def uri(self) -> str:
        """Address with which `open_store` opens this store on any machine that can reach it."""
        ...

    def get(self, key: str) -> bytes:
        """Content of an object.

        Raises:
            FileNotFoundError: If it does not exist.
        """
        ...

    def open(self, key: str) -> BinaryIO:
        """An object as a seekable file; only what is read of it is fetched.

        Raises:
            FileNotFoundError: If it does not exist.
            OSError: If it cannot be read.
        """
        ...

    def put(self, key: str, body: Body) -> None:
        """Write an object, atomically replacing an existing one."""
        ...

    def put_if_absent(self, key: str, body: Body) -> bool:
        """Create an object atomically; return False, and write nothing, if it exists already."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        ...

    def exists(self, key: str) -> bool:
        """Whether the object exists."""
        ...

    def abort_uploads(self, prefix: str = "", keys: Collection[str] | None = None) -> int:
        """Abort unfinished uploads of keys that start with `prefix`.

        Args:
            prefix: Prefix of the keys.
            keys: Only these keys, since others may belong to a run in progress; None for all.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object if it exists."""
        ...
