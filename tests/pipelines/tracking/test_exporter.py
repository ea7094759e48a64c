"""What is handed to Ray, and (slow) what a real run's Ray gives to Prometheus."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fakes
import pytest
from conftest import ROOT, WORKER_PATH
from fakes import Script
from prometheus_client.parser import text_string_to_metric_families

from jde_ray.pipelines.config import VERSION
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome
from jde_ray.pipelines.tracking import exporter
from jde_ray.pipelines.tracking.exporter import Exporter
from jde_ray.pipelines.tracking.metrics import COUNTERS, GAUGES, exported
from jde_ray.pipelines.tracking.stall_verdict import Stage
from jde_ray.pipelines.tracking.tally import Tally

VIDEOS = [Video(f"/archive/{name}.mp4", name) for name in "abc"]

PROMISED = [(VIDEOS[0].video_id, 100)]


class Recorded:
    """A counter or gauge: its values by the label that is its own."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.values: defaultdict[str, float] = defaultdict(float)

    def inc(self, value: float, tags: dict[str, str]) -> None:
        assert value > 0  # Ray refuses others
        self.values[self._own(tags)] += value

    def set(self, value: float, tags: dict[str, str]) -> None:
        self.values[self._own(tags)] = value

    def _own(self, tags: dict[str, str]) -> str:
        assert tags.keys() == {"out", "run", *filter(None, [self.label])}
        assert (tags["out"], tags["run"]) == ("/runs/a", "17")
        return tags.get(self.label, "")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> dict[str, Recorded]:
    made: dict[str, Recorded] = {}

    def make(kind: str, name: str, label: str, text: str) -> Recorded:
        assert text
        assert kind == ("Counter" if name in COUNTERS else "Gauge")
        return made.setdefault(name, Recorded(label))

    monkeypatch.setattr(exporter, "_make", make)
    return made


@pytest.fixture
def tally() -> Tally:
    tally = Tally(fakes.CONFIG, 0, None)
    tally.expect(VIDEOS)
    return tally


def receipt(frames: int, node: str) -> dict[str, Any]:
    values = {"num_frames": frames, "num_detections": 2 * frames, "node": node}
    return values | {"decode_s": 0.5, "detect_s": 2.0, "arrived": [], "promised": PROMISED}


def outcome(video: Video) -> VideoOutcome:
    return VideoOutcome(video, Counts(frames=8, tracks=2, rows=16), 0.25)


def test_every_metric_is_made_with_its_help(made: dict[str, Recorded], tally: Tally) -> None:
    Exporter("/runs/a", "17", tally)
    assert made.keys() == COUNTERS.keys() | GAUGES.keys()


def test_sums_grow_and_states_come_and_go(made: dict[str, Recorded], tally: Tally) -> None:
    own = Exporter("/runs/a", "17", tally)
    tally.add(receipt(8, "one"))
    own.export([Stage("decoding", 1, 5), Stage("detection", 4, 3, (2, 1))], 0.5)
    tally.add(receipt(8, "one"))
    tally.add(receipt(4, "two"))
    own.export([Stage("detection", 2, 0, (3, 0))], 7.0)
    own.export([Stage("detection", 2, 0, (3, 0))], 8.0)
    assert made["jde_frames"].values == {"one": 16, "two": 4}
    assert made["jde_detections"].values == {"": 40}
    assert made["jde_stage_seconds"].values == {"decode": 1.5, "detect": 6.0}
    assert made["jde_queue_rows"].values == {"decode": 0, "detect": 0}
    assert made["jde_tasks"].values == {"decode": 0, "detect": 2}
    assert (made["jde_detectors"].values[""], made["jde_detectors_wanted"].values[""]) == (3, 3)
    assert made["jde_silent_seconds"].values == {"": 8}
    assert made["jde_videos_planned"].values == {"": 3}
    assert made["jde_frames_left"].values[""] > 0
    assert made["jde_run_info"].values == {VERSION: 1}
    own.close()
    assert not any(any(made[name].values.values()) for name in GAUGES)


def test_videos_are_counted_once_however_they_become_known(
    made: dict[str, Recorded], tally: Tally, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By their shard while an attempt runs, by the run after it, and by the next attempt."""
    own = Exporter("/runs/a", "17", tally)
    monkeypatch.setattr(exporter, "_EVERY_S", 1e-3)
    asked = exporter.threading.Event()
    shards = [["a"], ["b"]]

    def ask(calls: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        asked.set()
        return calls, []

    def answer(call: list[str]) -> Any:
        videos = [video for video in VIDEOS if video.name in call]
        sums = exporter.of_outcomes(outcome(video) for video in videos)
        return SimpleNamespace(sums=sums, open_videos=1)

    monkeypatch.setattr(exporter.ray, "wait", ask)
    monkeypatch.setattr(exporter.ray, "get", answer)
    actors = [SimpleNamespace(stats=SimpleNamespace(remote=lambda own=one: own)) for one in shards]
    watch = SimpleNamespace(stages=list, silent_s=0.0)
    outcomes = {video.video_id: outcome(video) for video in VIDEOS[:2]}
    with own.exporting(actors, watch, outcomes):
        assert asked.wait(10)
    assert made["jde_videos"].values == {"done": 2}
    assert made["jde_tracks"].values == {"": 4}
    with own.exporting([], watch, outcomes):  # the next attempt
        pass
    assert made["jde_videos"].values == {"done": 2}
    outcomes["c"] = outcome(VIDEOS[2])  # found committed, though its shard was lost
    own.settle(outcomes.values())
    assert made["jde_videos"].values == {"done": 3}
    assert made["jde_attempts"].values == {"": 2}


@pytest.mark.ray
@pytest.mark.slow
def test_every_metric_is_on_the_page_of_the_runs_ray(tmp_path: Path) -> None:
    """The last video waits until all is seen: a page that lacks something ends by its minute."""
    go_on = tmp_path / "go-on"
    scripts = {f"v{i}": Script(frames=40, seed=i) for i in range(3)}
    scripts["cut"] = Script(error_at=20)
    scripts["zz"] = Script(frames=40, pause_at=8, pause_for=str(go_on))
    source = fakes.archive(tmp_path / "in", **scripts)
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = probe.getsockname()[1]
    run = subprocess.Popen(
        [sys.executable, ROOT / "tests/run_track.py", source, tmp_path / "out", "local", str(port)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": WORKER_PATH, "RAY_AUTH_MODE": "disabled"},
    )
    wanted = {exported(name) for name in (*COUNTERS, *GAUGES)}
    wanted -= {"ray_jde_damaged_frames_total", "ray_jde_frames_left"}  # of real videos only
    try:
        seen: set[str] = set()
        while run.poll() is None and not wanted <= seen:
            seen |= names(port)
        go_on.touch()
        assert run.wait(60) == 3
    finally:
        run.kill()
    assert {name for name in seen if name.startswith("ray_jde_")} == wanted


def names(port: int) -> set[str]:
    """Samples on the page; none before there is one."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
    except OSError:
        return set()
    return {sample.name for one in text_string_to_metric_families(text) for sample in one.samples}
