"""Limits on what one token may hold at a time: bodies, sockets, and bytes of images."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from jde_ray.pipelines.serving.refusals import Cause, Refusal

METERED = "is_metered"  # key in a socket's state: the budget counts its messages already


@dataclass(frozen=True)
class _Reader:
    """A reader that waits until bytes are released."""

    resume: Callable[[], None]
    is_partial: bool


class ConcurrencyLimit:
    """Limits the number of things of one kind that are held at once, in total and per owner.

    Args:
        what: The kind, for the text of a refusal: `too many WHAT`.
        most: Limit over all owners.
        share: Fraction of it that one owner may hold.
    """

    def __init__(self, what: str, most: int, share: float) -> None:
        self._what, self.most, self._own = what, most, max(1, int(share * most))
        self._numbers: Counter[str] = Counter()
        self.number = 0

    @contextmanager
    def hold(self, owner: str) -> Iterator[None]:
        """Count one more while the block runs.

        Raises:
            Refusal: `overloaded`.
        """
        if self.number >= self.most or self._numbers[owner] >= self._own:
            whose = "" if self.number >= self.most else " of a token"
            most = self._own if whose else self.most
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
    """Limits the bytes of unanswered images, in total and per owner.

    Readers continue while their owner is below its share. Above it they wait until images are
    answered. Partial messages must not wait for each other, though: an owner that holds nothing
    else may finish one of them.

    Args:
        total: Limit over all owners, in bytes.
        own: Limit per owner, in bytes.
    """

    def __init__(self, total: int, own: int) -> None:
        self.total, self._own = total, own
        self._held: Counter[str] = Counter()
        self._partial: Counter[str] = Counter()  # the share of incomplete messages in it
        self._readers: dict[str, dict[object, _Reader]] = {}
        self.held = 0

    def of(self, owner: str) -> int:
        """Bytes that an owner holds."""
        return self._held[owner]

    def is_full(self, owner: str) -> bool:
        """Whether the owner has to wait."""
        return self._held[owner] >= self._own or self.held >= self.total

    def take(self, owner: str, number: int, *, is_partial: bool = False) -> None:
        """Count bytes that have arrived.

        Args:
            owner: Owner of the bytes.
            number: Number of bytes.
            is_partial: Whether they belong to a message whose reader may have to wait.
        """
        self._held[owner] += number
        self._partial[owner] += number * is_partial
        self.held += number

    def give(self, owner: str, number: int, *, is_partial: bool = False) -> None:
        """Release bytes, and resume the readers that now have room."""
        self.take(owner, -number, is_partial=is_partial)
        for counts in (self._held, self._partial):
            if counts[owner] <= 0:
                del counts[owner]
        for waiting in list(self._readers):
            if not self.is_full(waiting):
                for reader in self._readers.pop(waiting).values():
                    reader.resume()
        self._let_one_finish(owner)

    def wait(
        self, owner: str, key: object, resume: Callable[[], None], *, is_partial: bool = False
    ) -> bool:
        """Register a reader that waits for room; return whether it may read on anyway.

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
        """Whether `key` is the reader that may finish its message despite the limit."""
        return self._held[owner] == self._partial[owner] and self._first(owner) is key

    def leave(self, owner: str, key: object) -> None:
        """Unregister a reader. If it was the one that may read on, the next one is resumed."""
        readers = self._readers.get(owner, {})
        readers.pop(key, None)
        if not readers:
            self._readers.pop(owner, None)
        self._let_one_finish(owner)

    def _first(self, owner: str) -> object:
        """The reader with a partial message that has waited longest."""
        readers = self._readers.get(owner, {}).items()
        return next((key for key, reader in readers if reader.is_partial), None)

    def _let_one_finish(self, owner: str) -> None:
        """Resume the reader that may finish its message, if there is one."""
        key = self._first(owner)
        if key is not None and self.may_read_on(owner, key):
            self._readers[owner][key].resume()

    async def room(self, owner: str) -> None:
        """Return when the owner is below its share."""
        while self.is_full(owner):
            turn = asyncio.Event()
            self.wait(owner, turn, turn.set)
            try:
                await turn.wait()
            finally:
                self.leave(owner, turn)
