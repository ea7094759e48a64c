"""The load generator of `jde bench serve` against a service in this process."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from serving_service import frame, png, running

from jde_ray.jobs.bench.serving import loads, serve
from jde_ray.jobs.bench.serving.loads import (
    Client,
    Load,
    call_load,
    quantile,
    slow_senders,
    stream_load,
)
from jde_ray.jobs.bench.serving.processes import growth
from jde_ray.jobs.bench.serving.serve import street_images

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_figures_of_a_load():
    load = Load(2.0, 125, [0.01] * 98 + [0.5, 1.0], [0.02] * 25, 1)
    row = load.row("x")
    assert row["frames_per_second"] == 50
    assert (row["p50_ms"], row["p99_ms"]) == (10, 1000)
    assert row["refused_share"] == pytest.approx(0.2)
    assert Load().row("nothing")["p99_ms"] == 0
    assert quantile([2.0, 1.0], 1.0) == 2.0
    rows = [{"memory_mib": 500.0}] * 5 + [{"memory_mib": 100.0 + 3 * n} for n in range(5)]
    assert growth(rows, "memory_mib", minutes=10) == pytest.approx(3)


def test_loads_count_what_the_service_answers(monkeypatch):
    """By a clock that goes on by 10 ms whenever somebody looks at it."""
    looks = itertools.count()
    clock = SimpleNamespace(perf_counter=lambda: next(looks) / 100, sleep=time.sleep)
    monkeypatch.setattr(loads, "time", clock)
    images = street_images(3)
    with running() as service:
        streams = stream_load(service.url, images, 2, 1.0)
        with monkeypatch.context() as patch:
            note = Client._note

            def note_and_go_on(client, attempt, status, seconds):
                note(client, attempt, status, seconds)
                if status == 503:
                    service.backend.may_detect.set()

            patch.setattr(Client, "_note", note_and_go_on)
            service.backend.may_detect.clear()  # until a call is refused
            calls = call_load(service.port, images, 12, 1.0, per_second=200.0)
        few, lock = Load(), threading.Lock()
        client = Client(service.port, few, lock, tries=3)
        with slow_senders(service.port, 20):
            right = client.post("/v1/detect", images[0])
            assert client.post("/v1/detect", images[0], right) == right
        client.post("/v1/detect", images[0], {"another": "answer"})
        stream = client.open()
        assert client.post(f"{stream}/frames/0", images[0])["seq"] == 0
        assert client.post(f"{stream}/frames/7", images[0]) is None
        text = service.call("GET", "/metrics")[1].decode()
    assert len(streams.accepted_s) == streams.calls >= 2  # one of each stream
    assert calls.statuses.keys() == {200, 503}
    assert len(calls.refused_s) == calls.statuses[503]
    assert (few.calls, len(few.accepted_s), few.wrong, few.failed) == (5, 4, 1, 1)
    assert (calls.failed, few.statuses) == (0, {200: 4, 409: 3})
    answered = len(calls.accepted_s) + 3
    assert f'jde_frames_total{{call="detect"}} {answered}.0' in text.splitlines()
    assert f'jde_frames_total{{call="frame"}} {len(streams.accepted_s) + 1}.0' in text.splitlines()


def test_answers_under_kills_are_compared_and_a_soak_shows_what_is_held(monkeypatch):
    """Here nothing is killed: a stream's answers change in the middle instead."""
    images = [png(frame(number)) for number in range(3)]
    with running(max_waiting=16) as service:

        @contextmanager
        def changing(_every_s):
            yield from changes

        def nothing():
            yield

        def other_answers():
            find = service.backend.detect
            service.backend.detect = lambda frame: find(replace(frame, width=frame.width + 1))
            yield
            service.backend.detect = find

        monkeypatch.setattr(loads, "killing", changing)
        changes = nothing()
        right = loads.killing_load(service.port, images, 30, 3.0, 3).row("kills")
        assert all(row["kept"] for row in serve._kill_promises(right))
        changes = other_answers()
        wrong = loads.killing_load(service.port, images, 30, 3.0, 3)
        assert (wrong.calls, wrong.failed) == (30, 0)
        assert wrong.wrong > 20
        parts = loads.soak_rows(service.url, service.port, images, 1.0, 50.0)
    assert [row["load"] for row in parts] == [f"soak {part}/10" for part in range(1, 11)]
    assert (
        parts[-1]["streams"] > parts[0]["streams"] > 0
    )  # those left unused; idle_s has not passed
    assert sum(row["failed"] for row in parts) == 0
    report = {"rows": [right, *parts], "promises": serve._soak_promises(parts, 1.0)}
    machine = {"cores": 2, "cpu": "x", "image": "y", "precision": "auto", "load_average": 0.0}
    assert len(serve._build_tables(report | machine)) == 3
