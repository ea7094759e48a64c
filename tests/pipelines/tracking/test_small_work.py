"""Which work runs without Ray."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_videos import write_video

from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection import precision as precisions
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import small_work
from jde_ray.pipelines.tracking.small_work import (
    MOST_VIDEOS,
    frames_left,
    is_small,
    is_small_run,
    most_frames,
)

CONFIG = TrackConfig()


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's Ray is this process's too."""
    monkeypatch.setattr(small_work, "_has_joined_ray", lambda: False)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Video]:
    """A file of 20 frames, and a folder of 10 images."""
    folder = tmp_path_factory.mktemp("in")
    write_video(folder / "a.mp4", 20)
    (folder / "images").mkdir()
    for number in range(10):
        cv2.imwrite(str(folder / "images" / f"{number}.jpg"), np.zeros((32, 32, 3), np.uint8))
    return list(find_videos([str(folder / "a.mp4"), str(folder / "images")]).videos)


def limit(frames: int, **given: object) -> ResourceConfig:
    return ResourceConfig(in_process_frames=frames, **given)  # type: ignore[arg-type]


def test_the_frames_of_all_videos_count(videos: list[Video]) -> None:
    assert is_small(videos, CONFIG, limit(30))
    assert not is_small(videos, CONFIG, limit(29))
    assert not is_small(videos, CONFIG, limit(0))
    assert is_small(videos[:1], CONFIG, limit(20))


def test_stride_limit_and_size_count(videos: list[Video]) -> None:
    assert is_small(videos, replace(CONFIG, vid_stride=3), limit(7 + 4))
    assert not is_small(videos, replace(CONFIG, vid_stride=3), limit(7 + 3))
    assert is_small(videos, replace(CONFIG, max_frames=8), limit(16))
    large = replace(CONFIG, detection=DetectionConfig(size=(1152, 640)))
    assert is_small(videos, large, limit(120))
    assert not is_small(videos, large, limit(119))


@pytest.mark.parametrize(
    ("cores", "precision", "most"),
    [(2, "bf16", 1400), (2, "fp32", 455), (1, "fp32", 455), (4, "bf16", 622), (64, "fp32", 132)],
)
def test_the_fewer_cores_share_the_work_the_later_ray_pays(
    monkeypatch: pytest.MonkeyPatch, cores: int, precision: str, most: int
) -> None:
    monkeypatch.setattr(small_work.os, "sched_getaffinity", lambda _: range(cores))
    monkeypatch.setattr(precisions, "quick_precision", lambda _: precision)
    assert frames_left([], CONFIG, ResourceConfig()) == most
    named = replace(CONFIG, detection=DetectionConfig(precision="fp32"))
    assert frames_left([], named, ResourceConfig()) == most_frames(cores, "fp32")
    own = replace(CONFIG, detection=DetectionConfig(weights="own.safetensors"))
    assert frames_left([], own, ResourceConfig()) == 120
    assert frames_left([], CONFIG, limit(7)) == 7


@pytest.mark.parametrize(
    "given",
    [
        {"address": "auto"},
        {"num_detectors": 2},
        {"num_decoders": 1},
        {"num_associators": 1},
        {"metrics_port": 8081},
    ],
    ids=str,
)
def test_who_names_a_ray_or_its_workers_gets_them(
    videos: list[Video], given: dict[str, object]
) -> None:
    assert not is_small(videos, CONFIG, limit(1000, **given))


def test_what_is_not_known_is_not_small(tmp_path: Path, videos: list[Video]) -> None:
    assert not is_small([videos[0], Video("s3://bucket/a.mp4", "a")], CONFIG, limit(1000))
    assert not is_small([], CONFIG, limit(1000))
    assert not is_small(videos[:1] * (MOST_VIDEOS + 1), CONFIG, limit(1000))


def test_files_that_fail_at_once_cost_nothing(tmp_path: Path, videos: list[Video]) -> None:
    (tmp_path / "text.mp4").write_text("not a video")
    (text,) = find_videos([str(tmp_path / "text.mp4")]).videos
    gone = Video(str(tmp_path / "gone.mp4"), "gone")
    frames = frames_left(videos[:1], CONFIG, limit(1000))
    assert frames_left([videos[0], text, gone], CONFIG, limit(1000)) == frames


def test_what_has_results_needs_no_ray_again(tmp_path: Path, videos: list[Video]) -> None:
    def small(frames: int, outputs: OutputConfig = OutputConfig(), **changed: bool) -> bool:
        again = {"overwrite": False, "retry_errors": False} | changed
        return is_small_run(videos, str(tmp_path), CONFIG, limit(frames), outputs, **again)

    assert not small(20)
    for folder in ("tracks", "errors"):
        (tmp_path / folder).mkdir()
    (tmp_path / "tracks" / f"{videos[0].video_id}.parquet").touch()
    assert small(10)
    assert not small(9)
    (tmp_path / "errors" / f"{videos[1].video_id}.json").touch()
    assert small(1)
    assert not small(0)
    assert not small(9, retry_errors=True)
    assert not small(20, overwrite=True)
    assert not small(20, OutputConfig(save_video=True))


def test_a_ray_that_this_process_has_joined_is_used(
    videos: list[Video], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_work, "_has_joined_ray", lambda: True)
    assert not is_small(videos, CONFIG, limit(1000))


def test_it_imports_nothing_that_it_does_not_use(tmp_path: Path) -> None:
    """Ray, pandas, scipy's optimiser and torch's compiler take longer to import than it runs."""
    code = """
import sys
from pathlib import Path
from jde_ray.jobs.bench import stand_ins
from jde_ray.models.jde.weights import load
from jde_ray.pipelines.tracking import reference

folder = Path(sys.argv[1])
source, out = stand_ins.write_videos(folder / "in", 1, 3), folder / "out"
run = {"config": stand_ins.config(), "components": stand_ins.COMPONENTS}
done = reference.track([str(source)], str(out), **run)
load("small", None)
print(done.rows, *{"ray", "pandas", "scipy.optimize", "torch._dynamo"} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["60"], done.stdout
