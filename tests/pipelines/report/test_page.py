from __future__ import annotations

import base64
import json
import logging
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import cv2
import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import Script

from jde_ray.pipelines.errors import ExitCode, Reason, VideoError
from jde_ray.pipelines.output.layout import REPORT_KEY
from jde_ray.pipelines.output.summary import Summary, summarize
from jde_ray.pipelines.output.work import Work
from jde_ray.pipelines.report.page import build_report, write_report
from jde_ray.pipelines.report.plots import (
    MAX_GROUPS,
    MAX_PATHS,
    draw_people,
    format_seconds,
    read_tracked_video,
)
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Counts, Video, VideoOutcome
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.video.drawing import track_colour
from jde_ray.pipelines.video.encoder import write_video

VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest; collects attributes, texts and cells of tables."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.lines: list[list[str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.lines.append([])
        if tag in ("td", "th"):
            self.lines[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.lines[-1][-1] += data

    @property
    def text(self) -> str:
        return " ".join("".join(self.texts).split())

    def line(self, start: str) -> list[str]:
        return next(line for line in self.lines if line and line[0].startswith(start))


def run(folder: Path, config=fakes.CONFIG, **scripts: Script) -> tuple[Summary, ObjectStore]:
    fakes.archive(folder / "in", **scripts)
    out = str(folder / "out")
    summary = reference.track([str(folder / "in")], out, config, components=fakes.COMPONENTS)
    return summary, open_store(out)


def page_of(store: ObjectStore) -> Page:
    return Page(store.get(REPORT_KEY).decode())


def test_every_run_leaves_a_page_that_adds_up(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script(), b=Script(frames=31), cut=Script(error_at=20))
    page = page_of(store)
    assert "finished, some videos failed (exit code 3)" in page.text
    assert page.line("tracked")[2:] == ["2", "66.7 %"]
    assert page.line("failed: truncated")[2:] == ["1", "33.3 %"]
    assert page.line("in videos with tracks")[2] == "71"
    boxes = page.lines.index(page.line("Boxes of the network"))
    parts = [int(line[2].replace(",", "")) for line in page.lines[boxes:] if len(line) == 4]
    assert parts[0] == summary.detections == sum(parts[1:]) > 0
    assert parts[1] == sum(row.rows for row in summary.videos if row.status == "done")
    assert page.line("tracked, but smaller")[2] == str(summary.dropped["min_box_area"])
    assert "truncated: the script says so (frame 20)" in page.text
    assert json.loads(store.get("run.json"))["config_hash"] in page.text
    assert fakes.CONFIG.detection.weights_sha256 in page.text
    assert json.loads(store.get("run.json"))["versions"]["pyarrow"] in page.text


def test_the_pictures_show_the_committed_rows(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script(frames=50))
    row = summary.videos[0]
    video = read_tracked_video(store, row.video_id, 1)
    table = pq.ParquetFile(next(tmp_path.glob("out/tracks/*"))).read().to_pandas()
    assert video.uri == row.video
    assert (video.width, video.height, video.duration_s) == (*fakes.SOURCE, 2.0)
    assert video.people.tolist() == [(table.frame == i).sum() for i in range(50)]
    spans = table.groupby("track_id").time_s.agg(["count", "min", "max"])
    assert video.rows == {i: tuple(line) for i, line in zip(spans.index, spans.values, strict=True)}
    assert video.median_track_s == (spans["max"] - spans["min"]).median()
    for track_id, path in video.paths.items():
        own = table[table.track_id == track_id]
        feet = [((own.x1 + own.x2) / 2).tolist(), own.y2.tolist()]
        assert path[0] == (feet[0][0], feet[1][0])
        assert path[-1] == (feet[0][-1], feet[1][-1])
        colour = "#{:02x}{:02x}{:02x}".format(*track_colour(track_id))
        assert ("polyline", "stroke", colour) in page_of(store).attributes
    assert f"{len(spans)} paths of {len(spans)} tracks" in page_of(store).text


def test_a_long_video_costs_no_more_than_so_many_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jde_ray.pipelines.output.result_files.ROW_GROUP_ROWS", 8)
    summary, store = run(tmp_path, a=Script(frames=200))
    reads: list[int] = []

    class Counting(pq.ParquetFile):
        def read_row_group(self, group, **columns):
            reads.append(group)
            return super().read_row_group(group, **columns)

    monkeypatch.setattr("jde_ray.pipelines.formats.parquet_file.pq.ParquetFile", Counting)
    row = summary.videos[0]
    page = Page(build_report(store, summary))
    assert row.rows > 8 * 3 * MAX_GROUPS
    assert len(set(reads)) == MAX_GROUPS
    assert f"from {MAX_GROUPS} of {-(-row.rows // 8)} row groups" in page.text
    assert page.line("a.mp4")[2:7] == [str(row.tracks), "8 s", "200", "-", str(row.rows)]


def test_a_stride_is_in_the_length_but_not_in_the_frames(tmp_path: Path) -> None:
    summary, store = run(tmp_path, replace(fakes.CONFIG, vid_stride=3), a=Script(frames=75))
    video = read_tracked_video(store, summary.videos[0].video_id, 3)
    assert (len(video.people), video.duration_s) == (25, 3.0)
    assert video.people.sum() == summary.rows


def test_long_tracks_keep_few_points_and_the_longest_tracks_are_drawn(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script())
    key = f"tracks/{summary.videos[0].video_id}.parquet"
    metadata = pq.ParquetFile(pa.BufferReader(store.get(key))).metadata.metadata
    spans = [(i, 30 + i) for i in range(1, MAX_PATHS + 21)] + [(999, 5000)]
    rows = sorted((frame, one) for one, count in spans for frame in range(count))
    columns = {name: pa.array([1.0] * len(rows), pa.float32()) for name in ("x1", "x2", "y2")}
    columns |= {"frame": pa.array([f for f, _ in rows], pa.int32())}
    columns |= {"track_id": pa.array([i for _, i in rows], pa.int32())}
    columns |= {"time_s": pa.array([f / 25 for f, _ in rows])}
    columns |= {"video": pa.array(["a"] * len(rows)).dictionary_encode()}
    with pq.ParquetWriter(tmp_path / "big", pa.table(columns).schema) as writer:
        writer.write_table(pa.table(columns), row_group_size=999)
        writer.add_key_value_metadata({**metadata, b"num_frames": b"5000"})
    store.put(key, tmp_path / "big")
    video = read_tracked_video(store, summary.videos[0].video_id, 1)
    assert not video.is_sample
    few = read_tracked_video(store, summary.videos[0].video_id, 1, max_groups=5)
    assert (few.share, few.is_sample, few.median_track_s) == ((5, 14), True, None)
    assert few.num_rows == video.num_rows == len(rows)
    # between the parts that were read the curve is a line, in them it is the truth
    assert 0 < few.people.min() <= few.people.max() <= video.people.max()
    assert (few.people == video.people).sum() > 3000
    assert set(few.rows) <= set(video.rows)
    assert len(video.rows) == MAX_PATHS + 21
    assert sorted(video.paths) == [*range(22, MAX_PATHS + 21), 999]
    assert max(len(path) for path in video.paths.values()) <= 41
    assert video.rows[999] == (5000, 0.0, 4999 / 25)
    assert len(draw_people(video)) < 10_000


def test_what_comes_from_outside_is_text(tmp_path: Path) -> None:
    evil = {"<script>alert(1)<&script>": Script(), '"><img src=x onerror=b>': Script(error_at=2)}
    summary, store = run(tmp_path, **evil)
    page = page_of(store)
    assert summary.videos_done == 1
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    assert "<script>alert(1)<&script>.mp4" in page.text  # the name, as text
    summary = replace(
        summary,
        run_id="<i>",
        out="/x/</script><b>$title",
        errors=[{"reason": "<b>"}],
        videos=[replace(row, camera="<b>door & gate") for row in summary.videos],
    )
    hostile = Page(build_report(store, summary))
    assert "</script><b>$title" in hostile.text
    assert "failed: <b>" in hostile.text
    assert "<b>door & gate" in hostile.text


def test_a_video_shows_its_camera_and_start_if_they_are_known(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script(frames=9), b=Script(frames=9, start_us=10**15))
    assert page_of(store).line("a.mp4")[0] == "a.mp4"
    assert page_of(store).line("b.mp4")[0] == "b.mp42001-09-09 01:46:40 UTC"
    rows = [replace(row, camera="gate") for row in summary.videos]
    page = Page(build_report(store, replace(summary, videos=rows)))
    assert page.line("a.mp4")[0] == "a.mp4gate"
    assert page.text.count("gate, 2001-09-09 01:46:40 UTC") == 2  # in the table and at its charts


def test_nothing_is_loaded_and_only_the_pages_own_script_runs(tmp_path: Path) -> None:
    _, store = run(tmp_path, a=Script())
    text = store.get(REPORT_KEY).decode()
    page = Page(text)
    assert not re.search(r"https?://|url\(|@import", text)
    assert not [1 for _, name, _ in page.attributes if name in ("src", "srcset", "xlink:href")]
    links = [value for tag, name, value in page.attributes if name == "href"]
    assert links
    assert all((tmp_path / "out" / str(link)).is_file() for link in links)
    policy = next(
        value for _, name, value in page.attributes if (value or "").startswith("default")
    )
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)
    assert "$" not in text.partition("<main>")[0]


