"""Which camera, and when: by the pattern, else by the list, else by nobody; never by a guess."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import Script

from jde_ray.pipelines.config import SourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.sources.discovery import find_videos

BERLIN = SourceConfig(source_pattern="{camera}/{start:%Y%m%dT%H%M%S}", timezone="Europe/Berlin")
LISTED = SourceConfig(timezone="Europe/Berlin")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("door/20240501T093000", "gate/20240101T093000", "gate/clip"):
        Script(frames=2).write(tmp_path / Path(name).parent, Path(name).name)
    return tmp_path


def found(
    sources: str | list[str], config: SourceConfig
) -> dict[str, tuple[str | None, str | None]]:
    videos = find_videos(sources, config).videos
    return {
        f"{Path(video.uri).parent.name}/{video.name}": (
            video.camera,
            None if video.start is None else f"{video.start:%m-%dT%H:%M}",
        )
        for video in videos
    }


def refused(sources: str | list[str], config: SourceConfig = LISTED) -> str:
    with pytest.raises(RunError) as caught:
        find_videos(sources, config)
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write(name: str, *lines: str) -> str:
    Path(name).write_text("\n".join(lines))
    return name


def test_addresses_tell_and_ids_do_not_change(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    plain = find_videos(str(folder)).videos
    assert [(video.camera, video.start) for video in plain] == [(None, None)] * 3
    with caplog.at_level(logging.WARNING):
        named = find_videos(str(folder), BERLIN).videos
    assert [video.video_id for video in named] == [video.video_id for video in plain]
    assert named == plain  # they are the same videos
    assert [(video.camera, video.start) for video in named] == [
        ("door", datetime(2024, 5, 1, 7, 30, tzinfo=UTC)),
        ("gate", datetime(2024, 1, 1, 8, 30, tzinfo=UTC)),
        (None, None),
    ]
    (line,) = caplog.messages
    assert line.startswith("source-pattern: 1 of 3 videos do not fit")
    assert f"{folder}/gate/clip.mp4: 'gate/clip' does not fit" in line


def test_a_pattern_that_fits_nothing_is_refused_before_any_work(folder: Path) -> None:
    wrong = SourceConfig(source_pattern="{camera}_{start:%Y-%m-%d}")
    said = refused(str(folder), wrong)
    assert said.startswith(
        f"source-pattern: fits none of 3 videos; {folder}/door/20240501T093000.mp4"
    )
    assert "does not fit '{camera}_{start:%Y-%m-%d}' as 'CAMERA_2024-05-01' does" in said


@pytest.mark.parametrize(
    "wrong", [{"source_pattern": "{cam}/*"}, {"timezone": "Europa/Berlin"}, {"source_pattern": ""}]
)
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"^(source-pattern|timezone): got"):
        SourceConfig(**wrong)


def test_columns_of_a_list_tell_what_the_pattern_does_not(folder: Path) -> None:
    write(
        "list.csv",
        "source,camera,start",
        "door/20240501T093000.mp4,north,2024-07-01 12:00",
        "gate/20240101T093000.mp4,,2024-07-01T12:00:00Z",
        "gate/clip.mp4,  G\u00fcnters Tor ,",
    )
    listed = {
        "door/20240501T093000": ("north", "07-01T10:00"),
        "gate/20240101T093000": (None, "07-01T12:00"),
        "gate/clip": ("G\u00fcnters Tor", None),
    }
    assert found("list.csv", LISTED) == listed
    both = found("list.csv", BERLIN)
    assert both == listed | {
        "door/20240501T093000": ("door", "05-01T07:30"),
        "gate/20240101T093000": ("gate", "01-01T08:30"),
    }
    # a video named twice has what either source says
    assert found([str(folder), "list.csv"], LISTED) == listed
    assert found(["list.csv", str(folder)], LISTED) == listed


def test_a_camera_of_a_folder_or_list_is_that_of_all_its_videos(folder: Path) -> None:
    write("inner.csv", "source,camera", "clip.mp4,inner", "20240101T093000.mp4,")
    Path("inner.csv").rename("gate/inner.csv")
    write("list.csv", "source,camera", "door,d", "gate/inner.csv,outer")
    assert found("list.csv", LISTED) == {
        "door/20240501T093000": ("d", None),
        "gate/20240101T093000": ("outer", None),
        "gate/clip": ("inner", None),
    }


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["gate/clip.mp4,a,1st of May"], "list.csv, line 2: start: got '1st of May', expected ISO"),
        (["gate/clip.mp4,a,2024-13-01"], "line 2: start: got '2024-13-01'"),
        (["gate/clip.mp4,a,0001-01-01"], "line 2: start: got '0001-01-01'"),
        (["gate,a,2024-05-01"], "line 2: start: got one for 2 videos, expected a source of one"),
        (["gate/clip.mp4,a,", "gate/clip.mp4,b,"], "camera: got 'a' and 'b' for"),
        (["gate/clip.mp4,,2024-05-01", "gate/clip.mp4,,2024-05-02"], "start: got '2024-"),
    ],
)
def test_what_a_list_says_wrongly_is_refused(folder: Path, lines: list[str], said: str) -> None:
    assert said in refused(write("list.csv", "source,camera,start", *lines))


def test_a_line_of_a_list_in_a_list_is_not_quoted(folder: Path) -> None:
    write("inner.csv", "source,start", "gate/clip.mp4,secret")
    said = refused(write("list.txt", "gate/clip.mp4") and f"@{write('list.txt', 'inner.csv')}")
    assert said.startswith("list.txt, line 1: inner.csv, line 2: start: got a text, expected ISO")


def test_two_videos_of_one_camera_and_time_are_two_videos(folder: Path) -> None:
    write(
        "list.csv",
        "source,camera,start",
        *(f"{name},a,2024-05-01" for name in ("door/20240501T093000.mp4", "gate/clip.mp4")),
    )
    assert set(found("list.csv", LISTED).values()) == {("a", "04-30T22:00")}
