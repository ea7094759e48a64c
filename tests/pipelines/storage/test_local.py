import os
from pathlib import Path

import pytest

from jde_ray.pipelines.storage.local import LocalStore


def test_a_link_to_itself_is_no_object(tmp_path: Path):
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "a").touch()
    assert list(LocalStore(tmp_path).list("")) == ["a"]


def test_a_locked_folder_is_not_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A run that may not list its tracks would track all videos again."""
    for name in ("tracks/a", "summary.json", "lost+found/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    look = os.scandir

    def scandir(folder: str):
        if os.path.basename(folder) in ("tracks", "lost+found"):
            raise PermissionError(13, "Permission denied", folder)
        return look(folder)

    monkeypatch.setattr(os, "scandir", scandir)
    store = LocalStore(tmp_path)
    with pytest.raises(PermissionError):
        store.list("tracks/")
    assert list(store.list("summary")) == ["summary.json"]  # opens no other folder
    assert list(store.list("")) == ["summary.json"]
