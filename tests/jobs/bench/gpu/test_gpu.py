"""`jde bench gpu` without a GPU: what it refuses, and that one section cannot stop the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from queue import Empty
from types import SimpleNamespace
from typing import Any

import pytest

from jde_ray.jobs.bench.gpu import command, whole
from jde_ray.jobs.bench.gpu.settings import Bench

MISSING = ("ray", "av", "lap", "filterpy", "boto3", "shapely", "motmetrics", "fastapi", "openvino")


def test_a_section_that_fails_or_takes_too_long_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    left = iter([0.0, 1, 2, 3, 4, 5, 90, 91, 92, 93, 94])  # seconds on the clock
    monkeypatch.setattr(command, "perf_counter", lambda: next(left))

    def rows(name: str, bench: Bench, left: float) -> Any:
        if name == "machine":
            raise RuntimeError("no such limit")
        yield {"layer": "a"}
        yield {"layer": "b"}
        yield {"layer": "c"}

    monkeypatch.setattr(command, "_rows", rows)
    out = tmp_path / "figures.json"
    report = command.run(Bench("cpu"), ["machine", "layers", "decoding"], 60, out)
    assert report["failed"] == {
        "machine": "RuntimeError: no such limit",
        "layers": "cut short, there was no time",
        "decoding": "left out, there was no time",
    }
    assert [row["layer"] for row in report["layers"]] == ["a", "b", "c"]
    assert json.loads(out.read_text())["failed"] == report["failed"]


class Answers:
    """A queue of some answers."""

    def __init__(self, *answers: dict[str, Any]) -> None:
        self.left = list(answers)

    def get(self, timeout: float) -> dict[str, Any]:
        if not self.left:
            raise Empty
        return self.left.pop(0)


def test_a_process_that_ends_is_told_at_once() -> None:
    alive, dead = SimpleNamespace(exitcode=None), SimpleNamespace(exitcode=-9)
    assert len(whole._answers(Answers({}, {}), [alive, alive])) == 2
    with pytest.raises(RuntimeError, match="association: exit code -9"):
        whole._answers(Answers({}), [alive, dead])
    with pytest.raises(RuntimeError, match="association: ImportError: no lap"):
        whole._answers(Answers({"failed": "ImportError: no lap"}), [alive])


def test_the_whole_system_is_measured_with_the_runner_and_without() -> None:
    assert {case.graphs for case in whole.CASES} == {True, False}
    assert {case.name for case in whole.CASES} == {"darknet53-1088x608", "small"}


@pytest.mark.slow
def test_every_section_runs_without_ray_and_pyav(tmp_path: Path) -> None:
    lines = [f"sys.modules[{name!r}] = None" for name in MISSING]
    (tmp_path / "sitecustomize.py").write_text("\n".join(["import sys", *lines]))
    path = os.pathsep.join([str(tmp_path), *sys.path])
    arguments = ["bench", "gpu", "--device", "cpu", "--seconds", "900"]
    arguments += ["--out", str(tmp_path / "out.json")]
    done = subprocess.run(
        [sys.executable, "-m", "jde_ray.jobs.cli", *arguments],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["failed"] == {}
    assert set(command.SECTIONS) <= set(report)
    rows = [*report["networks"], *report["whole"], *report["decoding"]]
    assert not [row for row in rows if "failed" in row]
    assert report["whole"][0]["videos_committed"] == 2
    assert report["decoding"][0]["by"] == "OpenCV's FFmpeg, since PyAV is missing"
