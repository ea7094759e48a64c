"""What deploy/ asks Prometheus for is exported by runs and the service, and documented."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from documents import ROOT, blocks
from prometheus_client.parser import text_string_to_metric_families

from jde_ray.pipelines.serving import metrics as service
from jde_ray.pipelines.tracking.metrics import COUNTERS, GAUGES, exported

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy/prometheus/rules.yaml").read_text())["groups"]


def known() -> dict[str, set[str]]:
    """Labels by name of everything that a run or the service exports, from the code."""
    found = {
        exported(name): {"out", "run", *filter(None, [label])}
        for name, (label, _) in {**COUNTERS, **GAUGES}.items()
    }
    own = service.Metrics()
    for name, (labels, _) in service.COUNTERS.items():
        own.count(name, *(["x"] * len(labels)))
    own.observe("detect", 0.1)
    own.observe_call("frame", "200", 0.1)
    text = own.render(dict.fromkeys(service.GAUGES, 1.0), [{}], "model").decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def panels() -> Iterator[dict[str, Any]]:
    return (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> list[tuple[str, str]]:
    """Every question to Prometheus, with the place where it stands."""
    found = [(panel["title"], one["expr"]) for panel in panels() for one in panel["targets"]]
    found += [(one["alert"], one["expr"]) for group in RULES for one in group["rules"]]
    variables = (one for one in DASHBOARD["templating"]["list"] if one["type"] == "query")
    return found + [(one["name"], one["definition"]) for one in variables]


@pytest.mark.parametrize(("place", "query"), queries())
def test_every_metric_and_label_asked_for_is_exported(place: str, query: str) -> None:
    names = known()
    asked = re.findall(r"\b((?:ray_jde|jde|process)_\w+)(?:\{([^}]*)\})?", query)
    assert asked, place
    shared = set.intersection(*(names[name] for name, _ in asked))  # KeyError: of no metric
    for name, labels in asked:
        assert set(re.findall(r"(\w+)\s*=~?\s*\"", labels)) <= names[name], (place, name)
    for labels in re.findall(r"\b(?:by|on) \(([^)]*)\)", query):
        assert set(re.split(r",\s*", labels)) - {"le"} <= shared, (place, labels)


def test_every_metric_of_a_run_but_its_details_is_shown() -> None:
    """Those that the dashboard leaves out say why a number on it is what it is."""
    shown = " ".join(query for _, query in queries())
    left = {name for name in map(exported, {**COUNTERS, **GAUGES}) if name not in shown}
    assert left == {
        *("ray_jde_detections_total", "ray_jde_tracks_total", "ray_jde_rows_total"),
        *("ray_jde_damaged_frames_total", "ray_jde_videos_open", "ray_jde_tasks"),
    }


def test_panels_are_as_grafana_reads_them() -> None:
    assert {"title", "uid", "schemaVersion", "templating", "time", "panels"} <= DASHBOARD.keys()
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        assert panel["type"] in ("timeseries", "bargauge")
        assert panel["fieldConfig"]["defaults"]["unit"] in ("short", "s", "percentunit")
        refs = [one["refId"] for one in panel["targets"]]
        assert len(set(refs)) == len(refs)
        for one in panel["targets"]:
            assert (
                one["datasource"]
                == panel["datasource"]
                == {"type": "prometheus", "uid": "${datasource}"}
            )
            labels = set(re.findall(r"\{\{(\w+)\}\}", one["legendFormat"]))
            grouped = re.findall(r"\bby \(([^)]*)\)", one["expr"])
            assert labels <= {name for each in grouped for name in re.split(r",\s*", each)}


def test_rules_are_complete_and_those_of_the_documents() -> None:
    rules = {rule["alert"]: rule for group in RULES for rule in group["rules"]}
    for rule in rules.values():
        assert (
            {"alert", "expr", "annotations"}
            <= rule.keys()
            <= {"alert", "expr", "for", "annotations"}
        )
        assert rule["annotations"].keys() == {"summary"}
    for block in blocks():
        if "alert:" in block.text:
            for group in yaml.safe_load(block.text)["groups"]:
                for rule in group["rules"]:
                    assert rule == rules[rule["alert"]], block.place


def test_the_document_lists_every_metric_of_a_run() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    listed = dict(re.findall(r"`(ray_jde_\w+)(?:\{([^}]*)\})?`", text))
    for name, (label, _) in {**COUNTERS, **GAUGES}.items():
        assert listed.get(exported(name)) == label, name
