"""One name is imported and installed, `jde_ray`, and it loads nothing before it is asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from places import ROOT

import jde_ray


def test_the_folders_are_reached_by_links():
    for name in ("models", "pipelines", "jobs"):
        assert (ROOT / "jde_ray" / name).is_symlink()
        assert (ROOT / "jde_ray" / name).resolve() == ROOT / name


def test_importing_the_root_loads_nothing():
    code = "import sys, jde_ray; print([m for m in sys.modules if m.startswith('jde_ray.')])"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"


def test_what_it_offers_is_there():
    from jde_ray.pipelines.serving.client.connection import connect
    from jde_ray.pipelines.tracking.track import track

    assert jde_ray.track is track
    assert jde_ray.connect is connect
    assert jde_ray.__version__
    assert set(dir(jde_ray)) == {
        *("__version__", "track", "connect", "read_tracks", "read_detections", "similarity"),
        *("Tracker", "Detector", "BoxTracker"),
    }
    for name in dir(jde_ray):
        assert getattr(jde_ray, name)
    assert not hasattr(jde_ray, "no_such_thing")


def test_no_package_imports_anything():
    packages = [
        p for top in ("models", "pipelines", "jobs") for p in (ROOT / top).rglob("__init__.py")
    ]
    assert len(packages) > 20
    assert not [p for p in packages if "import " in p.read_text().split('"""', 2)[2]]


def test_the_upload_for_a_cluster_holds_every_file_once(tmp_path: Path):
    from zipfile import ZipFile

    from ray._private.runtime_env.packaging import create_package

    create_package(str(ROOT), tmp_path / "upload.zip", include_gitignore=True)
    names = ZipFile(tmp_path / "upload.zip").namelist()
    assert [name for name in names if name.endswith("/boxes.py")] == ["jde_ray/models/boxes.py"]
    assert "jobs/track.py" in names
    assert not [name for name in names if name.startswith("tests/")]
