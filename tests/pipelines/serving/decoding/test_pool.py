"""Images are decoded in processes that can be ended, and that no token has all of."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from faults.attack_service import scan_bomb, text_bomb
from serving_service import CONFIG, DECODERS, OTHER_TOKEN, TOKEN, frame, png, running

from jde_ray.pipelines.serving.config import Limits
from jde_ray.pipelines.serving.images import to_network
from jde_ray.pipelines.serving.refusals import Cause, Refusal

DETECTION = CONFIG.track.detection
GOOD = png(frame(0))
BOMB = scan_bomb(3372)
PATIENT = Limits(max_scans=10**6)  # as if scans were not counted


def decode(owner: str, data: bytes, limits: Limits = PATIENT):
    return DECODERS.decode(owner, data, DETECTION, limits)


def test_a_process_gives_the_pixels_and_the_refusals_of_the_function() -> None:
    async def main() -> None:
        await DECODERS.start()
        found, seconds = await decode("a", GOOD)
        wanted = to_network(GOOD, DETECTION.size, 10**8, rect=DETECTION.rect)
        np.testing.assert_array_equal(found.pixels, wanted.pixels)
        assert (found.width, found.height) == (wanted.width, wanted.height)
        assert 0 < seconds < 60
        for data, limits, cause in (
            (b"no image", PATIENT, Cause.UNSUPPORTED_TYPE),
            (GOOD, replace(PATIENT, max_pixels=9), Cause.TOO_MANY_PIXELS),
            (BOMB, Limits(), Cause.TOO_MANY_SCANS),
        ):
            with pytest.raises(Refusal) as refused:
                await decode("a", data, limits)
            assert refused.value.cause is cause
        since = time.perf_counter()
        assert (await decode("a", text_bomb()))[0].width == 64
        assert time.perf_counter() - since < 5  # its texts alone would take 15 s

    asyncio.run(main())


def test_an_image_that_takes_too_long_is_given_up_and_others_are_decoded_meanwhile() -> None:
    async def main() -> None:
        await DECODERS.start()
        limits, since = replace(PATIENT, decode_s=0.7), time.perf_counter()
        slow = [asyncio.ensure_future(decode("attacker", BOMB, limits)) for _ in range(2)]
        await asyncio.sleep(0)
        for _ in range(3):
            await decode("other", GOOD)
        assert not any(one.done() for one in slow) or time.perf_counter() - since > 0.7
        results = await asyncio.gather(*slow, return_exceptions=True)
        assert {result.cause for result in results} == {Cause.IMAGE_TOO_SLOW}
        assert (await decode("attacker", GOOD))[0].width  # by another process

    asyncio.run(main())


def test_a_caller_that_gives_up_leaves_its_process_busy_until_it_is_ended() -> None:
    async def main() -> None:
        await DECODERS.start()
        limits = replace(PATIENT, decode_s=0.7)
        first = asyncio.ensure_future(decode("a", BOMB, limits))
        waiting = asyncio.ensure_future(decode("a", GOOD))
        await asyncio.sleep(0.05)
        given_up = asyncio.ensure_future(decode("a", GOOD))
        await asyncio.sleep(0)
        first.cancel()
        given_up.cancel()
        await asyncio.wait([first, given_up], timeout=1)
        assert first.cancelled()  # at once
        assert DECODERS._queue.running == 1
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
        use = asyncio.ensure_future(decode("a", BOMB))
        for _ in range(2):
            await asyncio.sleep(0.2)
            (busy,) = (process for process in DECODERS._all if process not in DECODERS._idle)
            while not busy._is_ready:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.2)
            os.kill(busy._process.pid, signal.SIGSEGV)
        with pytest.raises(Refusal) as refused:
            await use
        assert refused.value.cause is Cause.BAD_IMAGE
        assert (await decode("a", GOOD))[0].width

    asyncio.run(main())


def test_another_tokens_calls_are_answered_while_one_sends_images_that_take_long() -> None:
    """The attacks of `tests/faults/attack_service.py`, with a fake network and little time."""
    import threading

    with running(tokens=(TOKEN, OTHER_TOKEN), max_scans=10**6, decode_s=0.8) as service:
        stop, answers = threading.Event(), []

        def attack() -> None:
            while not stop.is_set():
                answers.append(service.call("POST", "/v1/detect", BOMB, token=TOKEN)[0])

        attackers = [threading.Thread(target=attack) for _ in range(4)]
        for thread in attackers:
            thread.start()
        try:
            time.sleep(0.3)
            for _ in range(3):
                since = time.perf_counter()
                assert service.call("POST", "/v1/detect", GOOD, token=OTHER_TOKEN)[0] == 200
                assert service.call("GET", "/readyz")[0] == 200
                assert time.perf_counter() - since < 4  # two calls, on a busy machine
        finally:
            stop.set()
            for thread in attackers:
                thread.join()
        assert set(answers) <= {422, 503}
        assert 422 in answers


def test_readiness_says_when_no_frame_is_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(tokens=(TOKEN,)) as service:
        assert service.call("GET", "/readyz")[0] == 200
        monkeypatch.setattr("jde_ray.pipelines.serving.service._PROBE_S", 0.3)
        queue = service.service.queue
        queue.running = 10**6  # as if all were held, by many tokens
        status, answer, _ = service.call("GET", "/readyz")
        assert (status, answer["error"]) == (503, "unavailable")
        assert service.call("GET", "/healthz")[0] == 200
        queue.running = 0
        monkeypatch.undo()
        assert service.call("GET", "/readyz")[0] == 200
