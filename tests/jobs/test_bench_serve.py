"""The load generator of `jde bench serve` against a service in this process."""

from __future__ import annotations

import pytest
from online_service import running

from jobs._bench_serve import Load, call_load, quantile, stream_load, street_images

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def test_figures_of_a_load():
    load = Load(2.0, [0.01] * 98 + [0.5, 1.0], [0.02] * 25, 1, {200: 100, 503: 25})
    row = load.row("x")
    assert row["frames_per_second"] == 50
    assert (row["p50_ms"], row["p99_ms"]) == (10, 1000)
    assert row["refused_share"] == pytest.approx(0.2)
    assert Load().row("nothing")["p99_ms"] == 0
    assert quantile([2.0, 1.0], 1.0) == 2.0


def test_loads_count_what_the_service_answers():
    images = street_images(3)
    with running() as service:
        service.backend.pause_s = 0.02
        streams = stream_load(service.url, images, 2, 1.0)
        calls = call_load(service.port, images, 12, 1.0, per_second=200.0)
        few = call_load(service.port, images, 2, 60.0, most=5, tries=3)
        text = service.call("GET", "/metrics")[1].decode()
    assert len(streams.accepted_s) > 4
    assert calls.statuses.keys() == {200, 503}
    assert len(calls.refused_s) == calls.statuses[503]
    assert (len(few.accepted_s), few.failed) == (5, 0)
    answered = len(calls.accepted_s) + len(few.accepted_s)
    assert f'jde_frames_total{{call="detect"}} {answered}.0' in text.splitlines()
    assert f'jde_frames_total{{call="frame"}} {len(streams.accepted_s)}.0' in text.splitlines()
