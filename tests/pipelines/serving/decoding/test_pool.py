"""Images are decoded in processes that can be ended, and that no token has all of."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from faults.attack_service import scan_bomb, text_bomb
from serving_service import CONFIG, DECODERS, OTHER_TOKEN, TOKEN, frame, png, running

from jde_ray.pipelines.serving.config import Limits
from jde_ray.pipelines.serving.decoding import pool
from jde_ray.pipelines.serving.images import to_network
from jde_ray.pipelines.serving.refusals import Cause, Refusal

DETECTION = CONFIG.track.detection
GOOD, SLOW = png(frame(0)), png(frame(1))
BOMB = scan_bomb(40_000)  # a minute's work
HANG_S = 60.0
PATIENT = Limits(max_scans=10**6, decode_s=HANG_S)  # as if scans were not counted


def decode(owner: str, data: bytes, limits: Limits = PATIENT):
    return DECODERS.decode(owner, data, DETECTION, limits)


@dataclass
class SlowImages:
    """When a process begins with `SLOW`, and when the time for it is up."""

    have_begun: threading.Event = field(default_factory=threading.Event)
    are_given_up: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def slow_images(monkeypatch: pytest.MonkeyPatch) -> Iterator[SlowImages]:
    """`SLOW` keeps its process busy until the test says that its time is up."""
    slow, real = SlowImages(), pool._Process.decode

    def decode_slowly(process, data, *rest):
        if data != SLOW:
            return real(process, data, *rest)
        slow.have_begun.set()
        slow.are_given_up.wait(HANG_S)
        raise Refusal(Cause.IMAGE_TOO_SLOW, "image: its time is up")

    monkeypatch.setattr(pool._Process, "decode", decode_slowly)
    yield slow
    slow.are_given_up.set()


def test_a_process_gives_the_pixels_and_the_refusals_of_the_function() -> None:
    async def main() -> None:
        await DECODERS.start()
        found, seconds = await decode("a", GOOD)
        wanted = to_network(GOOD, DETECTION.size, 10**8, rect=DETECTION.rect)
        np.testing.assert_array_equal(found.pixels, wanted.pixels)
        assert (found.width, found.height) == (wanted.width, wanted.height)
        assert 0 < seconds < HANG_S
        for data, limits, cause in (
            (b"no image", PATIENT, Cause.UNSUPPORTED_TYPE),
            (GOOD, replace(PATIENT, max_pixels=9), Cause.TOO_MANY_PIXELS),
            (BOMB, Limits(), Cause.TOO_MANY_SCANS),
        ):
            with pytest.raises(Refusal) as refused:
                await decode("a", data, limits)
            assert refused.value.cause is cause
        assert (await decode("a", text_bomb(5)))[0].width == 64

    asyncio.run(main())


def test_an_image_that_takes_too_long_is_given_up_and_its_process_replaced() -> None:
    async def main() -> None:
        await DECODERS.start()
        before = {process._process.pid for process in DECODERS._all}
        with pytest.raises(Refusal) as refused:
            await decode("attacker", BOMB, replace(PATIENT, decode_s=0.2))
        assert refused.value.cause is Cause.IMAGE_TOO_SLOW
        after = {process._process.pid for process in DECODERS._all}
        assert len(before & after) == len(before) - 1
        assert (await decode("attacker", GOOD))[0].width

    asyncio.run(main())


def test_others_images_are_decoded_while_one_owners_take_long(slow_images: SlowImages) -> None:
    async def main() -> None:
        await DECODERS.start()
        slow = [asyncio.ensure_future(decode("attacker", SLOW)) for _ in range(3)]
        await asyncio.sleep(0)
        for _ in range(3):
            assert (await decode("other", GOOD))[0].width
        assert not any(one.done() for one in slow)
        slow_images.are_given_up.set()
        results = await asyncio.gather(*slow, return_exceptions=True)
        assert [result.cause for result in results] == [Cause.IMAGE_TOO_SLOW] * 3
        assert (await decode("attacker", GOOD))[0].width

    asyncio.run(main())


def test_a_caller_that_gives_up_leaves_its_process_busy_until_it_is_ended(
    slow_images: SlowImages,
) -> None:
    async def main() -> None:
        await DECODERS.start()
        first = asyncio.ensure_future(decode("a", SLOW))
        waiting = asyncio.ensure_future(decode("a", GOOD))
        await asyncio.to_thread(slow_images.have_begun.wait, HANG_S)
        given_up = asyncio.ensure_future(decode("a", GOOD))
        await asyncio.sleep(0)
        first.cancel()
        given_up.cancel()
        await asyncio.wait([first, given_up], timeout=HANG_S)
        assert first.cancelled()  # at once
        assert given_up.cancelled()
        assert (await decode("b", GOOD))[0].width
        assert not waiting.done()
        assert DECODERS._queue.running == 1
        slow_images.are_given_up.set()
        assert (await waiting)[0].width
        assert (DECODERS._queue.running, DECODERS._queue.waiting) == (0, 0)

    asyncio.run(main())


def test_a_process_that_is_killed_costs_no_image() -> None:
    async def main() -> None:
        await DECODERS.start()
        next_one = DECODERS._idle[-1]._process
        os.kill(next_one.pid, signal.SIGSTOP)
        use = asyncio.ensure_future(decode("a", GOOD))
        await asyncio.sleep(0.1)
        os.kill(next_one.pid, signal.SIGKILL)
        assert (await use)[0].width

    asyncio.run(main())


def test_an_image_at_which_two_processes_die_is_refused() -> None:
    async def main() -> None:
        await DECODERS.start()
        use, ended = asyncio.ensure_future(decode("a", BOMB)), set()
        await asyncio.sleep(0)
        while len(DECODERS._idle) == len(DECODERS._all):
            await asyncio.sleep(0.01)
        (busy,) = (process for process in DECODERS._all if process not in DECODERS._idle)
        while len(ended) < 2:
            process = busy._process  # None while it is replaced
            if process is not None and busy._is_ready and process.pid not in ended:
                ended.add(process.pid)
                os.kill(process.pid, signal.SIGSEGV)
            await asyncio.sleep(0.01)
        with pytest.raises(Refusal) as refused:
            await use
        assert refused.value.cause is Cause.BAD_IMAGE
        assert (await decode("a", GOOD))[0].width

    asyncio.run(main())


def test_another_tokens_calls_are_answered_while_one_sends_images_that_take_long(
    slow_images: SlowImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attacks of `tests/faults/attack_service.py`, with a fake network."""
    monkeypatch.setattr("jde_ray.pipelines.serving.calls._PROBE_S", HANG_S)
    with running(tokens=(TOKEN, OTHER_TOKEN), decode_s=HANG_S) as service:
        stop, answers = threading.Event(), []

        def attack() -> None:
            while not stop.is_set():
                answers.append(service.call("POST", "/v1/detect", SLOW, token=TOKEN)[0])
                time.sleep(0.02)

        attackers = [threading.Thread(target=attack) for _ in range(4)]
        for thread in attackers:
            thread.start()
        try:
            assert slow_images.have_begun.wait(HANG_S)
            for _ in range(3):
                assert service.call("POST", "/v1/detect", GOOD, token=OTHER_TOKEN)[0] == 200
                assert service.call("GET", "/readyz")[0] == 200
            assert 422 not in answers
        finally:
            stop.set()
            slow_images.are_given_up.set()
            for thread in attackers:
                thread.join()
        assert set(answers) <= {422, 503}
        assert 422 in answers


def test_readiness_says_when_no_frame_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    probe_s = "jde_ray.pipelines.serving.calls._PROBE_S"
    monkeypatch.setattr(probe_s, HANG_S)
    with running(tokens=(TOKEN,)) as service:
        assert service.call("GET", "/readyz")[0] == 200
        monkeypatch.setattr(probe_s, 0.3)
        queue = service.service.queue
        queue.running = 10**6  # as if all were held, by many tokens
        status, answer, _ = service.call("GET", "/readyz")
        assert (status, answer["error"]) == (503, "unavailable")
        assert service.call("GET", "/healthz")[0] == 200
        queue.running = 0
        monkeypatch.setattr(probe_s, HANG_S)
        assert service.call("GET", "/readyz")[0] == 200
