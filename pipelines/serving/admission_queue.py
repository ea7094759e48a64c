"""The queue in front of the detectors, shared among tokens so that none takes all of it."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from jde_ray.pipelines.serving.refusals import Cause, Refusal

_SPARE = 1  # slots that an owner who uses its full share leaves to others
_Turn = asyncio.Future[None]


class AdmissionQueue:
    """Limits how many frames run at once and how many wait, in order, for each owner.

    Frames of calls wait in a bounded line. Those of sockets, which are few and slow down by
    themselves, wait in an unbounded line. The two lines take turns, so that neither a flood of
    calls nor a few eager sockets starve the other; within a line the owners take turns. There is
    one slot more than an owner may use, so that slow frames of one owner never block all others.

    Args:
        running: Frames per owner that may run at once; further calls wait.
        waiting: Calls per owner that may wait; further ones are refused.
        sockets_running: Frames of sockets per owner that may run at once. More of them than of
            calls keep the detectors busy, at no loss: their order is fixed anyway. None: `running`.
    """

    def __init__(self, running: int, waiting: int, sockets_running: int | None = None) -> None:
        self._limit, self.max_waiting = running, waiting
        self._sockets_limit = sockets_running or running
        self._calls, self._sockets = _Line(), _Line()
        self._are_calls_next = True
        self._running: Counter[str] = Counter()  # by owner
        self._running_calls: Counter[str] = Counter()
        self.running = 0

    @property
    def max_running(self) -> int:
        """Most frames that run at once, over all owners."""
        return max(self._limit, self._sockets_limit) + _SPARE

    @property
    def waiting(self) -> int:
        """Frames waiting now."""
        return len(self._calls) + len(self._sockets)

    def check(self, owner: str = "") -> None:
        """Refuse a call that could neither run nor wait now.

        Raises:
            Refusal: `overloaded`.
        """
        is_full = self._calls.of(owner) >= self.max_waiting
        if is_full and self._is_taken(owner, unbounded=False):
            text = "all detectors are busy and the queue is full; try again"
            raise Refusal(Cause.OVERLOADED, text, retry_after_s=1)

    def _is_taken(self, owner: str, *, unbounded: bool) -> bool:
        limit = self._sockets_limit if unbounded else self._limit
        if self._running[owner] >= limit or self.running >= limit + _SPARE:
            return True
        return bool(self._sockets.of(owner)) or (not unbounded and bool(self._calls.of(owner)))

    @asynccontextmanager
    async def slot(self, owner: str = "", *, unbounded: bool = False) -> AsyncIterator[None]:
        """Hold a slot for one frame while the block runs.

        Args:
            owner: Owner of the frame.
            unbounded: Wait in the unbounded line of the sockets, and never be refused.

        Raises:
            Refusal: `overloaded`, without waiting.
        """
        if not unbounded:
            self.check(owner)
        if self._is_taken(owner, unbounded=unbounded):
            await self._wait(owner, unbounded=unbounded)
        else:
            self._enter(owner, unbounded=unbounded)
        try:
            yield
        finally:
            self._leave(owner, unbounded=unbounded)

    async def _wait(self, owner: str, *, unbounded: bool) -> None:
        line = self._sockets if unbounded else self._calls
        turn: _Turn = asyncio.get_running_loop().create_future()
        line.append(owner, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(owner, unbounded=unbounded)  # the slot had been handed over already
            else:
                line.remove(owner, turn)
            raise

    def _enter(self, owner: str, *, unbounded: bool) -> None:
        self.running += 1
        self._running[owner] += 1
        self._running_calls[owner] += not unbounded

    def _leave(self, owner: str, *, unbounded: bool) -> None:
        """Hand the slot to the frame that has waited longest in the line whose turn it is."""
        self.running -= 1
        for counts, number in ((self._running, 1), (self._running_calls, int(not unbounded))):
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
                self._enter(next_owner, unbounded=not is_call)
                return

    def _may_run(self, owner: str) -> bool:
        return self._running[owner] < self._sockets_limit

    def _may_call(self, owner: str) -> bool:
        has_room = self._running_calls.total() < self._limit + _SPARE
        return has_room and self._running_calls[owner] < self._limit and self._may_run(owner)


class _Line:
    """Waiting frames: in order within an owner, and the owners in turn."""

    def __init__(self) -> None:
        self._turns: OrderedDict[str, deque[_Turn]] = OrderedDict()

    def __len__(self) -> int:
        return sum(map(len, self._turns.values()))

    def of(self, owner: str) -> int:
        """Number of waiting frames of an owner."""
        return len(self._turns.get(owner, ()))

    def append(self, owner: str, turn: _Turn) -> None:
        """Add a frame after the others of its owner."""
        self._turns.setdefault(owner, deque()).append(turn)

    def remove(self, owner: str, turn: _Turn) -> None:
        """Remove a frame, which `pop` may have dropped already."""
        turns = self._turns.get(owner, deque())
        if turn in turns:
            turns.remove(turn)
        if not turns:
            self._turns.pop(owner, None)

    def pop(self, may_run: Callable[[str], bool]) -> str | None:
        """Admit the next frame; return its owner, who moves to the end, or None if none may run."""
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
