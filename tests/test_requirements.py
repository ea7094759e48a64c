"""What pyproject.toml asks for is what the code imports, and constraints.txt has versions of it."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"]]
PINNED = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)
MODULES = {"opencv-python-headless": "cv2", "pyyaml": "yaml"}


@pytest.mark.parametrize("requirement", REQUIRED, ids=lambda r: r.name)
def test_the_version_that_was_run_is_within_its_bounds(requirement):
    assert requirement.specifier.contains(PINNED[requirement.name])


def test_everything_required_is_imported():
    sources = [p for top in ("models", "pipelines", "jobs") for p in (ROOT / top).rglob("*.py")]
    imported = set()
    for source in sources:
        found = re.findall(r"^\s*(?:from|import) (\w+)", source.read_text(), re.MULTILINE)
        imported.update(found)
    assert {r.name for r in REQUIRED if MODULES.get(r.name, r.name) not in imported} == set()


def test_versions_with_known_holes_are_out_of_bounds():
    bounds = {requirement.name: requirement.specifier for requirement in REQUIRED}
    assert not bounds["starlette"].contains("1.0.0")
    assert not bounds["uvicorn"].contains("1.0.0")
    assert not bounds["torch"].contains("2.9.1")
