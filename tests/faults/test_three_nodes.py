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

from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.tracking import reference

pytestmark = pytest.mark.ray


@pytest.mark.slow
def test_three_nodes_give_the_plain_loops_bytes_and_give_everything_back(tmp_path: Path) -> None:
    scripts = {f"v{i}": Script(frames=40 + i, seed=i) for i in range(4)}
    scripts["cut"] = Script(error_at=20)
    source = fakes.archive(tmp_path / "in", **scripts)
    reference.track(
        [str(source)], str(tmp_path / "plain"), fakes.CONFIG, components=fakes.COMPONENTS
    )
    run = subprocess.run(
        [sys.executable, ROOT / "tests/run_nodes.py", source, tmp_path / "out"],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": WORKER_PATH, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == ExitCode.SOME_FAILED, run.stderr[-3000:]
    end = json.loads(run.stdout.splitlines()[-1])
    assert end["nodes"] == 3
    assert end["free"] == end["total"] == {"CPU": 4.0, "GPU": 2.0}
    for folder, count in (("tracks", 4), ("errors", 1)):
        plain = {path.name: path.read_bytes() for path in (tmp_path / "plain" / folder).iterdir()}
        assert len(plain) == count
        found = {path.name: path.read_bytes() for path in (tmp_path / "out" / folder).iterdir()}
        assert found == plain
