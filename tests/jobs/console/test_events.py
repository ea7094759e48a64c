"""`--progress json`: keys that programs rely on. Adding one is fine; none may go."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import datetime

import pytest
from places import ROOT
from rich.console import Console

from jde_ray.jobs.console import events as events_module
from jde_ray.jobs.console.events import Events
from jde_ray.jobs.console.messages import ConsoleConfig
from jde_ray.jobs.console.progress import Display
from jde_ray.pipelines.config import VERSION
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.output.work import VideoRow
from jde_ray.pipelines.tracking.tally import Progress

KEYS = {
    "start": {"version", "out", "videos"},
    "progress": {
        *("videos", "videos_done", "videos_skipped", "videos_drawn", "frames", "frames_left"),
        *("frames_per_second", "seconds", "seconds_left"),
    },
    "video": {"video_id", "video", "status", "frames", "length_s", "tracks", "rows", "error"}
    | {"partial", "crops"},
    "end": {
        *("exit_code", "error", "out", "videos_done", "videos_failed", "videos_skipped"),
        *(
            "videos_failed_before",
            "videos_drawn",
            "pictures_failed",
            "frames",
            "detections",
            "tracks",
            "rows",
        ),
        *("seconds", "videos_partial", "videos_cropped", "crops"),
    },
}
ROWS = [
    VideoRow(video_id="a", video="/a", status="done", frames=9, tracks=2, rows=8, length_s=0.36),
    VideoRow(video_id="b", video="/b", status="failed", error="decode: x"),
    VideoRow(video_id="c", video="/c", status="skipped", frames=4),
]
SUMMARY = Summary(
    **{"out": "o", "dropped": {}, "seconds": {"wall": 2.0}, "frames_per_second": {}},
    **dict.fromkeys(("frames", "damaged", "detections", "rows", "tracks"), 9),
    **{"videos_done": 1, "videos_failed": 1, "videos_skipped": 1},
    videos=ROWS,
    exit_code=ExitCode.SOME_FAILED,
)


def display() -> Display:
    return Display(Console(), ConsoleConfig(progress="json"))


def printed(capsys) -> list[dict]:
    out, err = capsys.readouterr()
    assert err == ""
    return [json.loads(line) for line in out.splitlines()]


def test_a_run_is_objects_with_stable_keys(capsys, monkeypatch):
    now = 100.0
    monkeypatch.setattr(events_module.time, "monotonic", lambda: now)
    with display() as shown:
        shown.doing("looking for videos")
        shown.started("o", 3)
        for second in range(12):
            now = 100.0 + second
            shown(Progress(3, 1, 1, 10 * second, float(second), frames_left=7))
        shown.ended(SUMMARY)
    objects = printed(capsys)
    names = [one["event"] for one in objects]
    assert names == ["start", *["progress"] * 3, "video", "video", "end"]
    for one in objects:
        assert one.keys() == KEYS[one["event"]] | {"event", "time"}
        assert datetime.fromisoformat(one["time"]).utcoffset() is not None
    assert objects[0] | {"version": VERSION, "out": "o", "videos": 3} == objects[0]
    assert [one["frames"] for one in objects[1:4]] == [0, 50, 100]
    assert objects[3]["seconds_left"] is None
    assert (objects[4]["tracks"], objects[4]["length_s"], objects[4]["error"]) == (2, 0.36, None)
    assert objects[5]["error"] == "decode: x"
    assert (objects[-1]["exit_code"], objects[-1]["videos_failed"]) == (3, 1)


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RunError("out: no", ExitCode.OTHER_CONFIGURATION), 4, "out: no"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (TypeError("a\nb"), 1, "internal: TypeError: a b (JDE_DEBUG=1 shows where)"),
    ],
)
def test_a_run_that_breaks_off_has_an_end(error, code, text, capsys):
    with pytest.raises(type(error)), display():
        raise error
    (end,) = printed(capsys)
    assert (end["event"], end["exit_code"], end["error"]) == ("end", code, text)


def test_there_is_one_end_only(capsys):
    def run() -> None:
        with display() as shown:
            shown.ended(SUMMARY)
            raise RunError("interrupted", ExitCode.INTERRUPTED)

    with pytest.raises(RunError):
        run()
    assert [one["event"] for one in printed(capsys)].count("end") == 1


def test_a_reader_that_has_gone_does_not_end_the_run():
    code = (
        "import time\n"
        "from jobs.console.events import Events\n"
        "for _ in range(3): Events().started('o', 1); time.sleep(0.3)\n"
        "import sys; print('went on', file=sys.stderr)"
    )
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, stdout=write, stderr=subprocess.PIPE, check=False
    )
    os.close(write)
    assert (done.returncode, done.stderr) == (0, b"went on\n")


def test_a_video_name_of_any_script_is_plain_ascii(capsys):
    row = VideoRow(video_id="Straße-\udcff", video="/Straße-\udcff", status="done")
    Events().ended(Summary(**vars(SUMMARY) | {"videos": [row]}))
    assert capsys.readouterr().out.isascii()
