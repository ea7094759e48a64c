"""The contact sheet of tracks: the longest first, small, without a script, and only if asked."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import cv2
import fakes
import numpy as np
import pytest
from fakes import Script

from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.output.layout import REPORT_KEY, crop_index_key
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.report import people
from jde_ray.pipelines.report.page import build_report
from jde_ray.pipelines.report.people import HEIGHT, WIDTH
from jde_ray.pipelines.report.plots import format_seconds, read_tracked_video
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.tracking import reference

CROPS = OutputConfig(save_crops=True)


def run(folder: Path, outputs: OutputConfig, **scripts: Script) -> tuple[Summary, ObjectStore]:
    fakes.archive(folder / "in", **scripts)
    out = str(folder / "out")
    components = replace(fakes.COMPONENTS, read_frames=fakes.read_frames)
    summary = reference.track(
        [str(folder / "in")], out, fakes.CONFIG, components=components, outputs=outputs
    )
    return summary, open_store(out)


def sheet_of(store: ObjectStore) -> str:
    page = store.get(REPORT_KEY).decode()
    assert page.count("<script") == 1  # the page's own, which its policy names
    return page.partition('<div class="people">')[2].partition("</section>")[0]


def test_the_longest_tracks_come_first_and_their_pictures_are_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(people, "MAX_SHOWN", 5)
    summary, store = run(tmp_path, CROPS, a=Script(frames=60), b=Script(frames=30, seed=3))
    sheet = sheet_of(store)
    seen = []
    for row in summary.videos:
        tracked = read_tracked_video(store, row.video_id, 1)
        seen += [
            (last - first, track_id, f"{row.video.rpartition('/')[2]}")
            for track_id, (_, first, last) in tracked.rows.items()
        ]
    longest = sorted(seen, key=lambda one: -one[0])[:5]
    shown = re.findall(r"<b>(\d+)</b> &middot; ([^<]+)<br>([^<]+)<", sheet)
    assert [one[1] for one in shown] == [format_seconds(one[0]) for one in longest]
    assert {(int(one[0]), one[2]) for one in shown} <= {one[1:] for one in seen}
    sources = re.findall('src="data:image/jpeg;base64,([^"]+)"', sheet)
    assert len(sources) == len(shown) == 5
    for source in sources:
        data = np.frombuffer(base64.b64decode(source), np.uint8)
        height, width = cv2.imdecode(data, cv2.IMREAD_COLOR).shape[:2]
        assert height <= HEIGHT
        assert width <= WIDTH
        assert height == HEIGHT or width == WIDTH


def test_a_later_call_that_makes_crops_writes_the_page_again(tmp_path: Path) -> None:
    _, store = run(tmp_path, OutputConfig(), a=Script())
    assert sheet_of(store) == ""
    assert "<h2>People</h2>" not in store.get(REPORT_KEY).decode()
    run(tmp_path, replace(CROPS, blur="heads"))
    assert "<figure" in sheet_of(store)
    assert "Blurred: heads." in store.get(REPORT_KEY).decode()


def test_pictures_that_cannot_be_read_are_left_out(tmp_path: Path, caplog) -> None:
    summary, store = run(tmp_path, CROPS, a=Script(frames=60))
    (video_id,) = [row.video_id for row in summary.videos]
    number = build_report(store, summary).count("<figure title")
    first, *_ = (key for key in store.list(f"crops/{video_id}/") if "/00000001/" in key)
    for key in store.list(first.rpartition("/")[0]):
        store.put(key, b"no picture")
    assert build_report(store, summary).count("<figure title") == number - 1
    assert any("it is no picture" in text for text in caplog.messages)
    store.put(crop_index_key(video_id), b"no Parquet")
    assert "<h2>People</h2>" not in build_report(store, summary)
    assert any("has no pictures in the report" in text for text in caplog.messages)