def test_the_page_stays_small_and_says_what_it_leaves_out(tmp_path: Path) -> None:
    scripts = {f"v{i}": Script(frames=12, seed=i) for i in range(6)}
    scripts |= {f"w{i}": Script(error_at=3) for i in range(4)}
    summary, store = run(tmp_path, **scripts)
    page = Page(build_report(store, summary, max_drawn=2, max_listed=5))
    assert "The charts show the first 2 of 10 videos" in page.text
    assert "The table lists 5 of 10 videos" in page.text
    assert page.tags.count("article") == 2
    listed = [line[0] for line in page.lines if re.match(r"[vw]\d.mp4", line[0])]
    assert [name[:2] for name in listed] == ["w0", "w1", "v0", "v1", "v2"]
    assert page.line("v2")[4] == "12"  # known from the run, though not drawn


def test_videos_of_earlier_runs_are_shown(tmp_path: Path) -> None:
    run(tmp_path, a=Script(), cut=Script(error_at=9))
    fakes.archive(tmp_path / "more", b=Script(frames=17))
    out = str(tmp_path / "out")
    reference.track([str(tmp_path / "more")], out, fakes.CONFIG, components=fakes.COMPONENTS)
    page = page_of(open_store(out))
    assert page.line("a.mp4")[1:5:3] == ["done before", "40"]
    assert page.line("b.mp4")[1:5:3] == ["done", "17"]
    assert page.line("cut.mp4")[1] == "failed before"
    assert "(frame 9)" in page.line("cut.mp4")[-1]
    assert page.tags.count("article") == 2
    assert "2 videos with tracks and 1 error record" in page.text
    assert str(tmp_path / "in" / "a.mp4") in page.text


