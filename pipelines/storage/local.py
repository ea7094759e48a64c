"""A folder as an object store: visible files are complete, committed ones survive a power cut."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from jde_ray.pipelines.processes import mark, sweep
from jde_ray.pipelines.storage.base import Body

_TEMPORARY = ".tmp-"  # unfinished files; never listed


class LocalStore:
    """Objects as files under `root`, which must be shared by all machines of a cluster."""

    def __init__(self, root: Path) -> None:
        absolute = root.absolute()
        # resolve `..` through links, as the system does; other paths are kept as given
        self._root = Path(os.path.realpath(absolute)) if ".." in absolute.parts else absolute
        self._swept: set[Path] = set()

    @property
    def uri(self) -> str:
        """The folder's absolute path."""
        return str(self._root)

    def get(self, key: str) -> bytes:
        """Content of the file; FileNotFoundError if it does not exist."""
        return self._path(key).read_bytes()

    def open(self, key: str) -> BinaryIO:
        """The open file; FileNotFoundError if it does not exist."""
        path = self._path(key)
        if path.is_dir():
            raise IsADirectoryError(21, "is a folder", str(path))
        return path.open("rb")

    def put(self, key: str, body: Body) -> None:
        """Write a temporary file, fsync it, and rename it over the target."""
        target = self._path(key)
        with self._temporary(target, body) as temporary:
            os.replace(temporary, target)
            _sync_folder(target.parent)

    def put_if_absent(self, key: str, body: Body) -> bool:
        """Write a file without a name, fsync it, and link it, which fails if the name is taken.

        A killed writer leaves nothing behind. On file systems without nameless files (NFS) it is a
        temporary file, which the next writer in that folder removes.
        """
        target = self._path(key)
        with suppress(FileNotFoundError):
            if stat.S_ISDIR(os.stat(target).st_mode):  # it would look like another writer's object
                raise IsADirectoryError(21, "is a folder", str(target))
            return False
        self._make_folder(target.parent)
        number = _open_nameless(target.parent)
        if number is None:
            with self._temporary(target, body) as temporary:
                return _linked(temporary, target)
        with os.fdopen(number, "wb") as file:
            _fill(file, body)
            return _linked(Path(f"/proc/self/fd/{number}"), target)

    def list(self, prefix: str) -> Iterator[str]:
        """Keys that start with `prefix`, sorted; PermissionError if their folder is locked."""
        folder = prefix.rpartition("/")[0]
        above = f"{folder}/" if folder else ""
        return iter(sorted(_files_below(os.fspath(self._path(folder or ".")), above, prefix)))

    def exists(self, key: str) -> bool:
        """Whether the file exists."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """Remove the file if it exists."""
        self._path(key).unlink(missing_ok=True)

    def abort_uploads(self, prefix: str = "", keys: Collection[str] | None = None) -> int:
        """Do nothing: unfinished files are removed by their writer, or by the next one there."""
        return 0

    def _path(self, key: str) -> Path:
        if ".." in key.split("/") or key.startswith("/"):
            raise ValueError(f"key: got {key!r}, expected paths inside {self._root}")
        return self._root / key

    def _make_folder(self, folder: Path) -> None:
        """Create a folder and, once, remove unfinished files of killed writers from it."""
        if not os.path.isdir(folder):
            folder.mkdir(parents=True, exist_ok=True)
        if folder not in self._swept:
            self._swept.add(folder)
            sweep(folder, _TEMPORARY)

    @contextmanager
    def _temporary(self, target: Path, body: Body) -> Iterator[Path]:
        self._make_folder(target.parent)
        number, name = tempfile.mkstemp(prefix=f"{_TEMPORARY}{mark()}-", dir=target.parent)
        try:
            with os.fdopen(number, "wb") as file:
                _fill(file, body)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


def _files_below(folder: str, above: str, prefix: str) -> Iterator[str]:
    """Complete files of a folder and its subfolders, each after `above`; no links to folders.

    Only those that start with `prefix`; folders in which there is none are not opened.
    """
    try:
        entries = list(os.scandir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return
    except PermissionError:
        if prefix:  # as if nothing were there, a run would track all videos again
            raise
        return  # of all that is there it may be anybody's, such as lost+found
    for entry in entries:
        if not f"{above}{entry.name}".startswith(prefix):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files_below(entry.path, f"{above}{entry.name}/", prefix)
        elif entry.name.startswith(_TEMPORARY):
            continue
        elif entry.is_file(follow_symlinks=False) or os.path.isfile(
            entry.path
        ):  # no link in a ring
            yield above + entry.name


def _open_nameless(folder: Path) -> int | None:
    """Descriptor of a new file without a name; None if the file system does not support it."""
    if not hasattr(os, "O_TMPFILE"):
        return None
    try:
        return os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o644)
    except OSError:  # for other reasons, creating a named file fails too and reports them
        return None


def _fill(file: BinaryIO, body: Body) -> None:
    """Write the body and fsync it."""
    if isinstance(body, Path):
        with body.open("rb") as source:
            shutil.copyfileobj(source, file, 1 << 20)
    else:
        file.write(body)
    os.fchmod(file.fileno(), 0o644)  # mkstemp makes files private
    file.flush()
    os.fsync(file.fileno())


def _linked(unfinished: Path, target: Path) -> bool:
    """Link a finished file to its name; return False if the name is taken."""
    folder = os.open(target.parent, os.O_RDONLY)
    try:  # with a folder descriptor Python calls linkat, which follows /proc/self/fd to the file
        os.link(unfinished, target, src_dir_fd=folder, follow_symlinks=True)
        os.fsync(folder)
    except FileExistsError:
        return False
    finally:
        os.close(folder)
    return True


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
