from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import fakes
import pyarrow.parquet as pq
import pytest
from fakes import Script
from made_videos import write_video

from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.video.chunks import decode_segment


def test_every_decoded_frame_is_counted(tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=33), b=Script(frames=1))
    summary = reference.track(
        [str(source)], str(tmp_path / "out"), fakes.CONFIG, components=fakes.COMPONENTS
    )
    assert summary.exit_code == ExitCode.DONE
    assert [row.frames for row in summary.videos] == [33, 1]
    assert summary.rows == sum(row.rows for row in summary.videos) > 0
    assert (tmp_path / "out/summary.json").exists()


def test_stride_and_limit_keep_the_sources_frame_numbers(tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=40))
    config = replace(fakes.CONFIG, vid_stride=3, max_frames=6)
    reference.track([str(source)], str(tmp_path / "out"), config, components=fakes.COMPONENTS)
    table = pq.ParquetFile(next(tmp_path.glob("out/tracks/*"))).read()
    assert set(table["frame"].to_pylist()) <= {0, 3, 6, 9, 12, 15}


def test_the_chunk_size_changes_nothing(tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=50))
    found = []
    for size in (1, 7, 64):
        out = tmp_path / str(size)
        resources = ResourceConfig(chunk_frames=size)
        reference.track(
            [str(source)], str(out), fakes.CONFIG, components=fakes.COMPONENTS, resources=resources
        )
        found.append(next(out.glob("tracks/*")).read_bytes())
    assert found[0] == found[1] == found[2]


def keep(tmp_path: Path, **settings: object) -> tuple[Summary, Path]:
    """A run with `--keep-partial` over the video `a`."""
    out = tmp_path / "out"
    summary = reference.track(
        [str(tmp_path / "in")],
        str(out),
        fakes.CONFIG,
        components=replace(fakes.COMPONENTS, read_frames=fakes.read_frames),
        outputs=OutputConfig(keep_partial=True, save_video=True),
        resources=ResourceConfig(chunk_frames=8),
        **settings,
    )
    return summary, next(out.glob("tracks/*"))


def test_the_frames_before_damage_are_kept_and_marked_everywhere(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=40, error_at=21))
    summary, path = keep(tmp_path)
    text = "truncated: the script says so (frame 21)"
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"partial"].decode() == text
    assert metadata[b"num_frames"] == b"21"  # not only whole chunks
    assert max(pq.ParquetFile(path).read()["frame"].to_pylist()) == 20
    assert (summary.videos_done, summary.videos_partial, summary.videos_failed) == (1, 1, 0)
    assert (summary.exit_code, summary.errors) == (ExitCode.SOME_FAILED, [])
    (row,) = json.loads((tmp_path / "out/summary.json").read_text())["videos"]
    assert (row["status"], row["partial"], row["frames"]) == ("done", text, 21)
    with av.open(str(next(tmp_path.glob("out/videos/*")))) as drawn:
        assert sum(1 for _ in drawn.decode(video=0)) == 21
    page = (tmp_path / "out/report.html").read_text()
    assert "finished, some videos are partial (exit code 3)" in page
    assert text in page


def test_partial_tracks_stay_until_the_file_changes(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=40, error_at=21))
    _, path = keep(tmp_path)
    before = path.read_bytes()
    again, _ = keep(tmp_path)
    assert (again.videos_done, again.videos_skipped, again.exit_code) == (0, 1, ExitCode.DONE)
    assert again.videos[0].partial.startswith("truncated")
    (tmp_path / "out/summary.json").unlink()  # as after a kill: the footer says it
    without = reference.track(
        [str(tmp_path / "in")], str(tmp_path / "out"), fakes.CONFIG, components=fakes.COMPONENTS
    )
    assert (without.videos_skipped, without.exit_code) == (1, ExitCode.DONE)
    assert without.videos[0].partial.startswith("truncated")
    assert path.read_bytes() == before
    Script(frames=40).write(tmp_path / "in", "a")  # the whole file has arrived
    whole, _ = keep(tmp_path)
    assert (whole.videos_done, whole.videos_partial, whole.exit_code) == (1, 0, ExitCode.DONE)
    metadata = pq.read_metadata(path).metadata
    assert metadata[b"num_frames"] == b"40"
    assert b"partial" not in metadata
    with av.open(str(next(tmp_path.glob("out/videos/*")))) as drawn:
        assert sum(1 for _ in drawn.decode(video=0)) == 40


