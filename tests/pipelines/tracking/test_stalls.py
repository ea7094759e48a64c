"""Without Ray: what is said of a dataflow that stands still, and what follows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking import stalls, streaming
from jde_ray.pipelines.tracking.pools import size_pools
from jde_ray.pipelines.tracking.stall_verdict import Machines, Stage, StalledError, judge
from jde_ray.pipelines.tracking.stalls import Watch
from jde_ray.pipelines.tracking.streaming import Steps

BEFORE = {"CPU": 4.0, "GPU": 2.0}
POOLS = size_pools(ResourceConfig(device="cpu"), BEFORE)  # 3 detectors, a decoder
WORKING = [Stage("decoding", 1, 0), Stage("detection", 2, 3, (3, 0))]
STARVED = [Stage("decoding", 2, 4), Stage("detection", 2, 3, (0, 3))]


def machines(cpus: float, free: float, gpus: float = 2.0) -> Machines:
    return Machines({"CPU": cpus, "GPU": gpus}, {"CPU": free, "GPU": gpus})


@pytest.mark.parametrize(
    ("now", "stages", "expected"),
    [
        (machines(4, 0), WORKING, None),  # slow, or others hold the machines
        (machines(4, 0), STARVED, "decoders hold the places"),
        (machines(4, 4), STARVED, None),  # there is room: they are about to start
        (machines(8, 0), WORKING, None),  # a node has come
        (machines(4, 0, gpus=1), WORKING, None),  # of a run that needs none
        (machines(2, 0), WORKING, "machines were lost, 2 of 4 CPUs are left"),
        (machines(4, 2, gpus=1), WORKING, "1 of 2 GPUs are left"),
        (machines(0, 0), STARVED, "nothing can move: Ray has lost its last CPU"),
        (machines(4, 2, gpus=0), WORKING, "nothing can move: Ray has lost its last GPU"),
    ],
)
def test_what_follows_from_a_standstill(
    now: Machines, stages: list[Stage], expected: str | None
) -> None:
    pools = replace(POOLS, detector_gpus=0.5 if "GPU" in str(expected) else 0.0)
    verdict = judge(pools, BEFORE, now, stages)
    assert (verdict is None) == (expected is None)
    assert expected is None or expected in str(verdict)
    if "nothing can move" in str(verdict):
        assert isinstance(verdict, RunError)
        assert verdict.exit_code == ExitCode.INTERNAL
    elif expected is not None:
        assert isinstance(verdict, StalledError)


def test_workers_that_start_slowly_are_not_taken_for_starved() -> None:
    assert judge(POOLS, BEFORE, machines(4, 0), STARVED, 120) is None
    assert judge(POOLS, BEFORE, machines(4, 0), STARVED, 301) is not None
    assert judge(POOLS, BEFORE, machines(2, 0), STARVED, 60) is not None  # a loss is one at once


def operator(name: str, tasks: int, running: int = 0, waiting: int = 0) -> Any:
    info = SimpleNamespace(running=running, pending=waiting, restarting=0)
    actors = [f"detector {number}" for number in range(running + waiting)]
    pool = SimpleNamespace(
        _running_actors=dict.fromkeys(actors[:running]),
        _pending_actors=dict(enumerate(actors[running:])),
    )
    return SimpleNamespace(
        name=name,
        get_autoscaling_actor_pools=lambda: [pool] if actors else [],
        has_completed=lambda: False,
        num_active_tasks=lambda: tasks,
        get_actor_info=lambda: info,
    )


class Executor:
    """Of Ray Data, as far as a watch looks."""

    def __init__(self, *operators: Any) -> None:
        state = SimpleNamespace(total_enqueued_input_blocks=lambda: 3)
        self._topology = Topology([(one, state) for one in operators])


class Topology:
    """A dictionary whose keys need no hash."""

    def __init__(self, pairs: list[tuple[Any, Any]]) -> None:
        self._pairs = pairs

    def __iter__(self) -> Iterator[Any]:
        return (operator for operator, _ in self._pairs)

    def items(self) -> list[tuple[Any, Any]]:
        return self._pairs


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def now() -> list[float]:
    return [1000.0]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, lines: list[str], now: list[float]) -> Watch:
    monkeypatch.setattr(stalls, "_machines", lambda: machines(4, 0))
    return Watch(POOLS, lines.append, lambda: now[0])


def test_after_a_minute_without_news_it_says_who_waits_for_what(
    watch: Watch, lines: list[str], now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(
        operator("MapBatches(decode_rows)", 1),
        operator("MapBatches(DetectorStage)", 2, running=1, waiting=2),
        operator("Input", 0),
    )
    Steps.watch = watch
    try:
        Steps().before_execution_starts(executor)
        now[0] += 59
        watch.look()
        watch.moved()
        now[0] += 59
        watch.look()
        assert lines == []
        now[0] += 2
        watch.look()
        watch.look()
        (line,) = lines
        assert line == (
            "nothing has moved for 61 s: decoding (tasks: 1, rows before it: 3); detection"
            " (workers: 1 run, 2 wait for a place, tasks: 2, rows before it: 3); Ray has 0 of 4"
            " CPUs free, 2 of 2 GPUs free"
        )
        Steps().on_execution_step(executor)  # nothing is wrong
        now[0] += 60
        monkeypatch.setattr(stalls, "_machines", lambda: machines(2, 0))
        watch.look()
        assert lines[1].endswith("2 of 4 CPUs are left: the rest is planned again")
        killed: list[str] = []
        monkeypatch.setattr(streaming.ray, "kill", killed.append)
        with pytest.raises(StalledError):
            Steps().on_execution_step(executor)
        # otherwise they would hold CPUs for rows that were lost with the machine
        assert killed == ["detector 0", "detector 1", "detector 2"]
    finally:
        Steps.watch = None


def test_a_network_that_takes_minutes_for_a_row_is_slow_and_not_stuck(
    watch: Watch, lines: list[str], now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Executor(operator("MapBatches(DetectorStage)", 2, running=1))
    watch.executor = lambda: executor
    watch.moved()  # what came before was the start
    now[0] += 100
    watch.moved()
    monkeypatch.setattr(stalls, "_machines", lambda: machines(2, 0))
    for silent, has_ended in ((100, False), (210, True)):
        now[0] = 1100 + silent
        watch.look()
        assert (watch.verdict is not None) is has_ended
    assert len(lines) == 2


def test_a_ray_that_says_nothing_is_reported_too(
    watch: Watch, lines: list[str], now: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> Machines:
        raise ConnectionError("gone")

    monkeypatch.setattr(stalls, "_machines", fail)
    now[0] += 60
    watch.look()
    assert lines == ["nothing has moved for 60 s: the first workers start; Ray does not answer"]
    assert watch.verdict is None


def test_datasets_are_watched_and_silent() -> None:
    """Ray reads its variable when `ray.data` is imported, which is before ours is set."""
    context = streaming.streaming_context()
    assert context.enable_progress_bars is False
    assert context.target_max_block_size == 1
    assert Steps in context.execution_callback_classes


def test_machines_that_have_joined_are_missed_when_they_go(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], now: list[float]
) -> None:
    """Of a pool between limits; a fixed one has no detectors there."""
    there = [4.0]
    monkeypatch.setattr(stalls, "_machines", lambda: machines(there[0], 0))
    found = []
    for size in ((1, 8), 3):
        there[0] = 4.0
        pools = size_pools(ResourceConfig(device="cpu", num_detectors=size), BEFORE)
        watch = Watch(pools, lines.append, lambda: now[0])
        watch.executor = lambda: Executor(operator("MapBatches(DetectorStage)", 2, 3, 3))
        there[0] = 8.0
        now[0] += 11
        watch.count()
        there[0] = 4.0
        now[0] += 61
        watch.look()
        found.append(str(watch.verdict))
    assert found == ["machines were lost, 4 of 8 CPUs are left", "None"]


@pytest.mark.parametrize(("size", "expected"), [((1, 6), [True, False, True]), (3, [True] * 3)])
def test_decoders_do_not_take_the_places_of_detectors(
    size: Any, expected: list[bool], monkeypatch: pytest.MonkeyPatch, lines: list[str]
) -> None:
    """Two CPUs of eight are for decoders, as six detectors are enough; then all but two go."""
    monkeypatch.setattr(stalls, "_machines", lambda: machines(8, 0))
    pools = size_pools(ResourceConfig(device="cpu", num_detectors=size), {"CPU": 8.0})
    now = [0.0]
    policy = streaming.DetectorPlaces(None, {}, None)
    busy, idle = operator("MapBatches(decode_rows)", 2), operator("MapBatches(decode_rows)", 0)
    detection = operator("MapBatches(DetectorStage)", 9)
    Steps.watch = watch = Watch(pools, lines.append, lambda: now[0])
    try:
        one = operator("MapBatches(decode_rows)", 1)
        before = policy.can_add_input(one)
        monkeypatch.setattr(stalls, "_machines", lambda: machines(2, 0))
        now[0] += 6
        watch.count()
        assert [before, policy.can_add_input(one), policy.can_add_input(idle)] == expected
        assert policy.can_add_input(detection)
        assert policy.can_add_input(busy) == (size == 3)
    finally:
        Steps.watch = None
    assert policy.can_add_input(busy)
