"""What a search finds behind a source: videos, errors, and files that it passes over."""

from __future__ import annotations

import os
from pathlib import Path

from jde_ray.pipelines.errors import VideoError, printable
from jde_ray.pipelines.sources.passed_over import PassedOver
from jde_ray.pipelines.structures import Video

Failure = tuple[Video, VideoError]
Finding = Video | Failure | PassedOver

LONGEST_SOURCE = 4096  # characters; no system allows longer paths


def failure(source: str, error: VideoError) -> Failure:
    """The error of a source, with a video named by the absolute path or by the typed text."""
    is_object = source.startswith("s3://")
    text = printable(shown(source) if len(source) > LONGEST_SOURCE else source)
    uri = text if is_object else os.path.abspath(text.removeprefix("@"))
    return Video(uri, Path(uri).stem or "source"), error


def shown(source: str) -> str:
    """A source shortened for a message, since it may be any line of a list."""
    return source if len(source) <= 300 else f"{source[:300]}..."
