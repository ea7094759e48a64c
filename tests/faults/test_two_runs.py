from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import fakes
import pytest
from conftest import ROOT, WORKER_PATH
from fakes import Script

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.tracking import offline, reference

pytestmark = pytest.mark.ray


def test_two_runs_share_a_cluster_and_an_out_and_every_video_is_created_once(
    ray_cluster: str, tmp_path: Path
) -> None:
    scripts = {f"v{i}": Script(frames=60, seed=i, frame_s=0.01) for i in range(4)}
    source, out = fakes.archive(tmp_path / "in", **scripts), tmp_path / "out"
    reference.track(
        [str(source)], str(tmp_path / "plain"), fakes.CONFIG, components=fakes.COMPONENTS
    )
    other = subprocess.Popen(
        [sys.executable, ROOT / "tests/run_track.py", source, out, ray_cluster],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": WORKER_PATH, "RAY_AUTH_MODE": "disabled"},
    )
    try:
        resources = ResourceConfig(chunk_frames=8, num_detectors=1, num_decoders=1)
        summary = offline.track(
            [str(source)], str(out), fakes.CONFIG, components=fakes.COMPONENTS, resources=resources
        )
        assert other.wait() == ExitCode.DONE
    finally:
        other.kill()
    assert summary.exit_code == ExitCode.DONE
    assert summary.videos_done + summary.videos_skipped == 4
    plain = {path.name: path.read_bytes() for path in (tmp_path / "plain/tracks").iterdir()}
    assert {path.name: path.read_bytes() for path in (out / "tracks").iterdir()} == plain
    assert not list(out.glob("errors/*"))
