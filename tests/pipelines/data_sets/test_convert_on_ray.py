"""More sequences than one process converts: `jde data convert` on Ray, killed, and again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from original_layouts import convert_tree, jpeg, mot, put

from jde_ray.pipelines.data_sets.records import RECORDS
from jde_ray.pipelines.data_sets.unified import STAGING
from jde_ray.pipelines.parallel import MOST_IN_PROCESS
from jde_ray.pipelines.processes import descendants, is_alive, started_at

pytestmark = [pytest.mark.slow, pytest.mark.ray]
NAMES = [f"MOT20-{number:02}" for number in range(1, MOST_IN_PROCESS + 3)]
PATIENCE_S = 240


def start(root: Path, **options: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "jde_ray.jobs.cli", "data", "convert", "mot20"]
    return subprocess.Popen([*command, str(root / "in"), str(root / "out")], text=True, **options)


def until(condition, what: str) -> None:
    latest = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < latest, what
        time.sleep(0.1)


def contents(out: Path) -> dict[str, bytes]:
    """All lists, labels and pictures below OUT; `mot20.json` and records name the folder."""
    files = (path for path in out.rglob("*") if path.suffix in {".jpg", ".txt", ".train", ".csv"})
    return {str(path.relative_to(out)): path.read_bytes() for path in files}


def test_a_conversion_on_ray_is_killed_and_goes_on(tmp_path: Path, monkeypatch):
    root = tmp_path / "ray"
    mot(root / "in", *NAMES)
    last = root / "in" / "train" / NAMES[-1] / "img1" / "000003.jpg"
    last.unlink()
    os.mkfifo(last)  # nobody ever writes to it: whoever reads it waits

    driver = start(root)
    try:
        records = root / "out" / RECORDS / "mot20"
        done = lambda: len(list(records.glob("*.json")))  # noqa: E731
        until(lambda: done() == len(NAMES) - 1 or driver.poll() is not None, f"got {done()}")
        assert driver.poll() is None
        family = descendants({(driver.pid, started_at(driver.pid) or 0)})
        assert any(one[0] != driver.pid for one in family)  # Ray's processes
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    until(lambda: not any(map(is_alive, family)), "Ray lives on without its driver")
    assert not (root / "out" / "mot20.train").exists()
    assert not list((root / "out" / "MOT20").glob(f"*/train/{NAMES[-1]}"))

    last.unlink()
    put(last, jpeg(shade=60))
    again = start(root, stdout=subprocess.PIPE)
    said, _ = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0
    before = len(NAMES) - 1
    assert f"{len(NAMES)} sequences, videos or splits, {before} of them were there" in said
    assert not list((root / "out").glob(f"{STAGING}*"))

    mot(tmp_path / "here" / "in", *NAMES)
    for module in ("parallel", "data_sets.convert"):
        monkeypatch.setattr(f"jde_ray.pipelines.{module}.MOST_IN_PROCESS", len(NAMES))
    convert_tree("mot20", tmp_path / "here")
    assert contents(root / "out") == contents(tmp_path / "here" / "out")
