"""Tokens, rates, and slots for frames."""

from __future__ import annotations

import asyncio
import hmac
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving_service import OTHER_TOKEN, TOKEN

from jde_ray.pipelines.serving.admission import OPEN_OWNER, Rates, Tokens, read_tokens
from jde_ray.pipelines.serving.admission_queue import AdmissionQueue
from jde_ray.pipelines.serving.calls import Service
from jde_ray.pipelines.serving.config import Limits, ServeConfig
from jde_ray.pipelines.serving.refusals import Cause, Refusal


def test_tokens_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(f"# of the cameras\n{TOKEN}\n\n  {OTHER_TOKEN}  \n")
    assert read_tokens(str(path)) == (TOKEN, OTHER_TOKEN)


@pytest.mark.parametrize("text", ["", "# only a remark\n", "short\n", "with a blank inside it\n"])
def test_a_file_without_a_usable_token_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ValueError, match="token-file: ") as refused:
        read_tokens(str(path))
    assert "short" not in str(refused.value)
    assert "blank" not in str(refused.value)
    with pytest.raises(ValueError, match="cannot be read"):
        read_tokens(str(tmp_path / "missing"))


def test_every_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared = []

    def compare(a: bytes, b: bytes) -> bool:
        compared.append((len(a), len(b)))
        return a == b

    monkeypatch.setattr(hmac, "compare_digest", compare)
    tokens = Tokens((TOKEN, OTHER_TOKEN))
    tokens.owner(TOKEN)  # the first one fits, and the second is compared all the same
    assert compared == [(32, 32)] * 2


def test_who_a_token_stands_for() -> None:
    tokens = Tokens((TOKEN, OTHER_TOKEN))
    assert tokens.owner(TOKEN) != tokens.owner(OTHER_TOKEN)
    assert TOKEN not in tokens.owner(TOKEN)
    for given_token, cause in (
        (None, Cause.NO_TOKEN),
        ("", Cause.WRONG_TOKEN),
        ("x", Cause.WRONG_TOKEN),
    ):
        with pytest.raises(Refusal) as refused:
            tokens.owner(given_token)
        assert refused.value.cause is cause
    assert Tokens().owner(None) == OPEN_OWNER


def test_a_rate_lets_a_second_through_at_once_and_fills_again() -> None:
    now = [0.0]
    rates = Rates(10.0, clock=lambda: now[0])
    for _ in range(10):
        rates.take("a")
    with pytest.raises(Refusal) as refused:
        rates.take("a")
    assert refused.value.cause is Cause.TOO_MANY_FRAMES
    assert refused.value.retry_after_s == pytest.approx(0.1)
    rates.take("b")  # others have their own
    now[0] = 0.1
    rates.take("a")
    with pytest.raises(Refusal):
        rates.take("a")


def test_rates_remember_so_many_owners_only() -> None:
    rates = Rates(1.0, max_owners=5)
    for number in range(50):
        rates.take(str(number))
    assert len(rates._buckets) == 5


def test_slots_are_given_in_order_and_in_turns_and_the_rest_is_refused_at_once() -> None:
    async def main() -> None:
        queue, order = AdmissionQueue(1, 2), []
        gate = asyncio.Event()

        async def visit(name: str, *, unbounded: bool = False) -> None:
            async with queue.slot(unbounded=unbounded):
                order.append(name)
                await gate.wait()

        tasks = [asyncio.ensure_future(visit(name)) for name in "abc"]
        await asyncio.sleep(0)
        for refused_at in (queue.check, lambda: asyncio.ensure_future(visit("d"))):
            with pytest.raises(Refusal) as refused:
                await (refused_at() or asyncio.sleep(0))
            assert refused.value.cause is Cause.OVERLOADED
        tasks += [asyncio.ensure_future(visit(name, unbounded=True)) for name in "uvwx"]
        await asyncio.sleep(0)
        assert (queue.running, queue.waiting) == (1, 6)
        gate.set()
        await asyncio.gather(*tasks)
        assert order == list("abucvwx")  # of those who wait, a call, a socket, and so on
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(main())


