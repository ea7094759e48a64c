"""Without Ray: processes that go by the names of Ray's."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from jde_ray.pipelines.own_ray import SPOOL_PREFIX
from jde_ray.pipelines.processes import started_at

# a driver with a Ray of one raylet, which has a child, and a stranger that was there before
DRIVER = """
import os, subprocess, sys, time
from jde_ray.pipelines import own_ray
from jde_ray.pipelines.processes import children
quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
stranger = subprocess.Popen(["sleep", "60"], **quiet)
before = children(os.getpid())
quiet["stdout"] = subprocess.PIPE
script = "sleep 60 >/dev/null & echo $!; wait"
raylet = subprocess.Popen([sys.argv[1], "-c", script], **quiet)
agent = raylet.stdout.readline().decode().strip()

def is_watching():  # the watchdog ignores SIGTERM before its first look, and sleeps after it
    for pid, _ in children(os.getpid()) - before:
        lines = (line.split() for line in open(f"/proc/{pid}/status"))
        status = {line[0]: line[1] for line in lines if len(line) > 1}
        if int(status["SigIgn:"], 16) >> 14 & 1 and status["State:"] == "S":
            return True

with own_ray.watched(before):
    while not is_watching():
        time.sleep(0.02)
    print(stranger.pid, raylet.pid, agent, flush=True)
    time.sleep(0.3 if sys.argv[2] == "end" else 60)
print("ended well", flush=True)
raylet.kill(), stranger.kill()
"""


def is_alive(pid: int) -> bool:
    return started_at(pid) is not None


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_when_ray_falls_one_line_says_so_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    program = shutil.copy("/bin/sh", tmp_path / name)
    spools = tmp_path / "tmp"
    spools.mkdir()
    (spools / f"{SPOOL_PREFIX}{own_ray_mark_of_nobody()}-x").mkdir()
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, program, "kill"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"TMPDIR": str(spools)},
    )
    assert driver.stdout is not None
    stranger, raylet, agent = map(int, driver.stdout.readline().split())
    try:
        os.kill(raylet, signal.SIGKILL)
        _, said = driver.communicate(timeout=120)  # of itself it ends well, after a minute
        assert driver.returncode == 1
        assert said.count("\n") == 1
        assert said.startswith("jde: error: Ray has ended: its")
        assert not is_alive(agent)  # an orphan by then, and no descendant of the driver
        assert is_alive(stranger)
        assert list(spools.iterdir()) == []
    finally:
        for pid in (stranger, raylet, agent):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_a_ray_that_is_shut_down_is_no_fall(tmp_path: Path) -> None:
    program = shutil.copy("/bin/sh", tmp_path / "raylet")
    driver = subprocess.run(
        [sys.executable, "-c", DRIVER, program, "end"], capture_output=True, text=True, check=True
    )
    assert driver.stdout.endswith("ended well\n")
    assert driver.stderr == ""
    os.kill(int(driver.stdout.split()[2]), signal.SIGKILL)


@pytest.mark.parametrize("with_its_ray", [True, False])
def test_a_driver_that_dies_before_it_can_say_so_is_explained(
    tmp_path: Path, with_its_ray: bool
) -> None:
    """Ray ends the driver when it misses the raylet, which may be before anybody else notices."""
    program = shutil.copy("/bin/sh", tmp_path / "raylet")
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, program, "kill"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert driver.stdout is not None
    stranger, raylet, agent = map(int, driver.stdout.readline().split())
    try:
        os.kill(driver.pid, signal.SIGSTOP)
        if with_its_ray:
            os.kill(raylet, signal.SIGKILL)
        os.kill(driver.pid, signal.SIGKILL)
        _, said = driver.communicate(timeout=120)
        assert said.count("\n") == 1
        wanted = "(Ray has ended: its raylet|the run was killed, or ended by its Ray)"
        assert re.match(f"jde: error: {wanted if with_its_ray else 'the run was killed'}", said)
        assert not is_alive(raylet)
        assert not is_alive(agent)
    finally:
        for pid in (stranger, raylet, agent):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def own_ray_mark_of_nobody() -> str:
    """A mark of this machine whose process has ended."""
    from jde_ray.pipelines.processes import mark

    machine, pid, start = mark().split("-")
    return f"{machine}-{pid}-{int(start) - 1}"