def test_videos_of_one_name_go_by_their_ids(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in" / "monday", door=Script(frames=9), hall=Script(frames=9))
    summary, store = run(tmp_path, door=Script(frames=12))
    names = [line[0] for line in page_of(store).lines if len(line) == 8][1:]
    ids = {row.video_id for row in summary.videos}
    assert "hall.mp4" in names
    assert set(names) - {"hall.mp4"} == {one for one in ids if one.startswith("door")}


def test_a_video_that_was_drawn_shows_its_busiest_frame(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script(frames=50))
    key = f"videos/{summary.videos[0].video_id}.mp4"
    busiest = int(read_tracked_video(store, summary.videos[0].video_id, 1).people.argmax())
    (tmp_path / "drawn").mkdir()
    shades = [40 if index < busiest else 200 for index in range(50)]
    frames = ((i / 25, np.full((64, 96, 3), shade, np.uint8)) for i, shade in enumerate(shades))
    write_video(frames, tmp_path / "drawn" / "a.mp4", 25.0)
    store.put(key, tmp_path / "drawn" / "a.mp4")
    page = Page(build_report(store, summary))
    (source,) = [value for tag, name, value in page.attributes if (tag, name) == ("img", "src")]
    assert source is not None
    kind, _, content = source.partition(";base64,")
    assert kind == "data:image/jpeg"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(content), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (240, 360, 3)
    assert abs(float(picture.mean()) - 200) < 12
    assert ("a", "href", key) in page.attributes
    store.put(key, b"no video")
    assert "img" not in Page(build_report(store, summary)).tags


def test_a_call_with_nothing_to_do_reads_no_tracks_and_leaves_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(fakes.CONFIG, min_box_area=1e6)
    run(tmp_path, config, a=Script(), cut=Script(error_at=9))
    page = (tmp_path / "out" / REPORT_KEY).read_bytes()
    assert "0 paths of 0 tracks" in page_of(open_store(str(tmp_path / "out"))).text
    monkeypatch.setattr("jde_ray.pipelines.report.plots.read_tracked_video", None)
    summary, _ = run(tmp_path, config)
    assert summary.has_report
    assert (tmp_path / "out" / REPORT_KEY).read_bytes() == page


def test_the_headline_is_of_the_folder_and_the_call_has_its_times(tmp_path: Path) -> None:
    first, _ = run(tmp_path, a=Script(), cut=Script(error_at=9))
    second, store = run(tmp_path, b=Script(frames=31))
    page = page_of(store)
    tracks = first.folder.tracks + second.tracks
    expected = f"2 videos with tracks 1 videos failed {tracks} people (tracks)"
    assert expected.replace(" ", "") in page.text.replace(" ", "")
    assert f"{71} frames".replace(" ", "") in page.text.replace(" ", "")
    assert page.line("failed before")[2] == "1"
    assert "done; failed before: 1 (exit code 0)" in page.text
    assert re.search(
        rf"run {second.run_id}, from \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00 to "
        r"\d{4}-[\dT:+-]+: 1 video done, 0 failed, 1 done before, 1 failed before; 31 frames in",
        page.text,
    )
    assert first.run_id != second.run_id
    assert json.loads(store.get("summary.json"))["run_id"] == second.run_id


def test_only_failed_videos(tmp_path: Path) -> None:
    _, store = run(tmp_path, a=Script(error_at=0))
    page = page_of(store)
    assert "No video has tracks." in page.text
    assert page.tags.count("article") == 0


def test_losses_that_nobody_knows_are_left_out_and_said(tmp_path: Path) -> None:
    """A video whose association shard died after the commit has rows, but no detections."""
    _, store = run(tmp_path, a=Script())
    outcomes = [
        VideoOutcome(Video("/a", "a"), Counts(9, 2, 50, 40, 4, {"min_box_area": 6}), 0.5),
        VideoOutcome(Video("/b", "b"), Counts(frames=9, rows=7, tracks=1), 0.0),
        VideoOutcome(Video("/c", "c"), Counts(), 0.0, VideoError(Reason.DECODE, "x")),
    ]
    summary = summarize(store.uri, Work([], [], []), outcomes, {"wall": 1.0})
    page = Page(build_report(store, summary))
    assert page.line("Boxes of the network")[2] == "50"
    assert page.line("rows of tracks")[2:] == ["40", "80.0 %"]
    assert page.line("in no confirmed track")[2] == "4"
    assert "For 1 video, committed by a worker that died afterwards" in page.text
    assert "2 frames had missing data" in page.text


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        ({"wall": 10.0, "decode": 8.0, "detect": 2.0}, "Bottleneck: decode, 80.0 % of the working"),
        ({"wall": 99.0, "decode": 8.0, "detect": 2.0}, "Bottleneck: start-up and waiting"),
    ],
)
def test_the_bottleneck_is_named(tmp_path: Path, seconds, verdict) -> None:
    _, store = run(tmp_path, a=Script())
    outcomes = [VideoOutcome(Video("/a", "a"), Counts(frames=9), 0.0)]
    summary = summarize(store.uri, Work([], [], []), outcomes, seconds)
    assert verdict in Page(build_report(store, summary)).text


