"""A small OUT of every row format there was, read by all that reads an OUT.

They were written by the code of their time, from `fakes.Script(frames=24)`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fakes
import numpy as np
import places
import pyarrow.parquet as pq
import pytest
from fakes import Script

from jde_ray.jobs.cli import run
from jde_ray.models.tracking.postprocessing.evidence import LinkSettings
from jde_ray.pipelines.config import OutputConfig, SourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.detections import read_saved
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.output.layout import mot_key, tracks_key, video_key
from jde_ray.pipelines.output.summary import summarize
from jde_ray.pipelines.output.work import Work, read_row
from jde_ray.pipelines.refinement.run import refine
from jde_ray.pipelines.refinement.steps import RefineConfig
from jde_ray.pipelines.report.page import build_report
from jde_ray.pipelines.row_format import ROW_FORMAT
from jde_ray.pipelines.sources.saved_detections import find_saved, from_addresses
from jde_ray.pipelines.sources.saved_tracks import find_tracks
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import from_detections, reference
from jde_ray.pipelines.tracking.later_outputs import render, write_missing

GOLDEN = places.GOLDEN
FORMATS = sorted(GOLDEN.glob("format_*"))
ROWS, FRAMES, TRACKS = 94, 24, 6


def number_of(out: Path) -> int:
    number: int = json.loads((out / "run.json").read_text())["config"]["row_format"]
    return number


@pytest.fixture(params=FORMATS, ids=lambda path: path.name)
def former(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    out = tmp_path / "former"
    shutil.copytree(request.param, out)
    return out


def test_there_is_one_of_every_former_format() -> None:
    recorded = [number_of(path) for path in FORMATS]
    assert recorded == list(range(1, ROW_FORMAT))


def test_tracks_are_scored_and_refined(former: Path, tmp_path: Path) -> None:
    ((name, path),) = find_tracks(former).items()
    rows = read_tracks(path)
    assert (name, len(rows), len(np.unique(rows.track_id))) == ("clip", ROWS, TRACKS)
    (tmp_path / "gt").mkdir()
    shutil.copy(path, tmp_path / "gt" / "clip.parquet")
    for what in ([], ["--detections"]):
        assert run(["eval", str(former), "--gt", str(tmp_path / "gt"), *what]) == 0
    config = RefineConfig(interpolate=20, relink=LinkSettings(), smooth=True)
    (done,) = refine(former, str(tmp_path / "refined"), config)
    assert (done.rows_before, done.tracks_before, done.emptied) == (ROWS, TRACKS, ())
    assert done.rows_after > ROWS
    (refined,) = (tmp_path / "refined" / "tracks").iterdir()
    assert pq.read_schema(refined).names == pq.read_schema(path).names


def test_detections_are_what_a_run_sees(former: Path) -> None:
    (saved,) = find_saved([str(former)])
    config = from_detections.resolve_settings(TrackConfig(), [saved])
    assert config.detection.weights_sha256 == "f" * 64
    info, frames = read_saved(saved, config)
    found = list(frames)
    assert (info.width, info.height, info.frames_per_second) == (*fakes.SOURCE, 25.0)
    assert [one.frame for one in found] == list(range(FRAMES))
    assert found[3].found.embeddings.shape == (len(found[3].found), fakes.DIM)
    has_motion = number_of(former) >= 3
    assert config.camera_motion is saved.has_motion is has_motion
    assert (found[3].camera_motion is not None) is has_motion
    assert (saved.video.camera, saved.video.start) == (None, None)
    (named,) = from_addresses([saved], SourceConfig(source_pattern="{camera}/clip"))
    assert named.video.camera == Path(saved.video.uri).parent.name
    assert named.video.video_id == saved.video.video_id


def test_the_page_and_the_pictures_show_it(former: Path) -> None:
    store = open_store(str(former))
    (path,) = (former / "tracks").iterdir()
    row = read_row(store, path.stem)
    assert (row.rows, row.frames, row.error) == (ROWS, FRAMES, None)
    page = build_report(store, summarize(store.uri, Work([], [], []), [], {"wall": 1.0}))
    assert f"{TRACKS} paths of {TRACKS} tracks" in page
    video = Video(str(former / "clip.mp4"), "clip")
    Script(frames=FRAMES).write(former, "clip")
    path.rename(former / tracks_key(video.video_id))  # by the id of today
    (written,) = (former / "mot").iterdir()
    text = written.read_bytes()
    written.unlink()  # since format 4 it may have the plain name, and would not be missing
    write_missing(store, [video], OutputConfig(save_mot=True))
    assert store.get(mot_key(video.video_id)) == text
    render(str(former), video, fakes.CONFIG, OutputConfig(save_video=True), fakes.read_frames)
    assert store.exists(video_key(video.video_id))


def test_no_run_goes_on_in_it(former: Path) -> None:
    Script(frames=FRAMES).write(former / "in", "clip")
    before = sorted(path for path in former.rglob("*") if path.is_file())
    number = number_of(former)
    with pytest.raises(
        RunError, match=rf"row format {number}, expected {ROW_FORMAT}\); its files"
    ) as refused:
        reference.track(
            [str(former / "in")], str(former), fakes.CONFIG, components=fakes.COMPONENTS
        )
    assert refused.value.exit_code == ExitCode.OTHER_CONFIGURATION
    assert "\n" not in str(refused.value)
    assert sorted(path for path in former.rglob("*") if path.is_file()) == before


def test_metadata_is_where_arrow_readers_look_and_of_today(tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=FRAMES))
    outputs = OutputConfig(save_detections=True)
    out = str(tmp_path / "out")
    reference.track([str(source)], out, fakes.CONFIG, components=fakes.COMPONENTS, outputs=outputs)
    status = (source / "a.mp4").stat()
    for folder in ("tracks", "detections"):
        (path,) = (tmp_path / "out" / folder).iterdir()
        known = pq.read_schema(path).metadata
        assert known == pq.read_table(path).schema.metadata
        assert known[b"video_version"].decode() == f"{status.st_size}-{status.st_mtime_ns}"
        assert (known[b"num_frames"], known[b"num_tracks"]) == (b"24", b"6")
        stored = pq.read_metadata(path).metadata
        assert known == {name: text for name, text in stored.items() if name != b"ARROW:schema"}
        assert path.stat().st_size < 12_000
