"""Requests made from the OpenAPI description: every answer is one that it declares."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from serving_service import HANG_S, TOKEN, frame, png, running

from jde_ray.pipelines.serving.api.routes import build_api

PNG = png(frame(0))


def play(service, number: int) -> Counter[int]:
    """Make `number` requests from the description, and check each answer against it."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
    checks = schemathesis.checks
    schema = schemathesis.openapi.from_url(
        f"{service.url}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"}
    )
    wanted = [
        *(checks.not_a_server_error, checks.CHECKS.get_one("status_code_conformance")),
        checks.CHECKS.get_one("response_schema_conformance"),
    ]
    statuses: Counter[int] = Counter()
    operations = [result.ok() for result in schema.get_all_operations()]
    strategy = st.one_of(
        *(operation.as_strategy(generation_mode=mode) for operation in operations
          for mode in schemathesis.GenerationMode)
    )  # fmt: skip
    streams = [service.open(TOKEN) for _ in range(3)]

    @settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=strategy, stream=st.sampled_from([None, *streams]), image=st.booleans())
    def request(case, stream, image):
        if stream is not None and "stream" in (case.path_parameters or {}):
            case.path_parameters["stream"] = stream  # one that exists
        if image and case.operation.path.endswith(("detect", "{seq}")):
            case.body, case.media_type = PNG, "image/png"
        response = case.call(headers={"Authorization": f"Bearer {TOKEN}"}, timeout=HANG_S)
        statuses[response.status_code] += 1
        if response.status_code != 503:  # declared, and what overload says
            case.validate_response(response, checks=wanted)

    request()
    return statuses


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_generated_requests_get_declared_answers():
    with running(tokens=(TOKEN,), max_streams=10_000) as service:
        statuses = play(service, 150)
    assert sum(statuses.values()) >= 150
    assert 500 not in statuses
    assert {200, 404, 422} <= statuses.keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_five_thousand_generated_requests():
    with running(tokens=(TOKEN,), max_streams=100_000) as service:
        statuses = play(service, 5000)
    assert sum(statuses.values()) >= 5000
    assert 500 not in statuses


def test_calls_of_every_path_have_a_name_in_metrics_and_in_the_request_log():
    with running() as service:
        guard = build_api(service.service)
    described = guard.app.openapi()["paths"]
    for path in (*described, "/", "/docs", "/openapi.json", "/v1/streams/{stream}/ws"):
        assert any(shape.match(path) for shape, _ in guard.calls), path
