"""The wheel puts one name on the path, `jde_ray`, and is whole: data files, types, version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest
from documents import blocks
from places import ROOT

DATA = (
    "jobs/recipes/train_small.yaml",
    "jobs/recipes/train_reid_small.yaml",
    "jobs/recipes/train_reid_open.yaml",
    "jobs/recipes/serve.yaml",
    "pipelines/serving/api/page.html",
    "pipelines/report/page.html",
    "pipelines/report/style.css",
    "models/jde/pretrained/small.safetensors",
    "models/reid/pretrained/reid-small.safetensors",
    "models/reid/pretrained/reid-open.safetensors",
    "py.typed",
)


COMMIT = "0a1b2c3"  # as a build without .git is told; with .git it asks git
TRACKS_A_FRAME = """
import numpy, jde_ray
tracks = jde_ray.Tracker().update(numpy.zeros((64, 96, 3), numpy.uint8))
print(jde_ray.__file__, jde_ray.__version__, len(tracks))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves folders behind
    skipped = shutil.ignore_patterns(".git", ".venv", "runs", "build", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, source, symlinks=True, ignore=skipped)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source]
    subprocess.run(command, check=True, env={**os.environ, "JDE_COMMIT": COMMIT})
    return next(folder.glob("*.whl"))


@dataclass(frozen=True)
class Installed:
    """The wheel in a folder of its own, and a user's folder that has a `models/` too."""

    site: Path
    work: Path

    def run(self, *arguments: str) -> str:
        """Output of Python in the user's folder, over the dependencies that are installed here."""
        env = {**os.environ, "PYTHONPATH": str(self.site)}
        command = [sys.executable, *arguments]
        return subprocess.check_output(command, cwd=self.work, env=env, text=True, timeout=600)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("installed")
    site, work = folder / "site", folder / "work"
    target = ["--quiet", "--no-deps", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *target, wheel], check=True)
    for name in ("models", "pipelines", "jobs"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise ImportError('not ours')")
    return Installed(site, work)


def test_the_wheel_holds_one_package_and_its_data(wheel: Path):
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"jde_ray"}
    assert not [name for name in DATA if f"jde_ray/{name}" not in names]


def test_the_wheel_names_the_licences_of_code_and_weights(wheel: Path):
    archive = ZipFile(wheel)
    (name,) = [one for one in archive.namelist() if one.endswith(".dist-info/METADATA")]
    metadata = message_from_bytes(archive.read(name))
    assert metadata["License-Expression"] == "Apache-2.0 AND CC-BY-NC-SA-3.0"
    files = metadata.get_all("License-File")
    cards = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("models/*/pretrained/*.md"))
    assert files == ["LICENSE", *cards]
    folder = name.removesuffix("METADATA")
    assert all(f"{folder}licenses/{file}" in archive.namelist() for file in files)


def test_installed_it_knows_its_commit(installed: Installed):
    said = installed.run("-m", "jde_ray.jobs.cli", "--version")
    assert said == f"jde-ray 0.1.0 ({COMMIT})\n"


def test_installed_beside_a_folder_models_it_tracks_a_frame(installed: Installed):
    said = installed.run("-c", TRACKS_A_FRAME).split()
    assert said[0].startswith(str(installed.site))
    assert said[1:] == ["0.1.0", "0"]


@pytest.mark.slow
def test_it_runs_the_demo_and_the_block_of_the_readme(installed: Installed):
    installed.run("-m", "jde_ray.jobs.cli", "demo", "--out", "runs/demo")
    assert len(list((installed.work / "runs/demo/tracks").glob("*.parquet"))) == 3
    (installed.work / "recordings").symlink_to(installed.work / "runs/demo/archive")
    block = next(block for block in blocks() if "from jde_ray import track" in block.text)
    code = f"if __name__ == '__main__':\n    {_indented(block.text)}"
    assert "3 600" in installed.run("-c", code)


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n    ")
