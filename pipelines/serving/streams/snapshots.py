"""Snapshots of streams as bytes, and the stores that keep them.

They are safetensors, so that a snapshot in a shared store is data, never a program.
"""

from __future__ import annotations

import json
import os
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from safetensors import SafetensorError
from safetensors import numpy as safetensors

from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.formats.places_file import PlacesFile
from jde_ray.pipelines.serving.streams.counting import StreamCounter
from jde_ray.pipelines.serving.streams.stream import Answer, Stream
from jde_ray.pipelines.storage.base import ObjectStore

FORMAT = "jde-stream 4"
_HEADER = "header"
_PREFIX, _COUNTER, _PICTURE = "tracker.", "counter.", "picture"
_SWEEP_EVERY_S = 60.0


def dump(stream: Stream) -> bytes:
    """A snapshot: everything that the stream's next frame and its retries depend on."""
    state = stream.tracker.get_state()
    header = {
        "format": FORMAT,
        "name": stream.name,
        "owner": stream.owner,
        "model": stream.model,
        "frames_per_second": stream.tracker.frames_per_second,
        "expected": stream.expected,
        "size": stream.size,
        "camera": stream.camera,
        "counted": None if stream.counter is None else stream.counter.digest,
        "answers": [vars(answer) for answer in stream.answers.values()],
        "words": {name: str(array) for name, array in state.items() if _is_text(array)},
    }
    arrays = {
        _PREFIX + name: np.ascontiguousarray(array)
        for name, array in state.items()
        if not _is_text(array)
    }
    if stream.counter is not None:
        arrays |= {
            _COUNTER + name: np.ascontiguousarray(array)
            for name, array in stream.counter.get_state().items()
        }
    if stream.picture is not None:
        arrays[_PICTURE] = np.ascontiguousarray(stream.picture)
    arrays[_HEADER] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    content: bytes = safetensors.save(arrays)
    return content


def _is_text(array: np.ndarray[Any, Any]) -> bool:
    return bool(array.dtype.kind == "U")


def load(content: bytes, config: TrackConfig, places: PlacesFile | None = None) -> Stream:
    """Inverse of `dump`; the stream is marked as resumed.

    Args:
        content: As `dump` returned it.
        config: Settings of the association, the same as for `dump`.
        places: Places of all cameras, the same as for `dump`.

    Raises:
        ValueError: If it is not a snapshot, is damaged, or has other settings.
    """
    try:
        return _load(content, config, places)
    except (LookupError, TypeError, AttributeError, MemoryError, OverflowError) as error:
        raise ValueError(f"snapshot: it is damaged ({type(error).__name__})") from error


def _load(content: bytes, config: TrackConfig, places: PlacesFile | None) -> Stream:
    try:
        arrays = safetensors.load(content)
        header: dict[str, Any] = json.loads(arrays.pop(_HEADER).tobytes())
        picture = arrays.pop(_PICTURE, None)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"snapshot: it cannot be read ({type(error).__name__})") from error
    if header.get("format") != FORMAT:
        raise ValueError(f"snapshot: got {header.get('format')!r}, expected {FORMAT!r}")
    counter = _load_counter(header, arrays, places)
    state = {
        name.removeprefix(_PREFIX): array
        for name, array in arrays.items()
        if name.startswith(_PREFIX)
    }
    state |= {name: np.array(text) for name, text in header["words"].items()}
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
        picture,
        answers,
        is_resumed=True,
        snapshot_seq=header["expected"],
        camera=header["camera"],
        counter=counter,
    )


def _load_counter(
    header: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]], places: PlacesFile | None
) -> StreamCounter | None:
    if header["counted"] is None or header["size"] is None:
        return None
    width, height = header["size"]
    counter = None if places is None else StreamCounter(places, header["camera"], (width, height))
    if counter is None or counter.digest != header["counted"]:
        raise ValueError("snapshot: its places are others than those of this service")
    own = {n.removeprefix(_COUNTER): a for n, a in arrays.items() if n.startswith(_COUNTER)}
    own["now_s"] = own["now_s"].reshape(())  # safetensors keeps no arrays of no dimension
    counter.set_state(own)
    return counter


class SnapshotStore(Protocol):
    """Where a session keeps its snapshots, and finds those of its predecessor."""

    async def put(self, name: str, content: bytes) -> None:
        """Replace the snapshot of a stream; it is stored when this returns."""
        ...

    async def get(self, name: str) -> bytes | None:
        """The newest snapshot of a stream."""
        ...

    async def delete(self, name: str) -> None:
        """Delete the snapshot of a stream."""
        ...


class NoSnapshots:
    """Keeps nothing: the streams of a killed replica are refused as lost."""

    async def put(self, name: str, content: bytes) -> None:
        """Do nothing."""

    async def get(self, name: str) -> bytes | None:
        """None."""
        return None

    async def delete(self, name: str) -> None:
        """Do nothing."""


class StoredSnapshots:
    """Keeps snapshots in a folder or an S3 prefix, which outlives the service.

    Args:
        store: The folder or prefix.
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


class SharedMemorySnapshots:
    """Keeps snapshots as files in this machine's memory, which outlive replicas.

    A file costs less than a call to another process per frame, and needs no thread.

    Args:
        folder: A folder below /dev/shm.
        lasts_s: Seconds after which a file that was not replaced is deleted: a replica that was
            killed could not delete it when its stream ended.
    """

    def __init__(self, folder: Path, lasts_s: float) -> None:
        self._folder, self._lasts_s = folder, lasts_s
        self._swept_s = time.monotonic()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def put(self, name: str, content: bytes) -> None:
        """Write a new file and rename it, so that a reader sees the old or the new snapshot."""
        temporary = self._folder / f".{name}.{os.getpid()}"
        temporary.write_bytes(content)
        temporary.replace(self._folder / name)
        if time.monotonic() > self._swept_s + _SWEEP_EVERY_S:
            self._swept_s = time.monotonic()
            self._sweep()

    async def get(self, name: str) -> bytes | None:
        """Read one file."""
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    async def delete(self, name: str) -> None:
        """Remove one file."""
        (self._folder / name).unlink(missing_ok=True)

    def _sweep(self) -> None:
        oldest_s = time.time() - self._lasts_s
        for path in self._folder.iterdir():
            try:
                if path.stat().st_mtime < oldest_s:
                    path.unlink()
            except FileNotFoundError:
                continue  # another session has just deleted it


def _key(name: str) -> str:
    return f"streams/{name}.safetensors"