def test_equal_runs_give_equal_pages_but_for_the_time(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script(), b=Script(error_at=3))
    summary = replace(summary, seconds={"wall": 1.0}, frames_per_second={})
    assert build_report(store, summary) == build_report(store, summary)


def test_a_broken_object_is_named_and_ends_nothing(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script(), b=Script())
    store.put(f"tracks/{summary.videos[0].video_id}.parquet", b"not Parquet")
    page = Page(build_report(store, summary))
    assert page.line("a")[-1].startswith("cannot be shown: ArrowInvalid")
    assert page.tags.count("article") == 1


def test_a_page_that_cannot_be_written_is_one_line_and_no_failed_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: object) -> str:
        raise RuntimeError("two\nlines")

    monkeypatch.setattr("jde_ray.pipelines.report.page.build_report", broken)
    with caplog.at_level(logging.WARNING):
        summary, store = run(tmp_path, a=Script())
    assert summary.exit_code == ExitCode.DONE
    assert not summary.has_report
    assert "has_report" not in store.get("summary.json").decode()
    assert caplog.messages == ["report.html was not written: RuntimeError: two lines"]
    assert not store.exists(REPORT_KEY)
    assert store.exists("summary.json")
    assert not write_report(store, summary)


def test_a_name_that_is_no_unicode_is_written(tmp_path: Path) -> None:
    summary, store = run(tmp_path, a=Script())
    assert write_report(store, replace(summary, out="/\udcff"))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0 s"), (9.25, "9.2 s"), (59.97, "60 s"), (75, "1:15"), (7384, "2:03:04")],
)
def test_seconds(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
