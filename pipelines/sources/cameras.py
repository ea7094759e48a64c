"""Gives videos their camera and start: from the pattern of addresses, else from a list.

Where neither says a start, the container does once it is opened (`pipelines.video`).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from jde_ray.pipelines.config import SourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError, printable
from jde_ray.pipelines.source_pattern import SourcePattern
from jde_ray.pipelines.sources.lists import Entry
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.wall_clock import read_zone, to_text, to_utc

logger = logging.getLogger(__name__)

Other = TypeVar("Other")


def from_pattern(videos: Sequence[Video], config: SourceConfig) -> list[Video]:
    """The videos with the camera and the start that their addresses tell.

    A video that does not fit keeps what a list says; a warning counts such videos and names the
    first.

    Raises:
        RunError: If no video fits the pattern.
    """
    if config.source_pattern is None or not videos:
        return list(videos)
    pattern, zone = SourcePattern.parse(config.source_pattern), read_zone(config.timezone)
    known: list[Video] = []
    misfits: list[str] = []
    for video in videos:
        try:
            labels = pattern.match(video.uri, video.name)
            start = None if labels.start is None else to_utc(labels.start, zone)
        except (ValueError, OverflowError) as error:
            misfits.append(f"{video.uri}: {error}")
            known.append(video)
            continue
        camera, start = labels.camera or video.camera, start or video.start
        known.append(replace(video, camera=camera, start=start))
    if misfits:
        first = printable(misfits[0])
        if len(misfits) == len(videos):
            raise RunError(
                f"source-pattern: fits none of {len(videos)} videos; {first}", ExitCode.REFUSED
            )
        logger.warning(
            "source-pattern: %d of %d videos do not fit, so that it tells neither camera nor start"
            " of them; %s",
            len(misfits),
            len(videos),
            first,
        )
    return known


def from_entry(found: Iterator[Other], entry: Entry) -> Iterator[Other | Video]:
    """What was found behind a line of a list, with the camera and start of the line.

    What a list inside the list says comes first.

    Raises:
        RunError: If the line states the start of several videos.
    """
    if entry.start is not None:
        known = list(found)
        if (number := sum(isinstance(one, Video) for one in known)) > 1:
            raise RunError(
                f"start: got one for {number} videos, expected a source of one", ExitCode.REFUSED
            )
        found = iter(known)
    for one in found:
        if isinstance(one, Video):
            start = entry.start if one.start is None else one.start
            yield replace(one, camera=one.camera or entry.camera, start=start)
        else:
            yield one


def merged(first: Video, second: Video) -> Video:
    """One video that was found twice, with what either source says.

    Raises:
        RunError: If they disagree on its camera or start.
    """
    values = {"camera": (first.camera, second.camera)}
    values["start"] = (to_text(first.start), to_text(second.start))
    for name, (one, other) in values.items():
        if one is not None and other is not None and one != other:
            raise RunError(
                f"{name}: got {one!r} and {other!r} for {printable(first.uri)}, expected one",
                ExitCode.REFUSED,
            )
    return replace(first, camera=first.camera or second.camera, start=first.start or second.start)
