"""`jde doctor --store`: what it says of a store that creates once, and of one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from jde_ray.jobs.doctor import _store
from jde_ray.pipelines.storage.base import Body
from jde_ray.pipelines.storage.local import LocalStore


def said(uri: str) -> dict[str, tuple[bool | None, str]]:
    return {check.name: (check.is_good, check.text) for check in _store(uri, None)}


def test_a_folder_creates_once_and_is_left_clean(tmp_path: Path) -> None:
    checks = said(str(tmp_path))
    assert {name: good for name, (good, _) in checks.items()} == {
        "store": True, "store create-only": True, "store races": True,
    }  # fmt: skip
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_store_that_replaces_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replace(self: LocalStore, key: str, body: Body) -> bool:
        self.put(key, body)
        return True

    monkeypatch.setattr(LocalStore, "put_if_absent", replace)
    checks = said(str(tmp_path))
    assert checks["store create-only"][0] is False
    assert checks["store races"][0] is None
    assert "4 of 4 simultaneous creators" in checks["store races"][1]


def test_a_store_that_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    checks = said(str(tmp_path / "file"))
    assert checks["store"][0] is False
    assert said("ftp://x")["store"][1].startswith("ftp://x: out: got")
