"""The Dockerfile: what its images are and are not, and its steps run in an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dockerfile import context, read_stages, steps_of
from places import ROOT
from run_dockerfile import without_network

TARGETS = ("cpu", "cuda")


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_runs_jde_without_root(target: str):
    last = {step.name: step.text for step in steps_of(target)}
    assert json.loads(last["ENTRYPOINT"]) == ["jde"]
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])  # numbers: Kubernetes knows no names
    assert json.loads(last["CMD"]) == ["--help"]
    names = [step.name for step in steps_of(target)]
    assert "RUN" not in names[names.index("USER") :]


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_has_no_compiler_no_sources_and_no_pip_cache(target: str):
    steps = steps_of(target)
    installed = " ".join(step.text for step in steps if "apt-get install" in step.text)
    packages = re.search(r"--no-install-recommends ([^&]*)", installed)
    assert packages is not None
    assert packages[1].split() == ["rsync", "wget"]
    copies = [step.words for step in steps if step.name == "COPY"]
    assert copies == [["--from=build", "${VIRTUAL_ENV}", "${VIRTUAL_ENV}"]]
    (env,) = [step for step in read_stages()["build"].steps if "PIP_NO_CACHE_DIR" in step.text]
    assert "PIP_NO_CACHE_DIR=1" in env.words


def test_the_default_is_the_image_that_runs_everywhere():
    assert list(read_stages())[-1] == "cpu"


def test_a_build_is_sent_what_the_wheel_is_made_of():
    sent = context()
    assert all((ROOT / name).exists() for name in sent)
    assert {"constraints.txt", "jde_ray", "jobs", "models", "pipelines", "pyproject.toml"} < {*sent}
    assert not {"tests", "docs", "runs", ".venv", ".git"} & {*sent}


@pytest.mark.slow
def test_its_steps_end_in_a_demo_without_a_network(tmp_path: Path):
    alone = without_network(["true"], tmp_path, os.environ)
    if alone:
        pytest.skip("this system gives no process a network of its own")
    command = [sys.executable, ROOT / "tests/run_dockerfile.py", tmp_path / "image", "COMMIT=abc"]
    said = subprocess.check_output(command, cwd=tmp_path, text=True, timeout=3000)
    assert re.search(r"^no network: ", said, re.MULTILINE)
    assert "(abc)" in said
    assert not (tmp_path / "image.build").exists()
    assert len(list((tmp_path / "image/data/demo/tracks").glob("*.parquet"))) == 3
    left_out = re.findall(r"^left out, it changes the system: (\S+)", said, re.MULTILINE)
    assert left_out == ["apt-get", "useradd"]
