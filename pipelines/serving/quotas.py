"""Limits on what one token may hold at a time: bodies, sockets, and bytes of images."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jde_ray.pipelines.serving.refusals import Cause, Refusal

METERED = "is_metered"  # in a socket's state: its messages are counted in the budget already


@dataclass(frozen=True)
class _Reader:
    """Somebody who waits for bytes to go."""

    go_on: Callable[[], None]
    is_amid: bool


class ConcurrencyLimit:
    """So many of a kind at once, and so many of one owner.

    Args:
        what: They are, for the refusal.
        most: Of all owners.
        share: Part of them that one owner may have.
    """

    def __init__(self, what: str, most: int, share: float) -> None:
        self._what, self._most, self._own = what, most, max(1, int(share * most))
        self._numbers: Counter[str] = Counter()
        self.number = 0

    @contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Count one while the block runs.

        Raises:
            Refusal: `overloaded`.
        """
        if self.number >= self._most or self._numbers[owner] >= self._own:
            whose = "" if self.number >= self._most else " of a token"
            most = self._own if whose else self._most
            text = f"too many {self._what}, expected {most} at once{whose}; try again"
            raise Refusal(Cause.OVERLOADED, text, retry_after_s=1)
        self.number += 1
        self._numbers[owner] += 1
        try:
            yield
        finally:
            self.number -= 1
            self._numbers[owner] -= 1
            if not self._numbers[owner]:
                del self._numbers[owner]


class MemoryBudget:
    """Bytes of images that have arrived and are not yet dealt with, of all and of each owner.

    Whoever reads goes on while its owner is below its part. Above it one reader of each owner may
    still bring its message to an end, so that half messages never wait for each other.

    Args:
        total: Bytes of all owners.
        own: Bytes of one owner.
    """

    def __init__(self, total: int, own: int) -> None:
        self._total, self._own = total, own
        self._held: Counter[str] = Counter()
        self._readers: dict[str, dict[object, _Reader]] = {}
        self.held = 0

    def of(self, owner: str) -> int:
        """Bytes of an owner."""
        return self._held[owner]

    def is_full(self, owner: str) -> bool:
        """Whether the owner is to wait."""
        return self._held[owner] >= self._own or self.held >= self._total

    def take(self, owner: str, number: int) -> None:
        """Count bytes that have arrived."""
        self._held[owner] += number
        self.held += number

    def give(self, owner: str, number: int) -> None:
        """Bytes have gone: whoever waits for that may go on."""
        self._held[owner] -= number
        self.held -= number
        if self._held[owner] <= 0:
            del self._held[owner]
        for waiting in list(self._readers):
            if self.is_full(waiting):
                continue
            for reader in self._readers.pop(waiting).values():
                reader.go_on()

    def wait(
        self, owner: str, key: object, go_on: Callable[[], None], *, is_amid: bool = False
    ) -> bool:
        """Wait for bytes to go; tells whether `key` may read on all the same.

        Args:
            owner: Who reads.
            key: The reader.
            go_on: Called when there is room, or when it is the one that may read on.
            is_amid: Part of its message has arrived.
        """
        readers = self._readers.setdefault(owner, {})
        readers.setdefault(key, _Reader(go_on, is_amid))
        return self.may_read_on(owner, key)

    def may_read_on(self, owner: str, key: object) -> bool:
        """Whether `key` is the first of those amid a message."""
        amid = (key for key, reader in self._readers.get(owner, {}).items() if reader.is_amid)
        return next(amid, None) is key

    def leave(self, owner: str, key: object) -> None:
        """Wait no longer. If `key` was to read on, the next one is."""
        readers = self._readers.get(owner, {})
        was_first = self.may_read_on(owner, key)
        readers.pop(key, None)
        if not readers:
            self._readers.pop(owner, None)
        if was_first:
            next((reader.go_on for reader in readers.values() if reader.is_amid), _nothing)()

    async def room(self, owner: str) -> None:
        """Return when the owner is below its part."""
        while self.is_full(owner):
            turn = asyncio.Event()
            self.wait(owner, turn, turn.set)
            try:
                await turn.wait()
            finally:
                self.leave(owner, turn)


def _nothing() -> None:
    """Nobody else is amid a message."""
