"""`jde bench startup`: what it runs, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jde_ray.jobs.bench import app, startup


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that were timed; the third one of each kind is the quickest."""
    calls: list[list[str]] = []

    def seconds(arguments: list[str]) -> float:
        calls.append(arguments)
        assert arguments[1] == "--help" or Path(arguments[1]).stat().st_size > 0
        return 30.0 - len(calls)

    monkeypatch.setattr(startup, "_seconds", seconds)
    monkeypatch.setattr(startup, "_forget_files", lambda: calls.append(["forget"]))
    return calls


def test_each_way_runs_cold_once_and_warm_repeatedly(runs: list[list[str]]) -> None:
    result = CliRunner().invoke(app.app, ["startup", "--repeat", "2", "--frames", "3", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    limits = ["cold" if call == ["forget"] else call[3] for call in runs if call[1:] != ["--help"]]
    assert limits == ["cold", *["1000000"] * 3, "cold", *["0"] * 3]
    outs = [call[-1] for call in runs if "--out" in call]
    assert len(set(outs)) == len(outs)
    assert report["frames"] == 3
    assert report["without Ray"] == {"cold": 28.0, "warm": 26.0}
    assert report["with Ray"] == {"cold": 24.0, "warm": 22.0}
    assert report["help"] == 20.0


@pytest.mark.usefixtures("runs")
def test_the_table_names_both_ways() -> None:
    result = CliRunner().invoke(app.app, ["startup", "--repeat", "1"])
    assert result.exit_code == 0, result.output
    for word in ("with Ray", "without Ray", "cold", "warm", "--help"):
        assert word in result.stdout
