"""The table at the end of a run, and the lines around it."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from jde_ray.jobs.console.messages import ConsoleConfig, Messages
from jde_ray.jobs.console.results import MAX_ERRORS, MAX_NAMES, MAX_TABLE_ROWS, show_summary
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.output.work import VideoRow


def summary(**values) -> Summary:
    empty = dict.fromkeys(("frames", "damaged", "detections", "rows", "tracks"), 0)
    counts = {f"videos_{name}": 0 for name in ("done", "failed", "skipped")}
    given = {"out": "o", "dropped": {}, "seconds": {"wall": 2.0}, "frames_per_second": {}}
    return Summary(**given | empty | counts | values)


def shown(capsys, **values) -> tuple[str, str]:
    show_summary(summary(**values))
    return tuple(capsys.readouterr())


def rows(number: int, status: str = "done", **values) -> list[VideoRow]:
    one = {"frames": 100, "tracks": 3, "length_s": 4.0} | values
    return [VideoRow(video_id=f"v{i:03}", video="", status=status, **one) for i in range(number)]


def test_the_crops_of_a_second_look_are_shown_as_a_share(capsys):
    out, _ = shown(capsys, frames=10, detections=60, crops=15)
    assert "second look: 15 crops, 1.5 a frame, 25% of the boxes" in out
    for crops in (0, 60):
        assert "second look" not in shown(capsys, frames=10, detections=60, crops=crops)[0]


def test_a_page_that_could_not_be_written_is_not_named(capsys):
    out, _ = shown(capsys, has_report=False)
    assert "written to o: tracks/VIDEO.parquet" in out
    assert "report" not in out


def test_videos_without_their_pictures_are_told(capsys):
    error = {"video": "/v/a.avi", "reason": "truncated", "detail": "cut off", "frame": 132}
    out, err = shown(capsys, videos_done=2, picture_errors=[error])
    assert err == "jde: no pictures of /v/a.avi: truncated: cut off (frame 132)\n"
    assert "2 done, 0 failed" in out
    assert "no pictures of 1 video with tracks; the next run tries them again" in out
    _, err = shown(capsys, picture_errors=[error] * (MAX_ERRORS + 2))
    assert err.endswith("jde: ... and 2 more without pictures, see summary.json\n")


def words(out: str, first: str) -> list[str]:
    """The words of the line that begins with a word."""
    (line,) = [line for line in out.splitlines() if line.split()[:1] == [first]]
    return line.split()


def test_ten_thousand_videos_of_earlier_calls_are_no_ten_thousand_lines(capsys):
    videos = rows(5000, "skipped")
    videos += [
        VideoRow(video_id=f"w-{i}", video="", status="failed before", error="x") for i in range(99)
    ]
    changed = [f"/v/{i}.mp4" for i in range(900)]
    counts = {"videos_skipped": 5000, "videos_failed_before": 99}
    out, err = shown(capsys, videos=videos, changed=changed, **counts)
    assert len(out.splitlines()) < 12
    assert err == ""
    assert "0 done, 0 failed, 5000 done before, 99 failed before" in out
    assert "900 done before have a changed file" in out.replace("\n", " ")
    assert "/v/4.mp4 and 895 more; --overwrite processes them again" in " ".join(out.split())


def test_cameras_that_are_missing_or_others_than_asked_for_are_told(capsys):
    known, unknown = rows(3, camera="door"), rows(2)
    assert "camera" not in shown(capsys, videos=unknown)[0]  # nobody asked for any
    assert "camera" not in shown(capsys, videos=known)[0]
    out, _ = shown(capsys, videos=unknown, others=known, relabelled=["/v/a.mp4"])
    text = " ".join(out.split())
    assert "2 of 5 videos have no camera: v000, v001; --source-pattern or a list's column" in text
    assert "1 done before keep another camera or start than this call states: /v/a.mp4;" in text


def test_input_sizes_that_were_chosen_are_told_with_their_reasons(capsys):
    assert "input" not in shown(capsys, videos=rows(2))[0]
    far = {"input_size": "960x544", "input_size_why": "people are far"}
    out, _ = shown(capsys, videos=rows(2, **far))
    assert out.count("input 960x544: people are far") == 2
    many = rows(4, **far) + rows(3, input_size="576x320", input_size_why="people are near")
    out, _ = shown(capsys, videos=many)
    assert "inputs of 7 videos: 960x544 of 4, 576x320 of 3; summary.json says why" in out


def test_a_partial_video_is_one_in_the_table_and_has_a_line(capsys):
    damage = "truncated: the file ends too early (frame 100)"
    videos = rows(1, partial=damage, rows=9) + rows(1, "skipped", partial=damage, rows=9)
    out, err = shown(capsys, videos=videos, videos_done=1, videos_partial=1, videos_skipped=1)
    assert (
        err == "jde: : truncated: the file ends too early (frame 100); kept 100 frames before it\n"
    )
    assert [line.split("0:04")[1].strip() for line in out.splitlines()[1:3]] == [
        "partial (truncated)",
        "done before, partial (truncated)",
    ]
    assert "1 done (1 partial), 0 failed, 1 done before" in out


def test_damage_names_the_flag_that_keeps_the_frames_before_it(capsys):
    error = {"video": "v", "reason": "truncated", "detail": "x", "frame": 7}
    assert "--keep-partial" in shown(capsys, videos_failed=1, errors=[error])[0]
    gone = error | {"reason": "not_found"}
    assert "--keep-partial" not in shown(capsys, videos_failed=1, errors=[gone])[0]


def test_videos_done_before_that_are_drawn_now_are_counted(capsys):
    counts = {"videos_skipped": 2, "videos_drawn": 2, "videos_cropped": 1}
    out, _ = shown(capsys, videos=rows(2, "skipped"), **counts)
    said = "2 videos drawn, in o/videos\ncrops of 1 video, in o/crops\n"
    assert f"0 done, 0 failed, 2 done before\n{said}" in out


def test_many_failures_are_so_many_lines_and_a_number(capsys):
    error = {"video": "v", "reason": "decode", "detail": "x", "frame": None}
    videos = [VideoRow(video_id="a", video="a", status="skipped", error="tracks/a: bad")] * 9
    _, err = shown(capsys, videos_failed=1000, errors=[error] * 1000, videos=videos)
    lines = err.splitlines()
    assert len(lines) == MAX_ERRORS + 1 + MAX_NAMES + 1
    assert lines[MAX_ERRORS] == "jde: ... and 950 more failed, see summary.json"
    assert lines[-1] == "jde: ... and 4 more like that"


def test_what_is_left_out_says_what_it_is_and_a_stopped_run_counts_its_frames(capsys):
    dropped = {"min_box_area": 52, "max_detections": 3, "other": 1}
    out, _ = shown(
        capsys, dropped=dropped, frames=7, frames_seen=1602, exit_code=ExitCode.TERMINATED
    )
    assert "52 boxes of tracks, too small (--min-box-area)" in out
    assert "1602 frames in 2.0 s (801.0 frames/s)" in out
    assert "report.html" not in out


def test_a_video_has_its_people_frames_and_length(capsys):
    videos = [*rows(2, length_s=75.4), VideoRow(video_id="w", video="", status="failed", error="x")]
    out, _ = shown(capsys, videos=videos, videos_done=2, videos_failed=1)
    assert out.splitlines()[0].split() == ["video", "people", "frames", "length"]
    assert words(out, "v000") == ["v000", "3", "100", "1:15"]
    assert words(out, "w") == ["w", "failed", "(x)"]
    assert words(out, "all") == ["all", "3", "6", "200", "2:31"]
    assert "written to o: tracks/VIDEO.parquet" in out.splitlines()
    assert "report: o/report.html" in out.splitlines()


def test_one_video_needs_no_sum_and_an_unknown_length_is_not_made_up(capsys):
    out, _ = shown(capsys, videos=rows(1, length_s=0.0))
    assert words(out, "v000") == ["v000", "3", "100", "?"]
    assert "all" not in out


def test_many_videos_are_summed_up(capsys):
    out, _ = shown(capsys, videos=rows(500), videos_done=500)
    lines = out.splitlines()
    rest = 500 - (MAX_TABLE_ROWS - 1)
    assert f"... and {rest} more" in out
    more = next(line for line in lines if line.startswith("... and"))
    assert more.split()[-3:] == [str(3 * rest), str(100 * rest), "32:04"]
    assert words(out, "all") == ["all", "500", "1500", "50000", "33:20"]
    assert len([line for line in lines if line.startswith("v0")]) == MAX_TABLE_ROWS - 1


@pytest.mark.parametrize("number", [1, MAX_TABLE_ROWS, MAX_TABLE_ROWS + 1])
def test_videos_done_before_are_listed_while_they_are_few(number, capsys):
    out, _ = shown(capsys, videos=rows(number, "skipped"), videos_skipped=number)
    listed = [line for line in out.splitlines() if re.search("v0.* done before$", line.rstrip())]
    assert len(listed) == (number if number <= MAX_TABLE_ROWS else 0)
    assert f"{number} done before" in out


def test_places_of_what_was_asked_for(capsys):
    outputs = OutputConfig(save_video=True, save_mot=True, save_detections=True)
    show_summary(summary(out="s3://b/run"), outputs=outputs)
    out = capsys.readouterr().out
    places = "tracks/VIDEO.parquet, videos/VIDEO.mp4, mot/NAME.txt, detections/VIDEO.parquet"
    assert f"written to s3://b/run: {places}" in out.splitlines()


@pytest.mark.parametrize("width", [80, 120])
def test_figures_and_paths_are_never_cut(width):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=width, no_color=True)
    name = "a-very-long-name-of-a-recording-" * 4 + "42d715e827f82f8a"
    one = VideoRow(video_id=name, video="", status="done", frames=987654, tracks=1234, length_s=9e4)
    out = "/srv/" + "a-folder-with-a-long-name/" * 5
    show_summary(summary(videos=[one], out=out), console)
    text = re.sub(r"\x1b\[[0-9;]*m", "", screen.getvalue())
    table = text[: text.index("0 done")].splitlines()
    assert len(table) > 2
    assert all(len(line) <= width for line in table)
    assert {"1234", "987654", "25:00:00"} <= set(text.split())
    assert f"report: {out}/report.html" in text.splitlines()  # to be copied
    column = table[1].index(" ")
    assert "".join(line[:column] for line in table[1:]).strip() == name


def test_quiet_prints_errors_only_and_the_log_file_has_all_of_it(capsys, tmp_path):
    error = {"video": "v", "reason": "decode", "detail": "x", "frame": None}
    log = tmp_path / "run.log"
    with Messages(ConsoleConfig(quiet=True, log_file=str(log))) as messages:
        show_summary(
            summary(videos=rows(2), errors=[error], videos_failed=1),
            quiet=True,
            messages=messages,
            notes=["no detections of 3 done before"],
        )
    out, err = capsys.readouterr()
    assert (out, err) == ("", "jde: v: decode: x\n")
    text = log.read_text()
    assert "jde: v: decode: x" in text
    assert "v001" in text
    assert "no detections of 3 done before" in text
