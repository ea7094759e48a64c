"""Detectors between limits, on a cluster that grows or shrinks while a run goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from conftest import ROOT, WORKER_PATH
from fakes import Script

from jde_ray.pipelines.tracking import reference

pytestmark = [pytest.mark.ray, pytest.mark.slow]


@pytest.mark.parametrize("kind", ["grows", "shrinks"])
def test_a_run_follows_its_cluster_and_gives_the_plain_loops_bytes(
    tmp_path: Path, kind: str
) -> None:
    go_on = tmp_path / "go-on"
    scripts = {f"v{i:02}": Script(frames=38 + i % 5, seed=i) for i in range(40)}
    source = fakes.archive(tmp_path / "in", **scripts)
    plain, out = tmp_path / "plain", tmp_path / "out"
    reference.track([str(source)], str(plain), fakes.CONFIG, components=fakes.COMPONENTS)
    run = subprocess.run(
        [sys.executable, ROOT / "tests/run_changing_cluster.py", source, out, kind, go_on],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": WORKER_PATH, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    end = json.loads(run.stdout.splitlines()[-1])
    assert len(end["by_node"]) == 2
    assert min(end["by_node"].values()) > 0
    assert sum(end["by_node"].values()) == end["seen"] >= end["frames"]
    found = {path.name: path.read_bytes() for path in (out / "tracks").iterdir()}
    assert found == {path.name: path.read_bytes() for path in (plain / "tracks").iterdir()}
    assert len(found) == len(scripts)
