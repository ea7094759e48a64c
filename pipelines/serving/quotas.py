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
    """A reader that waits until bytes are released."""

    resume: Callable[[], None]
    is_partial: bool


class ConcurrencyLimit:
    """Limits how many things of a kind are held at once, in all and by one owner.

    Args:
        what: The kind, for the text of a refusal: `too many WHAT`.
        most: Limit over all owners.
        share: Fraction of it that one owner may hold.
    """

    def __init__(self, what: str, most: int, share: float) -> None:
        self._what, self._most, self._own = what, most, max(1, int(share * most))
        self._numbers: Counter[str] = Counter()
        self.number = 0

    @contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Count one more while the block runs.

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
    """Limits the bytes of images that have arrived and are not answered, in all and by one owner.

    Readers continue while their owner is below its share. Above it, one reader per owner may still
    finish its message, so that partial messages never wait for each other.

    Args:
        total: Limit over all owners, in bytes.
        own: Limit per owner, in bytes.
    """

    def __init__(self, total: int, own: int) -> None:
        self._total, self._own = total, own
        self._held: Counter[str] = Counter()
        self._readers: dict[str, dict[object, _Reader]] = {}
        self.held = 0

    def of(self, owner: str) -> int:
        """Bytes that an owner holds."""
        return self._held[owner]

    def is_full(self, owner: str) -> bool:
        """Whether the owner has to wait."""
        return self._held[owner] >= self._own or self.held >= self._total

    def take(self, owner: str, number: int) -> None:
        """Count bytes that have arrived."""
        self._held[owner] += number
        self.held += number

    def give(self, owner: str, number: int) -> None:
        """Release bytes, and resume the readers that now have room."""
        self._held[owner] -= number
        self.held -= number
        if self._held[owner] <= 0:
            del self._held[owner]
        for waiting in list(self._readers):
            if self.is_full(waiting):
                continue
            for reader in self._readers.pop(waiting).values():
                reader.resume()

    def wait(
        self, owner: str, key: object, resume: Callable[[], None], *, is_partial: bool = False
    ) -> bool:
        """Register a reader that waits for room; returns whether it may read on all the same.

        Args:
            owner: Owner of the reader.
            key: Identifies the reader.
            resume: Called when there is room, or when this reader may finish its message.
            is_partial: Whether part of its message has arrived.
        """
        readers = self._readers.setdefault(owner, {})
        readers.setdefault(key, _Reader(resume, is_partial))
        return self.may_read_on(owner, key)

    def may_read_on(self, owner: str, key: object) -> bool:
        """Whether `key` is the first reader with a partial message."""
        amid = (key for key, reader in self._readers.get(owner, {}).items() if reader.is_partial)
        return next(amid, None) is key

    def leave(self, owner: str, key: object) -> None:
        """Unregister a reader. If it was the one that may read on, the next one is resumed."""
        readers = self._readers.get(owner, {})
        was_first = self.may_read_on(owner, key)
        readers.pop(key, None)
        if not readers:
            self._readers.pop(owner, None)
        if was_first:
            next((reader.resume for reader in readers.values() if reader.is_partial), _nothing)()

    async def room(self, owner: str) -> None:
        """Return when the owner is below its share."""
        while self.is_full(owner):
            turn = asyncio.Event()
            self.wait(owner, turn, turn.set)
            try:
                await turn.wait()
            finally:
                self.leave(owner, turn)


def _nothing() -> None:
    """No other reader has a partial message."""