def test_more_frames_of_sockets_than_of_calls_may_run_and_both_get_their_turns() -> None:
    async def main() -> None:
        queue, order, gate = AdmissionQueue(1, 2, 3), [], asyncio.Event()

        async def visit(name: str, *, unbounded: bool = False) -> None:
            async with queue.slot(unbounded=unbounded):
                order.append(name)
                await gate.wait()

        tasks = [asyncio.ensure_future(visit(name)) for name in "ab"]
        await asyncio.sleep(0)
        tasks += [asyncio.ensure_future(visit(name, unbounded=True)) for name in "uvwx"]
        await asyncio.sleep(0)
        assert order == list("auv")  # one call, and two frames of sockets beside it
        assert (queue.running, queue.waiting) == (3, 3)
        gate.set()
        await asyncio.gather(*tasks)
        assert order == list("auvbwx")
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(main())


def test_sockets_that_are_always_ahead_leave_room_for_calls() -> None:
    async def main() -> None:
        queue, served = AdmissionQueue(1, 1), 0

        async def visit() -> None:
            async with queue.slot(unbounded=True):
                await asyncio.sleep(0)

        async def hurry() -> None:
            while True:
                await asyncio.gather(*(visit() for _ in range(8)))

        sockets = [asyncio.ensure_future(hurry()) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(20):
            async with queue.slot():
                served += 1
        assert served == 20
        for socket in sockets:
            socket.cancel()
        await asyncio.gather(*sockets, return_exceptions=True)

    asyncio.run(asyncio.wait_for(main(), 60))


def test_giving_up_while_a_slot_is_being_passed_on() -> None:
    """The waiting frame is cancelled, and the running one leaves before it has noticed."""

    async def main() -> None:
        queue, gate = AdmissionQueue(1, 5), asyncio.Event()

        async def visit() -> None:
            async with queue.slot():
                await gate.wait()

        first, second, third = (asyncio.ensure_future(visit()) for _ in range(3))
        await asyncio.sleep(0)
        second.cancel()
        first.cancel()
        results = await asyncio.wait_for(asyncio.gather(first, second, return_exceptions=True), 60)
        assert all(isinstance(result, asyncio.CancelledError) for result in results)
        gate.set()
        await asyncio.wait_for(third, 60)
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(main())


@given(
    st.lists(
        st.tuples(st.sampled_from(["enter", "cancel", "leave"]), st.integers(0, 20)), max_size=60
    )
)
@settings(max_examples=60, deadline=None)
def test_no_slot_is_lost_or_made_by_whoever_gives_up(steps: list[tuple[str, int]]) -> None:
    async def main() -> None:
        queue, gates, tasks = AdmissionQueue(2, 100), [], []
        most = 0

        async def visit(gate: asyncio.Event, unbounded: bool) -> None:
            async with queue.slot(unbounded=unbounded):
                await gate.wait()

        for step, which in steps:
            if step == "enter":
                gates.append(asyncio.Event())
                tasks.append(asyncio.ensure_future(visit(gates[-1], which % 2 == 0)))
            elif tasks:
                number = which % len(tasks)
                if step == "cancel":
                    tasks[number].cancel()
                else:
                    gates[number].set()
            if which % 3:
                await asyncio.sleep(0)
            most = max(most, queue.running)
            assert queue.running <= 2
        for gate in gates:
            gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert (queue.running, queue.waiting) == (0, 0)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("detectors", "ingresses", "admitted"), [(2, 1, 2), (2, 2, 2), (6, 4, 2), (1, 3, 1)]
)
def test_an_ingress_admits_what_it_must_carry_while_another_one_is_lost(
    detectors: int, ingresses: int, admitted: int
) -> None:
    async def main() -> None:
        limits = Limits(max_waiting=0)
        config = ServeConfig(
            num_detectors=detectors, num_ingresses=ingresses, batch=1, limits=limits
        )
        queue = Service(config, None, Tokens()).queue  # type: ignore[arg-type]  # none is called
        async with AsyncExitStack() as inside:
            for _ in range(admitted):
                await inside.enter_async_context(queue.slot())
            with pytest.raises(Refusal) as refused:
                queue.check()
        assert refused.value.cause is Cause.OVERLOADED

    asyncio.run(main())
