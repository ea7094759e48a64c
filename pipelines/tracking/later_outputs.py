"""Outputs made from committed tracks: drawn videos, and MOTChallenge text of earlier videos.

A drawn video (`--save-video`) is decoded once more; the text comes from the Parquet.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.formats.tracks import has_embeddings
from jde_ray.pipelines.output.layout import (
    DETECTIONS_PREFIX,
    TRACKS_PREFIX,
    VIDEOS_PREFIX,
    detections_key,
    tracks_key,
    video_key,
)
from jde_ray.pipelines.output.text_names import lacking_text, write_text
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.drawing import annotate
from jde_ray.pipelines.video.encoder import copy_sound

logger = logging.getLogger(__name__)

_READERS = 16  # threads that read the headers of files
# called as `pipelines.video.chunks.read_frames`
FrameReader = Callable[..., Iterator[tuple[int, float, NDArray[np.uint8]]]]


def render(
    out: str,
    video: Video,
    config: TrackConfig,
    read_frames: FrameReader,
    s3_endpoint: str | None = None,
) -> str:
    """Draw a video's committed tracks and put the mp4 into the store, with the source's sound.

    Args:
        out: Address of the run's store.
        video: A committed video.
        config: Its stride and frame limit decide which frames are drawn.
        read_frames: Called as `pipelines.video.chunks.read_frames`.
        s3_endpoint: URL of an S3 store other than AWS.

    Returns:
        Why it lacks sound, in one line; empty if it does not.
    """
    configure(s3_endpoint)
    store = open_store(out)
    file = open_parquet(store, tracks_key(video.video_id))
    facts = FileFacts.of(file.metadata)
    rate = facts.frames_per_second / config.vid_stride
    # of a damaged video as many frames as were tracked, up to the damage
    frames = read_frames(video, keep_partial=bool(facts.partial))
    most = facts.num_frames if facts.partial else config.max_frames
    seen = (frame for frame in frames if frame[0] % config.vid_stride == 0)
    with tempfile.TemporaryDirectory(prefix="jde-video-") as folder:
        path = Path(folder) / "video.mp4"
        annotate(islice(seen, most), file.read(), path, rate)
        said = copy_sound(video, path)
        store.put(video_key(video.video_id), path)
    return said


def write_missing(store: ObjectStore, videos: Sequence[Video], outputs: OutputConfig) -> None:
    """Write the text of videos that were committed without it, if it is wanted now."""
    if not outputs.save_mot:
        return
    for video_id in lacking_text(store, [video.video_id for video in videos]):
        write_text(store, video_id)


def missing(store: ObjectStore, videos: Sequence[Video], outputs: OutputConfig) -> list[Video]:
    """Those of the videos that are committed and not drawn yet; none if none are to be drawn."""
    if not outputs.save_video:
        return []
    committed, rendered = set(store.list(TRACKS_PREFIX)), set(store.list(VIDEOS_PREFIX))
    return [
        video
        for video in videos
        if tracks_key(video.video_id) in committed and video_key(video.video_id) not in rendered
    ]


def without_detections(store: ObjectStore, video_ids: Sequence[str]) -> list[str]:
    """Those of the videos that are committed and have no saved detections."""
    there = set(store.list(DETECTIONS_PREFIX))
    return [video_id for video_id in video_ids if detections_key(video_id) not in there]


def without_embeddings(store: ObjectStore, video_ids: Sequence[str]) -> list[str]:
    """Those of the videos whose committed tracks have no embeddings; reads only headers."""

    def has_none(video_id: str) -> bool:
        try:
            schema = open_parquet(store, tracks_key(video_id)).schema_arrow
        except (OSError, pa.ArrowException):
            return False  # the unreadable file is reported elsewhere
        return not has_embeddings(schema)

    with ThreadPoolExecutor(_READERS) as readers:
        lacking = list(readers.map(has_none, video_ids))
    return [video_id for video_id, lacks in zip(video_ids, lacking, strict=True) if lacks]


def log_sound(video: Video, said: str) -> None:
    """Log why a drawn video lacks sound, as `render` says it; nothing if it does not."""
    if said:
        logger.warning("save-video: no sound from %s: %s", video.uri, said)


def render_here(
    store: ObjectStore,
    videos: Sequence[Video],
    config: TrackConfig,
    outputs: OutputConfig,
    read_frames: FrameReader,
    s3_endpoint: str | None = None,
) -> int:
    """Draw the missing videos in this process; returns the number of videos."""
    undrawn = missing(store, videos, outputs)
    for video in undrawn:
        log_sound(video, render(store.uri, video, config, read_frames, s3_endpoint))
    return len(undrawn)


def render_all(
    store: ObjectStore,
    videos: Sequence[Video],
    config: TrackConfig,
    outputs: OutputConfig,
    read_frames: FrameReader,
    cpus: float,
    resources: ResourceConfig = ResourceConfig(),
    report: Callable[[int, int], None] = lambda drawn, of: None,
) -> int:
    """Draw the missing videos, as Ray tasks of `cpus` CPUs each; returns the number of videos.

    `report` is called with the numbers of videos that are drawn and that are to be drawn.

    Raises:
        RunError: If a video could not be drawn, after the others were.
    """
    if not outputs.save_video:
        return 0
    task: Any = ray.remote(render).options(num_cpus=cpus, max_retries=2)
    tasks = {
        task.remote(store.uri, video, config, read_frames, resources.s3_endpoint): video
        for video in missing(store, videos, outputs)
    }
    failed: list[str] = []
    waiting = list(tasks)
    while waiting:
        report(len(tasks) - len(waiting), len(tasks))
        (done, *_), waiting = ray.wait(waiting)
        try:
            log_sound(tasks[done], ray.get(done))
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            failed.append(f"{tasks[done].uri}: {' '.join(str(cause).split())}")
    # uploads of workers that were killed; those of another partition must stay
    store.abort_uploads(VIDEOS_PREFIX, {video_key(video.video_id) for video in tasks.values()})
    if failed:
        text = f"save-video: {len(failed)} videos could not be written, the first is {failed[0]}"
        raise RunError(text, ExitCode.INTERNAL)
    return len(tasks)
