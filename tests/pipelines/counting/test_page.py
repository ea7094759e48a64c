from dataclasses import replace
from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
import yaml
from counted_tracks import PLACES, WALKS, rows_of, write_tracks

from jde_ray.pipelines.counting import page
from jde_ray.pipelines.counting.heads import Failure
from jde_ray.pipelines.counting.page import build_page
from jde_ray.pipelines.counting.run import count
from jde_ray.pipelines.counting.videos import CountConfig
from jde_ray.pipelines.formats.places_file import parse_places


@pytest.fixture
def counted(tmp_path):
    for number, hour in enumerate((12, 15)):
        start = f"2026-05-01T{hour}:00:00+00:00"
        write_tracks(tmp_path / "out", f"v{number}", rows_of(*WALKS), camera="hall", start=start)
    write_tracks(tmp_path / "out", "<yard>", rows_of(*WALKS))
    config = CountConfig(places=parse_places(yaml.safe_load(PLACES)))
    return count(tmp_path / "out", str(tmp_path / "to"), config, by="hour")


def test_totals_curves_and_places_of_each_camera(counted):
    text = build_page(counted, "runs/x", "hour", ZoneInfo("Europe/Berlin"), {})
    assert text.count("<h2>") == 2
    assert "&lt;yard&gt;" in text
    assert "<yard>" not in text
    assert "<b>6</b><span>lines crossed" in text
    assert "01 May 14:00" in text, "in the time zone that was asked for"
    yard, hall = text.split("<h2>")[1:]
    assert '<td class="n">2</td>' in hall
    assert "People in zones, mean" in hall
    assert "People in zones, mean" not in yard, "a single bucket is no curve"
    assert text.count("Places, and where people were") == 2
    assert build_page(counted, "runs/x", "hour", ZoneInfo("Europe/Berlin"), {}) == text


def test_a_direction_of_a_line_may_be_called_as_what_zones_count(tmp_path):
    for number, hour in enumerate((12, 15)):
        start = f"2026-05-01T{hour}:00:00+00:00"
        write_tracks(tmp_path / "out", f"v{number}", rows_of(*WALKS), camera="hall", start=start)
    text = PLACES.replace("to_right: in,", "to_right: inside,").replace("out}", "leave}")
    config = CountConfig(places=parse_places(yaml.safe_load(text)))
    counted = count(tmp_path / "out", str(tmp_path / "to"), config, by="hour")
    page_text = build_page(counted, "runs/x", "hour", UTC, {})
    assert "<title>middle inside</title>" in page_text, "a curve of events"
    assert "<title>middle leave</title>" in page_text
    assert "<title>queue leave</title>" not in page_text
    assert "<title>middle</title>" not in page_text, "no curve of people in zones"
    assert '<td>middle</td><td>inside</td><td class="n">2</td>' in page_text


def test_what_is_not_shown_is_said(counted, monkeypatch):
    monkeypatch.setattr(page, "MOST_CAMERAS", 1)
    monkeypatch.setattr(page, "MOST_FAILED", 2)
    many = replace(counted, failures=[Failure(f"f{n}", "damaged") for n in range(5)])
    text = build_page(many, "runs/x", "hour", UTC, {})
    assert "The first 1 of 2 cameras are shown" in text
    assert "5 videos failed" in text
    assert "f1: damaged" in text
    assert "f2: damaged" not in text
    assert "... and 3 more" in text
