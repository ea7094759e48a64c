from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import av
import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import Script
from made_videos import write_flash

from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.formats.tracks import TrackRows
from jde_ray.pipelines.output.layout import crop_index_key, tracks_key, video_key
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import later_outputs, reference
from jde_ray.pipelines.tracking.crops import encode_picture
from jde_ray.pipelines.tracking.later_outputs import (
    missing,
    render,
    render_all,
    render_here,
    without_detections,
    without_embeddings,
)
from jde_ray.pipelines.video import blurring, chunks
from jde_ray.pipelines.video.blurring import coverage_of
from jde_ray.pipelines.video.frame import Image

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


@pytest.mark.parametrize("blur", ["people", "heads"])
def test_drawn_videos_and_crops_hide_what_is_asked_for(
    tmp_path: Path, blur: Literal["people", "heads"], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, video = committed(tmp_path, vid_stride=2)
    config, drawn = replace(fakes.CONFIG, vid_stride=2), {}

    def keep(frames: Iterable[tuple[int, float, Image]], *_: object) -> int:
        drawn.update({frame: image for frame, _, image in frames})
        raise RuntimeError("no need to encode them")

    monkeypatch.setattr(later_outputs, "annotate", keep)
    outputs = OutputConfig(save_video=True, save_crops=True, blur=blur)
    with pytest.raises(RuntimeError, match="no need"):
        render(out, video, config, outputs, fakes.read_frames)
    rows = TrackRows.from_table(pq.read_table(Path(out) / tracks_key(video.video_id)))
    coverage = coverage_of(rows.to_trajectories(), blur, stride=2)
    plain = {frame: image for frame, _, image in fakes.read_frames(video) if frame % 2 == 0}
    assert list(drawn) == list(plain)
    for frame, image in plain.items():
        assert (drawn[frame] == blurring.blur(image, coverage.in_frame(frame), blur)).all()
    assert any((drawn[frame] != image).any() for frame, image in plain.items())
    table = pq.read_table(Path(out) / crop_index_key(video.video_id))
    assert table.num_rows
    for row in table.to_pylist():
        x1, y1, x2, y2 = (row[f"crop_{name}"] for name in ("x1", "y1", "x2", "y2"))
        hidden = np.ascontiguousarray(drawn[row["frame"]][y1:y2, x1:x2])
        assert (Path(out) / row["file"]).read_bytes() == encode_picture(hidden)


def test_pictures_of_another_blur_are_refused_before_any_work(tmp_path: Path) -> None:
    source = str(fakes.archive(tmp_path / "in", a=Script(frames=9)))
    components = replace(fakes.COMPONENTS, read_frames=fakes.read_frames)
    out, call = str(tmp_path / "out"), (fakes.CONFIG,)
    reference.track([source], out, *call, components=components, outputs=DRAWN)
    before = {path: path.read_bytes() for path in Path(out).rglob("*") if path.is_file()}
    hidden = replace(DRAWN, blur="people", save_crops=True)
    with pytest.raises(RunError, match=r"blur: got people, but the pictures in .* have none"):
        reference.track([source], out, *call, components=components, outputs=hidden)
    assert {path: path.read_bytes() for path in Path(out).rglob("*") if path.is_file()} == before


@pytest.mark.ray
def test_a_video_that_cannot_be_drawn_is_told_and_the_others_are_drawn(
    ray_cluster: str, tmp_path: Path
) -> None:
    out, video = committed(tmp_path)
    store = open_store(out)
    gone = Video("/archive/gone.mp4", "gone")
    store.put(f"tracks/{gone.video_id}.parquet", store.get(f"tracks/{video.video_id}.parquet"))
    made = render_all(store, [gone, video], fakes.CONFIG, DRAWN, fakes.read_frames, 1.0)
    assert made.drawn == 1
    ((uri, error),) = made.failed
    assert (uri, error.reason) == (gone.uri, Reason.NOT_FOUND)
    assert store.exists(video_key(video.video_id))


def damaged(at: int, *, is_refused: bool) -> later_outputs.FrameReader:
    """A reader of videos with damage at a frame, which refuses them at once or there."""

    def read(video: Video, *, keep_partial: bool = False) -> Iterator[tuple[int, float, Image]]:
        if is_refused and not keep_partial:
            raise VideoError(Reason.TRUNCATED, "cut off", at)
        for frame in fakes.read_frames(video):
            if frame[0] == at and keep_partial:
                return
            if frame[0] == at:
                raise VideoError(Reason.TRUNCATED, "cut off", at)
            yield frame

    return read


@pytest.mark.parametrize("is_refused", [False, True])
def test_damage_behind_the_frames_that_were_tracked_does_not_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    settings, drawn = {"vid_stride": 2, "max_frames": 10}, []
    out, video = committed(tmp_path, **settings)

    def keep(frames: Iterable[tuple[int, float, Image]], _: object, path: Path, __: float) -> None:
        drawn.extend(frame for frame, *_ in frames)
        path.write_bytes(b"x")

    monkeypatch.setattr(later_outputs, "annotate", keep)
    config, outputs = replace(fakes.CONFIG, **settings), replace(DRAWN, save_crops=True)
    render(out, video, config, outputs, damaged(19, is_refused=is_refused))
    assert drawn == list(range(0, 20, 2))
    assert Path(out, crop_index_key(video.video_id)).exists()
    with pytest.raises(VideoError, match=r"truncated: cut off \(frame 17\)"):
        render(out, video, config, DRAWN, damaged(17, is_refused=is_refused))


def test_a_video_that_has_become_shorter_is_not_drawn(tmp_path: Path) -> None:
    out, video = committed(tmp_path)
    fakes.archive(tmp_path / "in", a=Script(frames=20))
    with pytest.raises(VideoError, match="got 20 frames, expected the 30 that were tracked"):
        render(out, video, fakes.CONFIG, DRAWN, fakes.read_frames)


def test_a_video_without_its_pictures_is_a_failure_of_the_call_and_not_its_end(
    tmp_path: Path,
) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=9), b=Script(frames=9, seed=2))

    def read(video: Video, *, keep_partial: bool = False) -> Iterator[tuple[int, float, Image]]:
        reader = damaged(4, is_refused=True) if video.name == "a" else fakes.read_frames
        return reader(video, keep_partial=keep_partial)

    components, out = replace(fakes.COMPONENTS, read_frames=read), tmp_path / "out"
    for _ in range(2):  # the next call tries again
        summary = reference.track(
            [str(source)], str(out), fakes.CONFIG, components=components, outputs=DRAWN
        )
        (error,) = summary.picture_errors
        assert error["video"].endswith("a.mp4")
        assert (error["reason"], error["detail"], error["frame"]) == ("truncated", "cut off", 4)
        assert summary.exit_code == ExitCode.SOME_FAILED
        assert summary.errors == []
    assert len(list((out / "videos").iterdir())) == 1
    assert "pictures of some videos are missing" in (out / "report.html").read_text()
    assert "picture_errors" in (out / "summary.json").read_text()


def test_an_out_that_cannot_be_written_blames_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, video = committed(tmp_path)

    def full(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(later_outputs, "annotate", full)
    with pytest.raises(RunError, match=r"cannot write to .*out: no space left"):
        render_here(open_store(out), [video], fakes.CONFIG, DRAWN, fakes.read_frames)


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
