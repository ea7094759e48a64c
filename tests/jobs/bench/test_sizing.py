"""`jde bench sizing`: what it reads and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jde_ray.jobs.bench import app
from jde_ray.jobs.bench.sizing import sizing_rows
from jde_ray.pipelines.errors import RunError

SUMMARY = {"frames": 1000, "seconds": {"decode": 10.0, "associate": 2.5, "detect": 99.0}}


def test_cores_follow_from_the_seconds_of_a_run() -> None:
    assert sizing_rows(SUMMARY, [400.0]) == [
        {
            "gpu_frames_per_second": 400.0,
            "decode_cores": 4.0,
            "association_cores": 1.0,
            "cores": 5.0,
        }
    ]


def test_the_sizing_is_read_from_a_finished_run(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(SUMMARY))
    for named in (str(tmp_path), str(tmp_path / "summary.json")):
        result = CliRunner().invoke(app.app, ["sizing", named, "--gpu-fps", "100", "--json"])
        assert [row["decode_cores"] for row in json.loads(result.stdout)] == [1.0]
    assert "association" in CliRunner().invoke(app.app, ["sizing", str(tmp_path)]).stdout


def test_a_partitions_summary_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "summary-2-of-8.json").write_text(json.dumps(SUMMARY))
    named = str(tmp_path / "summary-2-of-8.json")
    result = CliRunner().invoke(app.app, ["sizing", named, "--gpu-fps", "100", "--json"])
    assert [row["cores"] for row in json.loads(result.stdout)] == [1.25]


@pytest.mark.parametrize("content", [None, "{}", json.dumps(SUMMARY | {"frames": 0})])
def test_without_figures_there_is_no_sizing(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    result = CliRunner().invoke(app.app, ["sizing", str(tmp_path)])
    assert isinstance(result.exception, RunError)
