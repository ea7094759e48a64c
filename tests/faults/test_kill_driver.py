from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import fakes
import pytest
from conftest import ROOT, WORKER_PATH
from fakes import Script

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode
from jde_ray.pipelines.tracking import offline, reference

pytestmark = pytest.mark.ray

NUM_VIDEOS, NUM_FRAMES = 6, 48


def start(source: Path, out: Path, address: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "tests/run_track.py"), str(source), str(out), address]
    environment = os.environ | {"PYTHONPATH": WORKER_PATH, "RAY_AUTH_MODE": "disabled"}
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)


def kill_when_half_done(driver: subprocess.Popen[bytes], out: Path) -> None:
    while len(list(out.glob("tracks/*.parquet"))) < NUM_VIDEOS // 2:
        assert driver.poll() is None, "it ended before it could be killed"
        time.sleep(0.02)
    driver.send_signal(signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL


def files(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in out.glob("tracks/*")}


@pytest.mark.parametrize(
    "own_ray", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["joined", "own"]
)
def test_a_run_killed_at_half_of_its_videos_goes_on_to_the_same_bytes(
    request: pytest.FixtureRequest, tmp_path: Path, own_ray: bool
) -> None:
    scripts = {f"v{i}": Script(NUM_FRAMES, seed=i, frame_s=0.01) for i in range(NUM_VIDEOS)}
    source, out = fakes.archive(tmp_path / "in", **scripts), tmp_path / "out"
    reference.track(
        [str(source)], str(tmp_path / "plain"), fakes.CONFIG, components=fakes.COMPONENTS
    )
    address = "local" if own_ray else request.getfixturevalue("ray_cluster")

    driver = start(source, out, address)
    try:
        kill_when_half_done(driver, out)
    finally:
        driver.kill()
    assert not (out / "summary.json").exists()
    if own_ray:
        assert start(source, out, address).wait() == ExitCode.DONE
    else:
        resources = ResourceConfig(chunk_frames=8, num_detectors=1, num_decoders=1)
        settings = {"components": fakes.COMPONENTS, "resources": resources}
        summary = offline.track([str(source)], str(out), fakes.CONFIG, **settings)
        assert summary.exit_code == ExitCode.DONE
        assert summary.videos_skipped >= NUM_VIDEOS // 2
        assert summary.frames == summary.videos_done * NUM_FRAMES  # nothing is done twice
        assert summary.videos_skipped + summary.videos_done == NUM_VIDEOS
    assert files(out) == files(tmp_path / "plain")
    assert not list(out.rglob(".tmp-*")) or own_ray is False
