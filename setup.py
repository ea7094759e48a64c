"""Writes the commit into a wheel, for `jde --version`; everything else is in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

_HERE = Path(__file__).resolve().parent


class BuildWithCommit(build_py):
    """Adds `jde_ray/commit.txt`: the variable JDE_COMMIT, else what git says of this checkout."""

    def run(self) -> None:
        """Build the package, then write the file; an editable install asks git each time."""
        if not self.editable_mode:  # a module that was deleted since would come along
            shutil.rmtree(Path(self.build_lib) / "jde_ray", ignore_errors=True)
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / "jde_ray" / "commit.txt"
        if commit := os.environ.get("JDE_COMMIT") or _described():
            target.write_text(f"{commit}\n", encoding="ascii")


def _described() -> str:
    """Commit of this checkout; empty in a source archive, or without git."""
    if not (_HERE / ".git").exists():
        return ""
    command = ["git", "-C", str(_HERE), "describe", "--always", "--dirty", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return found.stdout.strip()


setup(cmdclass={"build_py": BuildWithCommit})
