"""The same work for each of several items: in this process, or each a Ray task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

MOST_IN_PROCESS = 16  # items; a sequence takes .7 s, to start a Ray 5 to 20 s and its workers more

Item = TypeVar("Item")
Result = TypeVar("Result")


def for_each(
    work: Callable[[Item], Result], items: Sequence[Item], address: str | None = None
) -> list[Result]:
    """Call `work` with every item; the same in any order.

    Args:
        work: A function of a module, or a `functools.partial` of one.
        items: What it is called with; every node must see the files they name.
        address: Ray to run on (`local`, `auto`, `HOST:PORT`). None runs up to
            `MOST_IN_PROCESS` items in this process and more on a local Ray.

    Returns:
        What `work` gave, in the order of `items`.

    Raises:
        ValueError: The first refusal in that order.
        RunError: If there is no Ray at the address.
    """
    if address is None and len(items) <= MOST_IN_PROCESS:
        return [work(item) for item in items]
    import ray

    from jde_ray.pipelines.cluster import connected

    with connected(address or "local"):
        task: Any = ray.remote(_attempt).options(num_cpus=1)
        results: list[Result | ValueError] = ray.get([task.remote(work, item) for item in items])
    done: list[Result] = []
    for result in results:
        if isinstance(result, ValueError):
            raise result
        done.append(result)
    return done


def _attempt(work: Callable[[Item], Result], item: Item) -> Result | ValueError:
    """What `work` gives, or its refusal as a value: Ray would wrap it in a traceback."""
    try:
        return work(item)
    except (ValueError, OSError) as error:
        return ValueError(str(error))
