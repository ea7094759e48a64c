"""What is saved beside committed tracks afterwards: drawn videos, and text of earlier videos.

A drawn video (`--save-video`) is decoded once more; MOTChallenge text comes from the Parquet.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError

from jde_ray.pipelines.config import Parts, ResourceConfig, TrackConfig, find_part
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.formats.tracks import has_embeddings, mot_text
from jde_ray.pipelines.output.layout import (
    DETECTIONS_PREFIX,
    MOT_PREFIX,
    TRACKS_PREFIX,
    VIDEOS_PREFIX,
    detections_key,
    mot_key,
    tracks_key,
    video_key,
)
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.drawing import annotate

logger = logging.getLogger(__name__)

_READERS = 16  # threads that read the headers of files


def render(
    out: str, video: Video, config: TrackConfig, parts: Parts, s3_endpoint: str | None = None
) -> None:
    """Draw a video's committed tracks and put the mp4 into the store.

    Args:
        out: Address of the run's store.
        video: A committed one.
        config: Of the run: frames that were not looked at are left out.
        parts: Which decoder.
        s3_endpoint: See `ResourceConfig`.
    """
    configure(s3_endpoint)
    store = open_store(out)
    file = open_parquet(store, tracks_key(video.video_id))
    rate = float(file.metadata.metadata[b"frames_per_second"]) / config.vid_stride
    frames: Iterator[tuple[int, float, NDArray]] = find_part(parts.frames)(video)  # type: ignore[type-arg]
    seen = (frame for frame in frames if frame[0] % config.vid_stride == 0)
    with tempfile.TemporaryDirectory(prefix="jde-video-") as folder:
        path = Path(folder) / "video.mp4"
        annotate(islice(seen, config.max_frames), file.read(), path, rate)
        store.put(video_key(video.video_id), path)


def write_missing_mot(store: ObjectStore, videos: Sequence[Video]) -> None:
    """MOTChallenge text of those of these videos that were committed without it."""
    committed, written = set(store.list(TRACKS_PREFIX)), set(store.list(MOT_PREFIX))
    for video in videos:
        key, text_key = tracks_key(video.video_id), mot_key(video.video_id)
        if key in committed and text_key not in written:
            try:
                table = open_parquet(store, key).read()
            except pa.ArrowException as error:  # told at the end: another line says what to do
                logger.info("%s cannot be read: %s", key, error)
                continue
            store.put(text_key, mot_text(table).encode())


def missing(store: ObjectStore, videos: Sequence[Video]) -> list[Video]:
    """Of these videos, the committed ones that were not rendered yet."""
    committed, rendered = set(store.list(TRACKS_PREFIX)), set(store.list(VIDEOS_PREFIX))
    return [
        video
        for video in videos
        if tracks_key(video.video_id) in committed and video_key(video.video_id) not in rendered
    ]


def without_detections(store: ObjectStore, video_ids: Sequence[str]) -> list[str]:
    """Of these committed videos, those whose detections are not there."""
    there = set(store.list(DETECTIONS_PREFIX))
    return [video_id for video_id in video_ids if detections_key(video_id) not in there]


def without_embeddings(store: ObjectStore, video_ids: Sequence[str]) -> list[str]:
    """Of these committed videos, those whose tracks hold no embeddings; only headers are read."""

    def has_none(video_id: str) -> bool:
        try:
            schema = open_parquet(store, tracks_key(video_id)).schema_arrow
        except (OSError, pa.ArrowException):
            return False  # another line says that it cannot be read
        return not has_embeddings(schema)

    with ThreadPoolExecutor(_READERS) as readers:
        lacking = list(readers.map(has_none, video_ids))
    return [video_id for video_id, lacks in zip(video_ids, lacking, strict=True) if lacks]


def render_all(
    store: ObjectStore,
    videos: Sequence[Video],
    config: TrackConfig,
    parts: Parts,
    cpus: float,
    resources: ResourceConfig = ResourceConfig(),
) -> int:
    """Render what is missing, as Ray tasks of `cpus` each; gives the number of videos.

    Raises:
        RunError: If a video could not be rendered; the others are.
    """
    task: Any = ray.remote(render).options(num_cpus=cpus, max_retries=2)
    tasks = {
        task.remote(store.uri, video, config, parts, resources.s3_endpoint): video
        for video in missing(store, videos)
    }
    failed: list[str] = []
    waiting = list(tasks)
    while waiting:
        (done, *_), waiting = ray.wait(waiting)
        try:
            ray.get(done)
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            failed.append(f"{tasks[done].uri}: {' '.join(str(cause).split())}")
    # of workers that were killed; what another partition is at must stay
    store.abort_uploads(VIDEOS_PREFIX, {video_key(video.video_id) for video in tasks.values()})
    if failed:
        text = f"save-video: {len(failed)} videos could not be written, the first is {failed[0]}"
        raise RunError(text, ExitCode.INTERNAL)
    return len(tasks)
