"""What the pipeline asks of a store: nothing beyond create-if-absent, which every one honours."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Protocol

Body = bytes | Path  # small values in memory, a video's rows as a local file


class ObjectStore(Protocol):
    """Objects under one prefix. Keys are relative, `/` between parts, never empty."""

    @property
    def uri(self) -> str:
        """Address that `open_store` opens again, on any machine that can reach it."""
        ...

    def get(self, key: str) -> bytes:
        """Content of an object.

        Raises:
            FileNotFoundError: If there is none.
        """
        ...

    def put(self, key: str, body: Body) -> None:
        """Write an object, replacing what is there; readers see the old or the new one whole."""
        ...

    def put_if_absent(self, key: str, body: Body) -> bool:
        """Create an object in one step; False, and nothing written, if there is one already."""
        ...

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        ...

    def abort_uploads(self, prefix: str = "", keys: Collection[str] | None = None) -> int:
        """Throw away what was begun for keys that start with `prefix` and never finished.

        Args:
            prefix: Of the keys.
            keys: Only these of them; others may belong to a run that is still at work.
        """
        ...

    def delete(self, key: str) -> None:
        """Remove an object; nothing happens if there is none."""
        ...
