from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jde_ray.pipelines.processes import is_left, mark, started_at, sweep

MARK = "from jde_ray.pipelines.processes import mark; print(mark(), flush=True); input()"


@pytest.fixture
def other() -> object:
    """A process that tells its mark and waits."""
    process = subprocess.Popen(
        [sys.executable, "-c", MARK], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    yield process
    process.kill()
    process.communicate()


def test_what_a_killed_process_left_is_swept_and_a_living_ones_stays(
    other: subprocess.Popen[str], tmp_path: Path
) -> None:
    assert other.stdout is not None
    theirs = other.stdout.readline().strip()
    (tmp_path / f"x-{theirs}-abc").mkdir()
    (tmp_path / f"x-{theirs}-abc" / "rows").write_text("rows")
    (tmp_path / f"x-{theirs}").write_text("a file")
    (tmp_path / f"x-{mark()}-mine").write_text("a file")
    (tmp_path / f"y-{theirs}-abc").write_text("of another name")
    assert sweep(tmp_path, "x-") == 0
    other.kill()
    other.wait()
    assert sweep(tmp_path, "x-") == 2
    assert sorted(path.name[:1] for path in tmp_path.iterdir()) == ["x", "y"]


def test_a_process_of_the_same_number_is_another_one(tmp_path: Path) -> None:
    machine, pid, start = mark().split("-")
    left = tmp_path / f"x-{machine}-{pid}-{int(start) - 1}-abc"
    left.write_text("by an earlier process of this number")
    assert is_left(left, "x-")
    assert started_at(os.getpid()) == int(start)


@pytest.mark.parametrize("name", ["x-0123abcd-1-2-abc", "x-abc", "x-"])
@pytest.mark.parametrize(("days", "expected"), [(6.0, False), (8.0, True)])
def test_of_a_machine_that_cannot_be_asked_only_old_things_are_left(
    tmp_path: Path, name: str, days: float, expected: bool
) -> None:
    folder = tmp_path / name
    (folder / "inside").mkdir(parents=True)
    then = time.time() - days * 86_400
    for path in (folder / "inside", folder):
        os.utime(path, (then, then))
    assert is_left(folder, "x-") is expected
    (folder / "inside" / "new").write_text("somebody writes")
    assert not is_left(folder, "x-")
