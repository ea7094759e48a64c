"""`--clock` of what is timed: real time, or processor time on a busy machine."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter, process_time
from typing import Annotated, Literal

import typer

CLOCKS: dict[str, Callable[[], float]] = {"wall": perf_counter, "cpu": process_time}

Clock = Annotated[
    Literal["wall", "cpu"],
    typer.Option(help="cpu counts processor time, for a busy machine; needs one thread."),
]


def check_clock(clock: str, threads: int) -> None:
    """Refuse a clock that would add up the threads of a network.

    Raises:
        ValueError: If it would.
    """
    if clock == "cpu" and threads != 1:
        raise ValueError(f"clock: got cpu with {threads} threads, which it adds up; expected 1")
