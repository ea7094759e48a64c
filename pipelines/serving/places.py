"""Places for frames, and bytes of images, shared out between tokens so that none takes all."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from jde_ray.pipelines.serving.refusals import Cause, Refusal

_SPARE = 1  # places that the owner who has taken its own part leaves to others
METERED = "is_metered"  # in a socket's state: its messages are counted in the memory already
_Turn = asyncio.Future[None]


class Places:
    """So many frames of an owner at once, so many waiting behind them in order, and no more.

    Sockets, which are few and slow down by themselves, wait in a line of their own without an end.
    The lines take turns, so that neither a flood of calls nor a few eager sockets starve the other,
    and in both the owners do. One place more than an owner may have is there for the others:
    frames that take long to decode cannot take all.

    Args:
        running: Frames of an owner inside at once: a call that finds as many has to wait.
        waiting: Frames of calls that an owner may have waiting.
        sockets_running: Likewise for frames of sockets, which keep their order anyway: more of
            them wait beside the detectors, so that none stands still. None: as calls.
    """

    def __init__(self, running: int, waiting: int, sockets_running: int | None = None) -> None:
        self._limit, self._max_waiting = running, waiting
        self._sockets_limit = sockets_running or running
        self._calls, self._sockets = _Line(), _Line()
        self._are_calls_next = True
        self._running: Counter[str] = Counter()  # by owner
        self._running_calls: Counter[str] = Counter()
        self.running = 0

    @property
    def waiting(self) -> int:
        """Frames waiting now."""
        return len(self._calls) + len(self._sockets)

    def check(self, owner: str = "") -> None:
        """Refuse a frame that would find no place now.

        Raises:
            Refusal: `overloaded`.
        """
        is_full = self._calls.of(owner) >= self._max_waiting
        if is_full and self._is_taken(owner, patient=False):
            text = "all detectors are busy and the queue is full; try again"
            raise Refusal(Cause.OVERLOADED, text, retry_after_s=1)

    def _is_taken(self, owner: str, *, patient: bool) -> bool:
        limit = self._sockets_limit if patient else self._limit
        if self._running[owner] >= limit or self.running >= limit + _SPARE:
            return True
        return bool(self._sockets.of(owner)) or (not patient and bool(self._calls.of(owner)))

    @asynccontextmanager
    async def place(self, owner: str = "", *, patient: bool = False) -> AsyncIterator[None]:
        """A place for one frame.

        Args:
            owner: Whose frame it is.
            patient: Wait in the line of the sockets, however long it is.

        Raises:
            Refusal: `overloaded`, at once.
        """
        if not patient:
            self.check(owner)
        if self._is_taken(owner, patient=patient):
            await self._wait(owner, patient=patient)
        else:
            self._enter(owner, patient=patient)
        try:
            yield
        finally:
            self._leave(owner, patient=patient)

    async def _wait(self, owner: str, *, patient: bool) -> None:
        line = self._sockets if patient else self._calls
        turn: _Turn = asyncio.get_running_loop().create_future()
        line.append(owner, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(owner, patient=patient)  # the place had been given already
            else:
                line.remove(owner, turn)
            raise

    def _enter(self, owner: str, *, patient: bool) -> None:
        self.running += 1
        self._running[owner] += 1
        self._running_calls[owner] += not patient

    def _leave(self, owner: str, *, patient: bool) -> None:
        """Give the place to the one who has waited longest in the line whose turn it is."""
        self.running -= 1
        for counts, number in ((self._running, 1), (self._running_calls, int(not patient))):
            counts[owner] -= number
            if not counts[owner]:
                del counts[owner]
        for _ in range(2):
            is_call = self._are_calls_next
            self._are_calls_next = not is_call
            next_owner = (self._calls if is_call else self._sockets).pop(
                self._may_call if is_call else self._may_run
            )
            if next_owner is not None:
                self._enter(next_owner, patient=not is_call)
                return

    def _may_run(self, owner: str) -> bool:
        return self._running[owner] < self._sockets_limit

    def _may_call(self, owner: str) -> bool:
        has_room = self._running_calls.total() < self._limit + _SPARE
        return has_room and self._running_calls[owner] < self._limit and self._may_run(owner)


class _Line:
    """Turns in order for each owner; the owners take turns."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, deque[_Turn]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._turns.values()))

    def of(self, owner: str) -> int:
        """How many of an owner wait."""
        return len(self._turns.get(owner, ()))

    def append(self, owner: str, turn: _Turn) -> None:
        """Wait behind the others of the owner."""
        self._turns.setdefault(owner, deque()).append(turn)

    def remove(self, owner: str, turn: _Turn) -> None:
        """Wait no longer; whoever left meanwhile may have passed it over."""
        turns = self._turns.get(owner, deque())
        if turn in turns:
            turns.remove(turn)
        if not turns:
            self._turns.pop(owner, None)

    def pop(self, may_run: Callable[[str], bool]) -> str | None:
        """Let the next one in; gives its owner, who goes to the end, None if nobody may."""
        for owner in list(self._turns):
            if not may_run(owner):
                continue
            turns = self._turns.pop(owner)
            is_given = False
            while turns and not is_given:
                turn = turns.popleft()
                if not turn.done():
                    turn.set_result(None)
                    is_given = True
            if turns:
                self._turns[owner] = turns
            if is_given:
                return owner
        return None


@dataclass(frozen=True)
class _Reader:
    """Somebody who waits for bytes to go."""

    go_on: Callable[[], None]
    is_amid: bool


class Crowd:
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
    def one_more(self, owner: str) -> Iterator[None]:
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


class Memory:
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
