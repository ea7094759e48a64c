"""When a recording began, by the header of its container."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jde_ray.pipelines.wall_clock import from_container, to_microseconds


def recording_start(container: Any, stream: Any) -> int | None:
    """`creation_time` of an open container, else of its video, in microseconds since 1970.

    None if there is none, or a clock that was never set wrote it (before 1990, or in the future by
    more than a day). Some cameras write the end of the recording, which cannot be told apart.
    """
    for metadata in (container.metadata, stream.metadata):
        text = metadata.get("creation_time")
        if text and (moment := from_container(text, datetime.now(UTC))) is not None:
            return to_microseconds(moment)
    return None
