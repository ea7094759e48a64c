"""Restores the order of chunks: a bounded window in memory, the rest on local disk. Without Ray."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

P = TypeVar("P")


class ReorderBuffer(Generic[P]):
    """Takes numbered payloads in any order and yields all of them in order.

    `offer` never waits: a payload outside the window goes to disk, since a waiting sender may be
    the worker that has to produce the missing payload.

    Args:
        folder: Local folder for payloads outside the window; created when needed.
        dump: Serialises a payload.
        load: Inverse of `dump`.
        window: Maximum number of payloads in memory.
        first: Index of the first payload; earlier ones count as taken.
    """

    def __init__(
        self,
        folder: Path,
        dump: Callable[[P], bytes],
        load: Callable[[bytes], P],
        *,
        window: int = 8,
        first: int = 0,
    ) -> None:
        if window < 1:
            raise ValueError(f"window: got {window}, expected 1 or more")
        self._folder, self._dump, self._load, self._window = folder, dump, load, window
        self._next = first
        self._memory: dict[int, P] = {}
        self._spooled: set[int] = set()

    @property
    def next_index(self) -> int:
        """Index of the payload that `drain` yields next."""
        return self._next

    @property
    def num_in_memory(self) -> int:
        """Payloads waiting in memory."""
        return len(self._memory)

    @property
    def num_spooled(self) -> int:
        """Payloads waiting on disk."""
        return len(self._spooled)

    def has(self, index: int) -> bool:
        """Whether this payload was taken before."""
        return index < self._next or index in self._memory or index in self._spooled

    def offer(self, index: int, payload: P) -> bool:
        """Take a payload; return False if it was taken before.

        Raises:
            ValueError: If the index is negative.
            OSError: If the disk is full.
        """
        if index < 0:
            raise ValueError(f"index: got {index}, expected 0 or more")
        if self.has(index):
            return False
        if index < self._next + self._window:
            self._memory[index] = payload
        else:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(index).write_bytes(self._dump(payload))
            self._spooled.add(index)
        return True

    def drain(self) -> Iterator[P]:
        """Yield the payloads that are next in order, up to the first missing one."""
        while True:
            if self._next in self._memory:
                payload = self._memory.pop(self._next)
            elif self._next in self._spooled:
                path = self._path(self._next)
                payload = self._load(path.read_bytes())
                path.unlink()
                self._spooled.remove(self._next)
            else:
                return
            self._next += 1
            yield payload

    def close(self) -> None:
        """Drop all payloads, also those on disk."""
        for index in self._spooled:
            self._path(index).unlink(missing_ok=True)
        self._spooled.clear()
        self._memory.clear()

    def _path(self, index: int) -> Path:
        return self._folder / f"{index:09d}.chunk"
