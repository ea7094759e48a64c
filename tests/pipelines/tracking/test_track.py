"""The one call for users, without a run behind it."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import fakes
import pytest
from fakes import Script
from places import ROOT

from jde_ray.pipelines.config import SourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.tracking import track as module
from jde_ray.pipelines.tracking.track import track


class Found(NamedTuple):
    sources: Any
    videos: tuple[Video, ...]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What the run was asked for."""
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "find_videos", lambda sources, naming: Found(sources, ()))
    monkeypatch.setattr(offline, "track", lambda *wanted, **options: calls.append(wanted))
    return calls


def test_text_paths_and_lists_are_taken(asked: list[tuple[Any, ...]], tmp_path: Path) -> None:
    for sources in ("x.mp4", Path("x.mp4"), ["x.mp4", Path("y.mp4")]):
        track(sources, tmp_path)
        assert asked[-1][:2] == (Found(sources, ()), str(tmp_path))
    track("x.mp4", "s3://bucket/runs")
    assert asked[-1][1] == "s3://bucket/runs"
    track("x.mp4", "out", weights=ROOT / "models/jde/pretrained/open.safetensors")
    assert asked[-1][2].detection.weights.endswith("/open.safetensors")


def test_settings_are_those_of_the_command(asked: list[tuple[Any, ...]]) -> None:
    track("x.mp4", "out", size=(864, 480), association="bytetrack", conf=0.5, max_frames=7)
    config = asked[0][2]
    assert config.detection.size == (864, 480)
    assert (config.tracking.association, config.tracking.high_score) == ("bytetrack", 0.5)
    assert config.max_frames == 7
    assert config.detection.weights_sha256


def test_small_work_needs_no_ray(
    asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    here: list[tuple[Any, ...]] = []
    monkeypatch.setattr(module, "is_small_run", lambda *arguments, **again: True)
    monkeypatch.setattr(reference, "track", lambda *wanted, **options: here.append(wanted))
    track("x.mp4", "out")
    assert here[0][:2] == (Found("x.mp4", ()), "out")
    assert not asked


def test_cameras_and_times_are_those_of_the_command(
    asked: list[tuple[Any, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_videos", find_videos)
    monkeypatch.setattr(module, "is_small_run", lambda *arguments, **again: False)
    folder = fakes.archive(tmp_path / "door", **{"20240501T093000": Script()})
    pattern = "{camera}/{start:%Y%m%dT%H%M%S}"
    track(folder, tmp_path / "out", source_pattern=pattern, timezone="+02:00")
    (video,) = asked[0][0].videos
    assert (video.camera, video.start) == ("door", datetime(2024, 5, 1, 7, 30, tzinfo=UTC))
    (named,) = find_videos(folder, SourceConfig(source_pattern=pattern, timezone="+02:00")).videos
    assert (named.camera, named.start) == (video.camera, video.start)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "none.safetensors"}, "none.safetensors"),
        ({"association": "best"}, "association: got 'best', expected"),
        ({"conf": 2.0}, "high_score|conf: got 2"),
        ({"size": "big"}, "size: got 'big', expected"),
        ({"blur": "faces"}, "blur: got 'faces', expected"),
        ({"device": "tpu"}, "device: got 'tpu', expected"),
        ({"source_pattern": "{cam}"}, "source-pattern: got the field {cam}"),
        ({"timezone": "Mars"}, "timezone: got 'Mars', expected"),
    ],
)
def test_wrong_settings_are_one_error(
    asked: list[tuple[Any, ...]], settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(RunError, match=message) as refused:
        track("x.mp4", "out", **settings)
    assert refused.value.exit_code == ExitCode.REFUSED
    assert not asked
