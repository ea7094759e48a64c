"""A folder as an object store: what is visible is whole, what is committed survives a power cut."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from pipelines.storage.base import Body

_TEMPORARY = ".tmp-"  # unfinished files; never listed


class LocalStore:
    """Objects as files under `root`, which must be shared by all machines of a cluster."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()

    @property
    def uri(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    def get(self, key: str) -> bytes:
        """Content of the file; FileNotFoundError if there is none."""
        return self._path(key).read_bytes()

    def put(self, key: str, body: Body) -> None:
        """Temporary file, fsync, rename over."""
        target = self._path(key)
        with self._temporary(target, body) as temporary:
            os.replace(temporary, target)
            _sync_folder(target.parent)

    def put_if_absent(self, key: str, body: Body) -> bool:
        """Temporary file, fsync, then a link, which fails if the name is taken."""
        target = self._path(key)
        if target.exists():
            return False
        with self._temporary(target, body) as temporary:
            try:
                os.link(temporary, target)
            except FileExistsError:
                return False
            _sync_folder(target.parent)
        return True

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, sorted."""
        folder = self._path(prefix.rpartition("/")[0] or ".")
        found = (p for p in folder.rglob("*") if p.is_file() and not p.name.startswith(_TEMPORARY))
        keys = (path.relative_to(self._root).as_posix() for path in found)
        return iter(sorted(key for key in keys if key.startswith(prefix)))

    def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """Remove the file if it is there."""
        self._path(key).unlink(missing_ok=True)

    def abort_uploads(self, prefix: str = "", keys: Collection[str] | None = None) -> int:
        """Nothing: an unfinished file is removed by whoever writes it."""
        return 0

    def _path(self, key: str) -> Path:
        path = self._root / key
        if ".." in path.parts or Path(key).is_absolute():
            raise ValueError(f"key: got {key!r}, accepted are paths inside {self._root}")
        return path

    @contextmanager
    def _temporary(self, target: Path, body: Body) -> Iterator[Path]:
        target.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=target.parent)
        try:
            with os.fdopen(number, "wb") as file:
                if isinstance(body, Path):
                    with body.open("rb") as source:
                        shutil.copyfileobj(source, file, 1 << 20)
                else:
                    file.write(body)
                os.fchmod(file.fileno(), 0o644)  # mkstemp makes it private
                file.flush()
                os.fsync(file.fileno())
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
