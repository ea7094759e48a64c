"""What is saved beside committed tracks afterwards: drawn videos, and text of earlier videos.

A drawn video (`--save-video`) is decoded once more; MOTChallenge text comes from the Parquet.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray
from numpy.typing import NDArray
from ray.exceptions import RayError, RayTaskError

from pipelines.annotate import annotate
from pipelines.config import Parts, ResourceConfig, TrackConfig, find_part
from pipelines.errors import ExitCode, RunError
from pipelines.schema import Video
from pipelines.sink import mot_key, mot_text, tracks_key, video_key
from pipelines.storage import ObjectStore, configure, open_store


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
    file = pq.ParquetFile(io.BytesIO(store.get(tracks_key(video.video_id))))
    rate = float(file.metadata.metadata[b"frames_per_second"]) / config.vid_stride
    frames: Iterator[tuple[int, float, NDArray]] = find_part(parts.frames)(video)  # type: ignore[type-arg]
    seen = (frame for frame in frames if frame[0] % config.vid_stride == 0)
    with tempfile.TemporaryDirectory(prefix="jde-video-") as folder:
        path = Path(folder) / "video.mp4"
        annotate(islice(seen, config.max_frames), file.read(), path, rate)
        store.put(video_key(video.video_id), path)


def write_missing_mot(store: ObjectStore, videos: Sequence[Video]) -> None:
    """MOTChallenge text of those of these videos that were committed without it."""
    committed, written = set(store.list("tracks/")), set(store.list("mot/"))
    for video in videos:
        key, text_key = tracks_key(video.video_id), mot_key(video.video_id)
        if key in committed and text_key not in written:
            table = pq.read_table(io.BytesIO(store.get(key)))
            store.put(text_key, mot_text(table).encode())


def missing(store: ObjectStore, videos: Sequence[Video]) -> list[Video]:
    """Of these videos, the committed ones that were not rendered yet."""
    committed, rendered = set(store.list("tracks/")), set(store.list("videos/"))
    return [
        video
        for video in videos
        if tracks_key(video.video_id) in committed and video_key(video.video_id) not in rendered
    ]


def render_all(
    store: ObjectStore,
    videos: Sequence[Video],
    config: TrackConfig,
    parts: Parts,
    cpus: float,
    resources: ResourceConfig = ResourceConfig(),
) -> None:
    """Render what is missing, as Ray tasks of `cpus` each.

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
    store.abort_uploads("videos/", {video_key(video.video_id) for video in tasks.values()})
    if failed:
        text = f"save-video: {len(failed)} videos could not be written, the first is {failed[0]}"
        raise RunError(text, ExitCode.INTERNAL)
