from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import av
import fakes
import pytest
from fakes import Script
from made_videos import write_flash

from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.output.layout import video_key
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.tracking.later_outputs import (
    missing,
    render,
    render_all,
    without_detections,
    without_embeddings,
)
from jde_ray.pipelines.video import chunks

DRAWN = OutputConfig(save_video=True)


def committed(tmp_path: Path, **settings: int) -> tuple[str, Video]:
    source = fakes.archive(tmp_path / "in", a=Script(frames=30))
    config, out = replace(fakes.CONFIG, **settings), str(tmp_path / "out")
    reference.track([str(source)], out, config, components=fakes.COMPONENTS)
    return out, Video(str(source / "a.mp4"), "a")


@pytest.mark.parametrize(("settings", "count"), [({}, 30), ({"vid_stride": 4, "max_frames": 5}, 5)])
def test_a_committed_video_is_drawn_once(
    tmp_path: Path, settings: dict[str, int], count: int
) -> None:
    out, video = committed(tmp_path, **settings)
    store = open_store(out)
    other = Video("/archive/failed.mp4", "failed")
    assert missing(store, [video, other], DRAWN) == [video]
    render(out, video, replace(fakes.CONFIG, **settings), DRAWN, fakes.read_frames)
    assert missing(store, [video, other], DRAWN) == []
    with av.open(str(Path(out) / video_key(video.video_id))) as file:
        assert sum(1 for _ in file.decode(video=0)) == count


def test_a_drawn_video_has_the_sound_of_the_part_that_was_tracked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    real = {"decode": chunks.decode_segment, "read_frames": chunks.read_frames}
    write_flash(tmp_path / "a.mp4", "aac", 0.5)
    write_flash(tmp_path / "b.mkv", "flac", 0.5)
    reference.track(
        [str(tmp_path)],
        str(tmp_path / "out"),
        replace(fakes.CONFIG, vid_stride=2, max_frames=15),
        components=replace(fakes.COMPONENTS, **real),
        outputs=OutputConfig(save_video=True),
    )
    ends = {}
    for path in (tmp_path / "out/videos").iterdir():
        with av.open(str(path)) as file:
            ends[path.name[0]] = [float(s.duration * s.time_base) for s in file.streams]
    assert ends["a"] == pytest.approx([1.2, 1.2], abs=0.05)
    assert len(ends["b"]) == 1
    (said,) = [text for text in caplog.messages if "save-video" in text]
    assert said.endswith("b.mkv: got sound in flac, expected aac, mp3, opus, ac3, eac3")


@pytest.mark.ray
def test_a_video_that_cannot_be_drawn_is_told_and_the_others_are_drawn(
    ray_cluster: str, tmp_path: Path
) -> None:
    out, video = committed(tmp_path)
    store = open_store(out)
    gone = Video("/archive/gone.mp4", "gone")
    store.put(f"tracks/{gone.video_id}.parquet", store.get(f"tracks/{video.video_id}.parquet"))
    with pytest.raises(RunError, match="1 videos could not be written, the first is /archive/gone"):
        render_all(store, [gone, video], fakes.CONFIG, DRAWN, fakes.read_frames, 1.0)
    assert store.exists(video_key(video.video_id))


def test_text_of_a_committed_video_is_the_text_it_would_have_had(tmp_path: Path) -> None:
    source = str(fakes.archive(tmp_path / "in", a=Script(frames=20)))
    texts = []
    for folder, first in (("at-once", True), ("later", False)):
        out = tmp_path / folder
        for save_mot in (first, True):
            reference.track(
                [source],
                str(out),
                fakes.CONFIG,
                components=fakes.COMPONENTS,
                outputs=OutputConfig(save_mot=save_mot),
            )
        (path,) = (out / "mot").iterdir()
        texts.append(path.read_bytes())
    assert texts[0]
    assert texts[0] == texts[1]


def test_what_is_missing_is_looked_for_in_the_files(tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=9), b=Script(frames=9))
    for name, has_all in (("a", True), ("b", False)):
        outputs = OutputConfig(save_detections=has_all, save_embeddings=has_all)
        path = [str(source / f"{name}.mp4")]
        reference.track(
            path, str(tmp_path / "out"), fakes.CONFIG, components=fakes.COMPONENTS, outputs=outputs
        )
    store = open_store(str(tmp_path / "out"))
    ids = [Video(str(source / f"{name}.mp4"), name).video_id for name in "ab"]
    assert without_detections(store, ids) == without_embeddings(store, ids) == ids[1:]
    store.put(f"tracks/{ids[1]}.parquet", b"not Parquet")
    assert without_embeddings(store, ids) == []
