"""The wheel puts one name on the path, `jde_ray`, and is whole: data files, types, version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest
from documents import blocks
from places import ROOT

DATA = (
    "jobs/recipes/train_small.yaml",
    "jobs/recipes/serve.yaml",
    "pipelines/serving/api/page.html",
    "pipelines/report/page.html",
    "pipelines/report/style.css",
    "models/jde/pretrained/small.safetensors",
    "py.typed",
)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves folders behind
    skipped = shutil.ignore_patterns(".git", ".venv", "runs", "build", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, source, symlinks=True, ignore=skipped)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, source]
    subprocess.run(command, check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_one_package_and_its_data(wheel: Path):
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"jde_ray"}
    assert not [name for name in DATA if f"jde_ray/{name}" not in names]


@pytest.mark.slow
def test_installed_beside_a_folder_models_it_runs_the_demo_and_the_readme(wheel, tmp_path: Path):
    """Over the dependencies that are installed here, without the checkout."""
    site, work = tmp_path / "site", tmp_path / "work"
    target = ["--quiet", "--no-deps", "--target", site]
    subprocess.run([sys.executable, "-m", "pip", "install", *target, wheel], check=True)
    for name in ("models", "pipelines", "jobs"):
        (work / name).mkdir(parents=True)
        (work / name / "__init__.py").write_text("raise ImportError('not ours')")
    env = {**os.environ, "PYTHONPATH": str(site)}

    def run(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        return subprocess.check_output(command, cwd=work, env=env, text=True, timeout=300)

    where = run("-c", "import jde_ray; print(jde_ray.__file__, jde_ray.__version__)")
    assert where.startswith(str(site))
    run("-m", "jde_ray.jobs.cli", "demo", "--out", "runs/demo")
    assert len(list((work / "runs/demo/tracks").glob("*.parquet"))) == 3
    (work / "recordings").symlink_to(work / "runs/demo/archive")
    block = next(block for block in blocks() if "from jde_ray import track" in block.text)
    assert "3 600" in run("-c", f"if __name__ == '__main__':\n    {_indented(block.text)}")


def _indented(text: str) -> str:
    return text.strip().replace("\n", "\n    ")
