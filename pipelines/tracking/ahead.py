"""The next item of an iterator, made in a thread while the last one is used."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
_Made = tuple[Item, float]


def made_ahead(items: Iterator[Item]) -> Generator[tuple[Item, float]]:
    """Items in their order, each with the seconds that making it took; one is made ahead.

    `items` runs in one thread, which has ended when this iterator is closed. An error of it is
    raised where its item would have been.

    Args:
        items: What to iterate over; closed at the end, if it can be.
    """

    def make() -> _Made[Item] | None:
        since = time.perf_counter()
        for item in items:
            return item, time.perf_counter() - since
        return None

    try:
        with ThreadPoolExecutor(1, thread_name_prefix="ahead") as thread:
            waiting: Future[_Made[Item] | None] = thread.submit(make)
            while (made := waiting.result()) is not None:
                waiting = thread.submit(make)
                yield made
    finally:
        if (close := getattr(items, "close", None)) is not None:
            close()