def test_damage_before_the_first_frame_is_a_failure_and_a_limit_before_it_is_none(
    tmp_path: Path,
) -> None:
    fakes.archive(tmp_path / "in", a=Script(error_at=0), b=Script(error_at=17))
    outputs = OutputConfig(keep_partial=True)
    for number, config in enumerate((fakes.CONFIG, replace(fakes.CONFIG, max_frames=9))):
        summary = reference.track(
            [str(tmp_path / "in")],
            str(tmp_path / str(number)),
            config,
            components=fakes.COMPONENTS,
            outputs=outputs,
            resources=ResourceConfig(chunk_frames=8),
        )
        failed, kept = summary.videos
        assert (failed.status, kept.status) == ("failed", "done")
        assert (failed.partial, kept.frames) == ("", 17 - 8 * number)
        assert summary.videos_partial == 1 - number


def test_a_file_replaced_after_the_listing_is_not_called_changed_later(tmp_path: Path) -> None:
    """Its tracks had the version that was listed, and the next call asked for `--overwrite`."""
    path = write_video(tmp_path / "a.mp4", 3)
    found = find_videos(str(path))
    write_video(path, 5)
    components = replace(fakes.COMPONENTS, decode=decode_segment)
    out = str(tmp_path / "out")
    first = reference.track(found, out, fakes.CONFIG, components=components)
    assert first.frames == 5
    second = reference.track(find_videos(str(path)), out, fakes.CONFIG, components=components)
    assert (second.videos_skipped, second.changed) == (1, [])


def test_no_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError) as refused:
        reference.track(
            [str(tmp_path)], str(tmp_path / "out"), fakes.CONFIG, components=fakes.COMPONENTS
        )
    assert refused.value.exit_code == ExitCode.REFUSED


@pytest.mark.ray
def test_the_real_decoder_and_network_agree_with_the_dataflow(
    ray_cluster: str, tmp_path: Path
) -> None:
    """Also with annotated videos; the network's weights are random, so its boxes are too."""
    torch = pytest.importorskip("torch")
    from jde_ray.models.jde.config import SMALL
    from jde_ray.models.jde.network import JDE
    from jde_ray.models.jde.weights import save

    torch.manual_seed(3)
    save(JDE(SMALL), tmp_path / "random.safetensors")
    (tmp_path / "in").mkdir()
    for number in range(2):
        write_video(tmp_path / "in" / f"v{number}.mp4", 20 + 7 * number)
    (tmp_path / "in" / "text.mp4").write_text("not a video")
    detection = DetectionConfig(
        weights=str(tmp_path / "random.safetensors"),
        size=(96, 64),
        score_threshold=0.0,
        max_detections=20,
    )
    config = TrackConfig(detection=detection, min_box_area=0)
    outputs = OutputConfig(save_video=True, save_crops=True, blur="heads", save_detections=True)
    resources = ResourceConfig(chunk_frames=8, num_detectors=2, num_associators=2)
    for track, name in ((reference.track, "plain"), (offline.track, "out")):
        summary = track(
            [str(tmp_path / "in")],
            str(tmp_path / name),
            config,
            resources=resources,
            outputs=outputs,
        )
        assert summary.exit_code == ExitCode.SOME_FAILED
        assert (summary.videos_done, summary.frames) == (2, 47)
        assert summary.detections == 47 * 20
        assert summary.dropped["max_detections"] > 0
    for folder, count in (("tracks", 2), ("detections", 2), ("errors", 1), ("videos", 2)):
        plain = {path.name: path.read_bytes() for path in (tmp_path / "plain" / folder).iterdir()}
        assert len(plain) == count
        found = {path.name: path.read_bytes() for path in (tmp_path / "out" / folder).iterdir()}
        assert found == plain
    plain, found = (
        {path.relative_to(out): path.read_bytes() for path in out.rglob("crops/**/*.*")}
        for out in (tmp_path / "plain", tmp_path / "out")
    )
    assert sum(path.suffix == ".parquet" for path in plain) == 2
    assert found == plain
