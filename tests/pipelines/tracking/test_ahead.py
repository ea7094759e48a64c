"""Items made ahead: their order, their errors, and that nothing is left running."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from jde_ray.pipelines.tracking.ahead import made_ahead


class Numbers:
    """Counts up, and notes what it has made and where."""

    def __init__(self, stop: int, fails_at: int | None = None) -> None:
        self.made: list[int] = []
        self.threads: set[threading.Thread] = set()
        self.is_closed = False
        self._stop, self._fails_at = stop, fails_at

    def __iter__(self) -> Iterator[int]:
        try:
            for number in range(self._stop):
                if number == self._fails_at:
                    raise ValueError(f"at {number}")
                self.made.append(number)
                self.threads.add(threading.current_thread())
                yield number
        finally:
            self.is_closed = True


def test_items_keep_their_order_and_one_is_made_ahead() -> None:
    numbers = Numbers(4)
    found = []
    for item, seconds in made_ahead(iter(numbers)):
        assert seconds >= 0
        assert len(numbers.made) <= item + 2
        found.append(item)
    assert found == numbers.made == [0, 1, 2, 3]
    assert numbers.threads.isdisjoint({threading.current_thread()})
    assert len(numbers.threads) == 1
    assert list(made_ahead(iter(()))) == []


def test_an_error_comes_after_the_items_before_it() -> None:
    numbers = Numbers(4, fails_at=2)
    items = made_ahead(iter(numbers))
    assert [next(items)[0], next(items)[0]] == [0, 1]
    with pytest.raises(ValueError, match="at 2"):
        next(items)
    assert numbers.is_closed


def test_who_stops_early_leaves_no_thread_and_closes_the_iterator() -> None:
    numbers = Numbers(100)
    items = made_ahead(iter(numbers))
    next(items)
    items.close()
    assert numbers.is_closed
    assert len(numbers.made) <= 2
    assert not any(thread.is_alive() for thread in numbers.threads)
