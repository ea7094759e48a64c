"""`pipelines.torch_setup`, in processes of their own, since it is for the entire process."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

_BLOCKS = """
import resource, threading
{setup}
import torch

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def use():  # as layers do: 5 blocks of 40 MiB, freed again
    for _ in range(5):
        torch.ones(10 << 20)

def measure():
    use()
    before = faults()
    use()
    print(faults() - before, torch.get_num_threads())

thread = threading.Thread(target=measure)  # detectors run beside the main thread
{run}
"""


def _faults(setup: str, run: str) -> tuple[int, int]:
    code = _BLOCKS.format(setup=setup, run=run)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    faults, threads = done.stdout.split()
    return int(faults), int(threads)


def _is_glibc() -> bool:
    try:
        return hasattr(ctypes.CDLL("libc.so.6"), "mallopt")
    except OSError:
        return False


@pytest.mark.skipif(not _is_glibc(), reason="only glibc returns memory so eagerly")
@pytest.mark.parametrize("run", ["measure()", "thread.start(); thread.join()"])
def test_freed_memory_is_used_again(run: str) -> None:
    setup = "from jde_ray.pipelines.torch_setup import set_up_torch; set_up_torch(3)"
    faults, threads = _faults(setup, run)
    assert threads == 3
    without, _ = _faults("", run)
    assert faults * 10 < without or without < 200  # huge pages everywhere: few either way
