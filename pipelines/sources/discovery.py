"""Finds the videos behind the sources that a user names; decodes nothing.

A source is a video file, a folder, a glob, a list (`@list.txt`, or a `.csv` with a column
`source`), an image, a folder of images, or any of the first three on S3.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from jde_ray.pipelines.config import SourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.sources.cameras import from_pattern, merged
from jde_ray.pipelines.sources.findings import Failure
from jde_ray.pipelines.sources.passed_over import PassedOver, describe
from jde_ray.pipelines.sources.search import Source, SourceSearch, list_sources
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.wall_clock import read_zone

logger = logging.getLogger(__name__)


class Found(NamedTuple):
    """Videos, and sources without a video with their errors; both sorted by URI."""

    videos: list[Video]
    failures: list[Failure]


Sources = Source | Iterable[Source] | Found


def find_videos(sources: Sources, config: SourceConfig = SourceConfig()) -> Found:
    """Videos behind `sources`, sorted by URI, each once, with camera and start as far as they say.

    A folder is searched recursively for files with a video suffix and for MOTChallenge sequences
    (`img1/` and `seqinfo.ini`, named by the sequence's folder). Other files, hidden ones, links to
    folders, and videos that a run drew into its OUT are skipped. A folder of images with neither
    is one video. One line in the log summarises what was skipped.

    Args:
        sources: One source or several, as typed. A `Found` is returned unchanged.
        config: The pattern of addresses that tells camera and start, and the zone of the times.

    Raises:
        RunError: If there is no video at all, a source is of a kind that cannot be read, two
            videos have one id, the pattern fits no video, or a list says no time where it should.
    """
    if isinstance(sources, Found):
        return sources
    videos: dict[str, Video] = {}
    failures: dict[str, Failure] = {}
    passed_over: list[PassedOver] = []
    search = SourceSearch(read_zone(config.timezone))
    for source in list_sources(sources):
        for item in search.expand(source):
            if isinstance(item, Video):
                before = videos.get(item.uri)
                videos[item.uri] = item if before is None else merged(before, item)
            elif isinstance(item, PassedOver):
                passed_over.append(item)
            else:
                failures.setdefault(item[0].uri, item)
    if passed_over:
        logger.warning("%s", describe(passed_over))
    if not videos:
        details = [error.detail for _, error in failures.values()] or ["no source given"]
        more = f" (and {len(details) - 1} more)" if len(details) > 1 else ""
        is_camera = any(str(source).isdecimal() for source in list_sources(sources))
        more += "; jde serve and jde_ray.Tracker take the frames of cameras" if is_camera else ""
        raise RunError(f"no video found: {details[0]}{more}", ExitCode.REFUSED)
    named = from_pattern([videos[uri] for uri in sorted(videos)], config)
    found = Found(named, [failures[uri] for uri in sorted(failures)])
    _check_ids([*found.videos, *(video for video, _ in found.failures)])
    return found


def _check_ids(videos: Sequence[Video]) -> None:
    """Refuse two videos with one id, since the results of one would replace the other's."""
    owners: dict[str, str] = {}
    for video in videos:
        owner = owners.setdefault(video.video_id, video.uri)
        if owner != video.uri:
            raise RunError(
                f"source: {owner} and {video.uri} have one id, {video.video_id}; rename one",
                ExitCode.REFUSED,
            )
