"""Shared by all tests: reproducible random numbers, one local Ray a session, the GPU policy."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
LONGEST = (  # begin first, so that no process of `make test` is idle while the other one ends
    "tests/pipelines/tracking/",
    "tests/pipelines/serving/",
    "tests/pipelines/training/",
    "tests/faults/",
    "tests/jobs/",
)
# Workers import the fakes too; the root comes first since tests/ has a folder called models.
WORKER_PATH = f"{ROOT}:{ROOT / 'tests'}"

# torch's threads wait for each other without spinning: beside a Ray, or anything else, they would
# take each other's cores, and a training of ten steps lasts a minute
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S", "60")  # on a busy machine

# an example of a test may take as long as it takes
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture(autouse=True)
def _restore_random_state() -> Iterator[None]:
    """No test changes the random numbers of the next one."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    torch = sys.modules.get("torch")
    state = torch.get_rng_state() if torch else None
    yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    if torch:
        torch.set_rng_state(state)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the folders of the longest files first; the order within a folder stays."""

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT).as_posix()
        return next((i for i, folder in enumerate(LONGEST) if path.startswith(folder)), 99)

    items.sort(key=place)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs CUDA skips without it, unless JDE_REQUIRE_GPU says that it must run."""
    if item.get_closest_marker("gpu") is None:
        return
    import torch

    if not torch.cuda.is_available():
        if os.environ.get("JDE_REQUIRE_GPU"):
            pytest.fail("JDE_REQUIRE_GPU is set and there is no CUDA device")
        pytest.skip("no CUDA device")


@pytest.fixture(scope="session")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the published layout, 263 MB: written once, never changed."""
    from published_checkpoint import build_state, write_checkpoint

    path = tmp_path_factory.mktemp("published") / "jde.1088x608.uncertainty.pt"
    return write_checkpoint(path, build_state())


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """The address of one Ray for the whole session; starting it takes longer than most tests."""
    import ray

    folder = tempfile.mkdtemp(prefix="jr", dir="/tmp")
    ray.init(
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        _temp_dir=folder,
        object_store_memory=256 << 20,
        runtime_env={"env_vars": {"PYTHONPATH": WORKER_PATH}},
    )
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
