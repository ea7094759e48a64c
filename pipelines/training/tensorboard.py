"""Curves of a training for TensorBoard, and for tools that read its files."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jde_ray.pipelines.storage.base import ObjectStore

FOLDER = "tensorboard"


class EventFile:
    """A growing file of events in `tensorboard/`; it is rewritten completely, like a `Table`.

    Nothing is created before the first value.

    Args:
        store: Store that holds the file.
        last_step: Values of later steps in earlier files are void, since those steps are repeated.
    """

    def __init__(self, store: ObjectStore, last_step: int) -> None:
        self._store, self._last_step = store, last_step
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._writer: Any = None

    def add(self, step: int, values: Mapping[str, float | int | str], prefix: str = "") -> None:
        """Add the numbers of a row; texts and what is not finite are left out.

        Args:
            step: Steps done.
            values: Numbers by name; `loss_` and `weight_` become groups of curves.
            prefix: Group of the others, such as `validation/`.
        """
        from tensorboardX.proto.event_pb2 import Event, SessionLog
        from tensorboardX.proto.summary_pb2 import Summary

        if self._writer is None:
            begin = SessionLog(status=SessionLog.START)
            self._open().write_event(
                Event(wall_time=time.time(), step=self._last_step + 1, session_log=begin)
            )
        points = [
            Summary.Value(tag=prefix + _tag(name), simple_value=value)
            for name, value in values.items()
            if isinstance(value, int | float) and math.isfinite(value) and name != "step"
        ]
        event = Event(wall_time=time.time(), step=step, summary=Summary(value=points))
        self._writer.write_event(event)

    def _open(self) -> Any:
        # not its SummaryWriter, whose thread writes later than its flush
        from tensorboardX.event_file_writer import EventsWriter  # comes with Ray Train

        self._folder = tempfile.TemporaryDirectory(prefix="jde-tensorboard-")
        prefix = Path(self._folder.name) / "events"
        self._writer = EventsWriter(str(prefix), f".after-{self._last_step}")
        return self._writer

    def flush(self) -> None:
        """Write the file."""
        if self._writer is None or self._folder is None:
            return
        self._writer.flush()
        for path in Path(self._folder.name).iterdir():
            self._store.put(f"{FOLDER}/{path.name}", path.read_bytes())


def _tag(name: str) -> str:
    return name.replace("loss_", "loss/", 1).replace("weight_", "weight/", 1)
