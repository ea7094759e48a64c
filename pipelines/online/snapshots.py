"""The state of a stream as bytes, and where such snapshots are kept beside their session.

Arrays in npz without pickle, so that a snapshot in a shared store is data and no program.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np

from models.tracking.tracker import JDETracker
from pipelines.config import TrackConfig
from pipelines.online.streams import Answer, Stream
from pipelines.storage import ObjectStore

FORMAT = "jde-stream 1"
_PREFIX = "tracker."


def dump(stream: Stream) -> bytes:
    """Everything that the stream's next frame and its retries depend on."""
    header = {
        "format": FORMAT,
        "name": stream.name,
        "owner": stream.owner,
        "model": stream.model,
        "frames_per_second": stream.tracker.frames_per_second,
        "expected": stream.expected,
        "size": stream.size,
        "answers": [asdict(answer) for answer in stream.answers.values()],
    }
    arrays = {_PREFIX + name: array for name, array in stream.tracker.get_state().items()}
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, header=np.array(json.dumps(header)), **arrays)
    return file.getvalue()


def load(content: bytes, config: TrackConfig) -> Stream:
    """Inverse of `dump`; the stream is marked as resumed.

    Args:
        content: Of `dump`.
        config: Settings of the association, the same as then.

    Raises:
        ValueError: If that is no snapshot, or one of other settings.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            header: dict[str, Any] = json.loads(str(file["header"]))
            state = {
                name.removeprefix(_PREFIX): file[name]
                for name in file.files
                if name.startswith(_PREFIX)
            }
    except (OSError, KeyError, EOFError, ValueError, BadZipFile) as error:
        raise ValueError(f"snapshot: it cannot be read ({type(error).__name__})") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"snapshot: got {header.get('format')!r}, accepted is {FORMAT!r}")
    tracker = JDETracker(config.tracking, header["frames_per_second"])
    tracker.set_state(state)
    answers = OrderedDict((values["seq"], Answer(**values)) for values in header["answers"])
    return Stream(
        header["name"],
        header["owner"],
        header["model"],
        tracker,
        header["expected"],
        None if header["size"] is None else (header["size"][0], header["size"][1]),
        answers,
        is_resumed=True,
        snapshot_seq=header["expected"],
    )


class SnapshotStore(Protocol):
    """Where a session replica keeps its streams, and finds those of its earlier lives."""

    async def put(self, name: str, content: bytes) -> None:
        """Replace the snapshot of a stream; it is kept when this returns."""
        ...

    async def get(self, name: str) -> bytes | None:
        """The newest snapshot of a stream."""
        ...

    async def delete(self, name: str) -> None:
        """Forget a stream."""
        ...


class NoSnapshots:
    """Nothing is kept: a killed replica loses its streams, and says so."""

    async def put(self, name: str, content: bytes) -> None:
        """Do nothing."""

    async def get(self, name: str) -> bytes | None:
        """None."""
        return None

    async def delete(self, name: str) -> None:
        """Do nothing."""


class StoredSnapshots:
    """In a folder or an S3 prefix: outlives the whole service.

    Args:
        store: Where.
        in_thread: Runs a blocking call without blocking the event loop.
    """

    def __init__(self, store: ObjectStore, in_thread: Callable[..., Awaitable[Any]]) -> None:
        self._store, self._in_thread = store, in_thread

    async def put(self, name: str, content: bytes) -> None:
        """One PUT."""
        await self._in_thread(self._store.put, _key(name), content)

    async def get(self, name: str) -> bytes | None:
        """One GET."""
        try:
            content: bytes = await self._in_thread(self._store.get, _key(name))
        except FileNotFoundError:
            return None
        return content

    async def delete(self, name: str) -> None:
        """One DELETE."""
        await self._in_thread(self._store.delete, _key(name))


def _key(name: str) -> str:
    return f"streams/{name}.npz"
