"""Call one function for each of several items, in this process or as Ray tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

MOST_IN_PROCESS = 16  # a sequence takes .7 s; starting Ray takes 5 to 20 s, plus its workers

Report = Callable[[int, int], None]  # called with the numbers of items done, and of all
_report: ContextVar[Report] = ContextVar("report", default=lambda done, of: None)

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def reporting(report: Report) -> Iterator[None]:
    """Call `report` at the start and after every item of each `for_each` inside the block."""
    before = _report.set(report)
    try:
        yield
    finally:
        _report.reset(before)


def for_each(
    work: Callable[[Item], Result], items: Sequence[Item], address: str | None = None
) -> list[Result]:
    """Call `work` with every item; the order of execution does not matter.

    Args:
        work: A function at the top of a module, or a `functools.partial` of one.
        items: Arguments of the calls; every node must see the files they name.
        address: Ray to run on (`local`, `auto`, `HOST:PORT`). None runs up to
            `MOST_IN_PROCESS` items in this process, and more on a local Ray.

    Returns:
        Results of `work`, in the order of `items`.

    Raises:
        ValueError: The first one that `work` raised, in that order.
        RunError: If there is no Ray at the address.
    """
    if address is None and len(items) <= MOST_IN_PROCESS:
        return [work(item) for item in in_turn(items)]
    import ray

    report = _report.get()
    report(0, len(items))

    from jde_ray.pipelines.cluster import connected

    with connected(address or "local"):
        task: Any = ray.remote(_attempt).options(num_cpus=1)
        tasks = waiting = [task.remote(work, item) for item in items]
        while waiting:
            _, waiting = ray.wait(waiting)
            report(len(items) - len(waiting), len(items))
        results: list[Result | ValueError] = ray.get(tasks)
    done: list[Result] = []
    for result in results:
        if isinstance(result, ValueError):
            raise result
        done.append(result)
    return done


def in_turn(items: Sequence[Item]) -> Iterator[Item]:
    """The items one after the other, reported like those of `for_each`."""
    report = _report.get()
    for done, item in enumerate(items):
        report(done, len(items))
        yield item
    report(len(items), len(items))


def _attempt(work: Callable[[Item], Result], item: Item) -> Result | ValueError:
    """The result of `work`, or its ValueError as a value, which Ray would wrap in a traceback."""
    try:
        return work(item)
    except (ValueError, OSError) as error:
        return ValueError(str(error))
