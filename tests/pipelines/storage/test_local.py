from pathlib import Path

from jde_ray.pipelines.storage.local import LocalStore


def test_a_link_to_itself_is_no_object(tmp_path: Path):
    (tmp_path / "ring").symlink_to("ring")
    (tmp_path / "a").touch()
    assert list(LocalStore(tmp_path).list("")) == ["a"]
