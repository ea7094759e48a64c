"""Limits shared out between tokens: slots for frames, sockets, and bytes of images."""

from __future__ import annotations

import asyncio

import pytest

from jde_ray.pipelines.serving.admission_queue import AdmissionQueue
from jde_ray.pipelines.serving.quotas import ConcurrencyLimit, MemoryBudget
from jde_ray.pipelines.serving.refusals import Cause, Refusal


def test_an_owner_whose_frames_never_end_leaves_a_slot_to_others() -> None:
    async def main() -> None:
        queue, order, gate = AdmissionQueue(2, 1, 4), [], asyncio.Event()

        async def hold(unbounded: bool = False) -> None:
            async with queue.slot("attacker", unbounded=unbounded):
                await gate.wait()

        async def visit(name: str, unbounded: bool) -> None:
            async with queue.slot(name, unbounded=unbounded):
                order.append(name)

        held = [asyncio.ensure_future(hold()) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal):
            queue.check("attacker")  # two run, and one waits
        for unbounded in (False, True):
            for name in ("a", "b"):
                queue.check(name)
                await asyncio.wait_for(visit(name, unbounded), 60)
        held += [asyncio.ensure_future(hold(True)) for _ in range(9)]
        await asyncio.sleep(0)
        await asyncio.wait_for(visit("a", True), 60)
        assert order == ["a", "b", "a", "b", "a"]
        assert queue.running == 4
        gate.set()
        await asyncio.gather(*held)
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(main())


def test_the_owners_of_a_line_take_turns() -> None:
    async def main() -> None:
        queue, order, gate = AdmissionQueue(1, 9), [], asyncio.Event()

        async def visit(name: str) -> None:
            async with queue.slot(name[0], unbounded=True):
                order.append(name)
                await gate.wait()

        names = ["a1", "a2", "a3", "a4", "b1", "c1", "b2", "c2"]
        tasks = []
        for name in names:
            tasks.append(asyncio.ensure_future(visit(name)))
            await asyncio.sleep(0)
        assert order == ["a1", "b1"]  # of three owners two have places, one each
        gate.set()
        await asyncio.gather(*tasks)
        assert [name for name in order if name[0] == "a"] == ["a1", "a2", "a3", "a4"]
        assert max(order.index("b2"), order.index("c2")) < order.index("a4")
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(main())


def test_so_many_at_once_and_so_many_of_one() -> None:
    limit = ConcurrencyLimit("sockets are open", 4, 0.5)
    with limit.hold("a"), limit.hold("a"):
        with pytest.raises(Refusal, match="expected 2 at once of a token") as refused:
            limit.hold("a").__enter__()
        assert refused.value.cause is Cause.OVERLOADED
        others = [limit.hold("b"), limit.hold("b")]
        for other in others:
            other.__enter__()
        with pytest.raises(Refusal, match="expected 4 at once;"):
            limit.hold("c").__enter__()
        for other in others:
            other.__exit__(None, None, None)
    assert limit.number == 0
    with limit.hold("a"):
        assert limit.number == 1


def test_partial_messages_alone_do_not_wait_for_each_other() -> None:
    memory, told = MemoryBudget(100, 60), []
    memory.take("a", 60, is_partial=True)
    assert memory.is_full("a")
    assert not memory.is_full("b")
    assert not memory.wait("a", "idle", lambda: told.append("idle"))
    assert memory.wait("a", "first", lambda: told.append("first"), is_partial=True)
    assert not memory.wait("a", "second", lambda: told.append("second"), is_partial=True)
    memory.leave("a", "first")  # its connection is closed
    assert told == ["second"]
    assert memory.may_read_on("a", "second")
    memory.give("a", 1, is_partial=True)
    assert sorted(told) == ["idle", "second", "second"]
    memory.take("b", 41)
    assert memory.is_full("a")  # the whole is full
    memory.give("b", 41)
    memory.give("a", 59, is_partial=True)
    assert (memory.held, memory.of("a"), memory.of("b")) == (0, 0, 0)


def test_whoever_has_whole_images_here_finishes_no_other_message_above_its_share() -> None:
    """Otherwise each of an owner's sockets brings one more image, and others have no room."""
    memory, told = MemoryBudget(100, 50), []
    for _ in range(3):
        memory.take("a", 15, is_partial=True)
    memory.take("a", 5, is_partial=True)
    for name in ("x", "y", "z"):
        memory.wait("a", name, lambda name=name: told.append(name), is_partial=True)
    assert memory.may_read_on("a", "x")
    memory.take("a", 16)  # x has arrived, and is being answered
    memory.give("a", 15, is_partial=True)
    memory.leave("a", "x")
    assert (told, memory.of("a")) == ([], 51)
    assert not memory.may_read_on("a", "y")
    memory.take("a", 20, is_partial=True)
    memory.give("a", 16)  # x is answered: nothing but parts are left
    assert told == ["y"]
    assert memory.may_read_on("a", "y")


def test_room_is_waited_for_and_a_waiter_that_gives_up_is_forgotten() -> None:
    async def main() -> None:
        memory = MemoryBudget(10, 10)
        memory.take("a", 10)
        waiters = [asyncio.ensure_future(memory.room("a")) for _ in range(3)]
        await asyncio.sleep(0)
        waiters[0].cancel()
        await asyncio.sleep(0)
        assert not any(waiter.done() for waiter in waiters[1:])
        memory.give("a", 5)
        await asyncio.wait_for(asyncio.gather(*waiters[1:]), 60)
        assert not memory._readers

    asyncio.run(main())
