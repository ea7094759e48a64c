"""The notebook runs as it is, cell by cell, and what is stored in it is small."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from places import ROOT
from test_documents import parse

NOTEBOOK = ROOT / "docs/first-steps.ipynb"
CELLS = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_what_is_stored_in_it_is_small_and_of_one_run():
    assert NOTEBOOK.stat().st_size < 250_000
    stored = [output for cell in CELLS for output in cell.get("outputs", [])]
    assert not [one for one in stored if one.get("name") == "stderr"]
    assert not [one for one in stored if one["output_type"] == "error"]
    assert all(cell["execution_count"] is None for cell in CELLS if cell["cell_type"] == "code")
    assert "\\u001b" not in NOTEBOOK.read_text()  # colours of a terminal


def test_its_commands_are_understood():
    texts = ["".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "markdown"]
    commands = [command for text in texts for command in re.findall(r"`jde ([^`]+ [^`]+)`", text)]
    assert commands
    for command in commands:
        parse(command.split())


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any):
    pytest.importorskip("duckdb", reason="of the extra `notebook`")
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(CELLS):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"cell {number}", "exec"), names)  # noqa: S102
    figures = [plt.figure(number) for number in plt.get_fignums()]
    plt.close("all")
    printed = capsys.readouterr().out
    assert names["summary"].videos_done == 2
    ray = sys.modules.get("ray")
    is_joined = ray is not None and ray.is_initialized()  # another test's Ray, in this process
    assert names["summary"].on_ray == is_joined
    assert names["exit_code"] == 0
    assert "HOTA" in printed
    assert "pixels_per_s" in printed
    assert [len(figure.axes) for figure in figures] == [3, 2]
    assert len(figures[1].axes[1].lines) > 3  # people whose paths are drawn
