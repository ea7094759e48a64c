"""`/metrics` as Prometheus reads it: names, types, labels, limits, and what the document says."""

from __future__ import annotations

import re
import time

import pytest
import yaml
from documents import ROOT, blocks
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from serving_service import CONFIG, frame, png, running

from jde_ray.pipelines.config import VERSION
from jde_ray.pipelines.serving.client.connection import connect
from jde_ray.pipelines.serving.metrics import Metrics

FRAMES = [frame(number) for number in range(4)]


@pytest.fixture(scope="module")
def families() -> dict[str, Metric]:
    """The families of a service that has answered, refused and still has an open socket."""
    with running() as service:
        assert service.call("POST", "/v1/detect", png(FRAMES[0]))[0] == 200
        assert service.call("POST", "/v1/detect", b"none")[0] == 415
        with connect(service.url).stream(25) as stream:
            assert len(list(stream.track(FRAMES))) == 4
            return parse(service.call("GET", "/metrics")[1])


def parse(text: bytes) -> dict[str, Metric]:
    return {family.name: family for family in text_string_to_metric_families(text.decode())}


def value(families: dict[str, Metric], name: str, /, **labels: str) -> float:
    found = [
        sample.value
        for family in families.values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) == 1, (name, labels, found)
    return found[0]


def test_counters_are_counters_and_end_in_total(families):
    for name, family in families.items():
        assert family.documentation
        names = {sample.name for sample in family.samples}
        if family.type == "counter":
            assert names <= {f"{name}_total"}
        else:
            assert not any(one.endswith("_total") for one in names)
    counters = {name for name, family in families.items() if family.type == "counter"}
    assert counters == {
        *("jde_requests", "jde_frames", "jde_detections", "jde_tracks", "jde_refusals"),
        *("jde_retries", "jde_streams_resumed", "jde_streams_expired", "jde_snapshots_failed"),
        "process_cpu_seconds",
    }
    assert value(families, "jde_frames_total", call="frame") == 4
    assert value(families, "jde_refusals_total", error="unsupported_type") == 1
    assert value(families, "jde_streams_expired_total", session="0") == 0


def test_latency_is_a_histogram_by_call_and_status_for_frames_of_sockets_too(families):
    assert families["jde_call_seconds"].type == families["jde_stage_seconds"].type == "histogram"
    for call, status, number in (("frame", "200", 4), ("detect", "200", 1), ("detect", "415", 1)):
        labels = {"call": call, "status": status}
        assert value(families, "jde_call_seconds_count", **labels) == number
        assert value(families, "jde_call_seconds_bucket", le="+Inf", **labels) == number
        assert value(families, "jde_call_seconds_sum", **labels) > 0


def test_what_runs_stands_beside_its_limit(families):
    limits = CONFIG.limits
    for name, now, limit in (
        ("jde_sockets", 1, limits.max_sockets),
        ("jde_image_bytes", 0, limits.max_image_bytes),
        ("jde_bodies_arriving", 0, limits.max_bodies),
        ("jde_frames_running", 0, 4),  # three of sockets, and one spare
        ("jde_frames_waiting", 0, limits.max_waiting),
    ):
        assert families[name].type == families[f"{name}_limit"].type == "gauge"
        assert value(families, name) == now
        assert value(families, f"{name}_limit") == limit
    assert value(families, "jde_streams") == 1
    assert value(families, "jde_detectors") == value(families, "jde_detectors_wanted") == 1


def test_a_number_that_is_not_known_is_left_out():
    families = parse(Metrics().render({"jde_detectors": None, "jde_sockets": 3}))
    assert not families["jde_detectors"].samples
    assert value(families, "jde_sockets") == 3


def test_it_says_what_answers_and_what_its_process_uses(families):
    (info,) = families["jde_info"].samples
    assert info.value == 1
    assert info.labels["version"] == VERSION
    assert info.labels["model"] == CONFIG.model
    assert re.match(r"\d+\.\d+", info.labels["ray"])
    assert value(families, "process_resident_memory_bytes") > 1 << 20
    assert value(families, "process_open_fds") > 3
    assert value(families, "process_cpu_seconds_total") > 0
    assert 0 < time.time() - value(families, "process_start_time_seconds") < 86_400


def test_the_document_lists_every_metric_with_its_type(families):
    text = (ROOT / "docs/serving.md").read_text()
    rows = re.findall(
        r"^\| ((?:`[a-z_]+(?:\{[a-z, ]+\})?`(?:, )?)+) \| (counter|gauge|histogram|info) \|",
        text,
        re.MULTILINE,
    )
    listed = {
        name.partition("{")[0]: (kind, name.partition("{")[2].rstrip("}"))
        for names, kind in rows
        for name in re.findall(r"`([^`]+)`", names)
    }
    for name, family in families.items():
        full = f"{name}_total" if family.type == "counter" else name
        kind, labels = listed.pop(full)
        assert kind == ("info" if name == "jde_info" else family.type), name
        shown = {label for sample in family.samples for label in sample.labels} - {"le"}
        assert not family.samples or set(filter(None, labels.split(", "))) == shown, name
    assert not listed


def test_the_rules_of_the_document_ask_for_metrics_that_exist(families):
    (block,) = (block for block in blocks() if "alert:" in block.text)
    samples = [sample for family in families.values() for sample in family.samples]
    rules = [rule for group in yaml.safe_load(block.text)["groups"] for rule in group["rules"]]
    assert len(rules) == 3
    for rule in rules:
        assert set(rule) == {"alert", "expr", "for", "annotations"}
        asked = re.findall(r"\b((?:jde|process)_\w+)(?:\{([^}]*)\})?", rule["expr"])
        assert asked
        for name, labels in asked:
            wanted = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            assert any(
                sample.name == name and wanted.items() <= sample.labels.items()
                for sample in samples
            ), (name, wanted)
