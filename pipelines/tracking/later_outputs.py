"""Outputs made from committed tracks: drawn videos, crops, MOTChallenge text of earlier videos.

For pictures (`--save-video`, `--save-crops`) a video is decoded once more for each kind; the text
comes from the Parquet.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import DAMAGE, ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.formats.tracks import TrackRows, has_embeddings, read_columns
from jde_ray.pipelines.output.layout import (
    CROP_INDEX_PREFIX,
    DETECTIONS_PREFIX,
    TRACKS_PREFIX,
    VIDEOS_PREFIX,
    crop_index_key,
    detections_key,
    tracks_key,
    video_key,
)
from jde_ray.pipelines.output.picture_record import record_pictures
from jde_ray.pipelines.output.text_names import lacking_text, write_text
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.s3_client import configure
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking.crops import write_crops
from jde_ray.pipelines.video.blurring import blur_frames, coverage_of
from jde_ray.pipelines.video.containers import to_video_error
from jde_ray.pipelines.video.drawing import annotate
from jde_ray.pipelines.video.encoder import copy_sound
from jde_ray.pipelines.video.frame import Image

logger = logging.getLogger(__name__)

_KINDS = ("save_video", "save_crops")
_READERS = 16  # threads that read the headers of files
# called as `pipelines.video.chunks.read_frames`
FrameReader = Callable[..., Iterator[tuple[int, float, Image]]]


@dataclass(frozen=True)
class Pictures:
    """What came of the pictures.

    Attributes:
        drawn: Number of videos that were drawn.
        cropped: Number of videos whose tracks were cropped.
        failed: Address of each video whose pictures could not be made, and why.
    """

    drawn: int = 0
    cropped: int = 0
    failed: tuple[tuple[str, VideoError], ...] = ()

    @staticmethod
    def of(made: Sequence[OutputConfig], failed: Sequence[tuple[str, VideoError]]) -> Pictures:
        """The numbers of what was made for each video, and what was not."""
        drawn, cropped = (sum(getattr(one, name) for one in made) for name in _KINDS)
        return Pictures(drawn, cropped, tuple(failed))


def render(
    out: str,
    video: Video,
    config: TrackConfig,
    outputs: OutputConfig,
    read_frames: FrameReader,
    s3_endpoint: str | None = None,
) -> str:
    """Make the pictures of a committed video: the video drawn, crops of its tracks, or both.

    Args:
        out: Address of the run's store.
        video: A committed video.
        config: Its stride and frame limit decide which frames are drawn.
        outputs: Pictures to make, and what to blur on them.
        read_frames: Called as `pipelines.video.chunks.read_frames`.
        s3_endpoint: URL of an S3 store other than AWS.

    Returns:
        Why a drawn video lacks sound, in one line; empty if it does not.

    Raises:
        VideoError: If the video or its tracks cannot be read.
        OSError: If OUT cannot be written.
    """
    configure(s3_endpoint)
    store = open_store(out)
    try:
        file = open_parquet(store, tracks_key(video.video_id))
        facts, table = FileFacts.of(file.metadata), read_columns(file)
        tracks = TrackRows.from_table(table).to_trajectories()
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        text = f"its tracks cannot be read ({error})"
        raise VideoError(Reason.INTERNAL, text) from error
    stride = config.vid_stride
    part = outputs.blur
    coverage = None if part == "none" else coverage_of(tracks, part, stride=stride)

    def frames() -> Iterator[tuple[int, float, Image]]:
        seen = _tracked_frames(video, facts, config, read_frames)
        if part == "none" or coverage is None:
            return seen
        return blur_frames(seen, coverage, part)

    if outputs.save_crops:
        write_crops(store, video, tracks, facts.size, frames(), outputs)
    if not outputs.save_video:
        return ""
    with tempfile.TemporaryDirectory(prefix="jde-video-") as folder:
        path = Path(folder) / "video.mp4"
        annotate(frames(), table, path, facts.frames_per_second / stride)
        said = copy_sound(video, path)
        store.put(video_key(video.video_id), path)
    return said


def _tracked_frames(
    video: Video, facts: FileFacts, config: TrackConfig, read_frames: FrameReader
) -> Iterator[tuple[int, float, Image]]:
    """The frames that were tracked, and no other: what comes after them may be damaged.

    Raises:
        VideoError: If the video cannot be read that far.
    """
    most = facts.num_frames if b"num_frames" in facts.metadata else None
    limit = config.max_frames if most is None else most
    count, damage = 0, None
    # a file that is refused for damage behind these frames was tracked with --keep-partial
    for keep_partial in (False, True)[bool(facts.partial) :]:
        read = read_frames(video, keep_partial=keep_partial)
        try:
            own = (frame for frame in read if frame[0] % config.vid_stride == 0)
            for frame in islice(own, count, limit):
                yield frame
                count += 1
            break
        except VideoError as error:
            if keep_partial or error.reason not in DAMAGE:
                raise
            damage = error
        except OSError as error:  # not of OUT, which is blamed for those
            raise to_video_error(error, count) from error
    if damage is not None and (limit is None or count < limit):
        raise damage
    if most is not None and count < most:
        detail = f"got {count} frames, expected the {most} that were tracked"
        raise VideoError(Reason.TRUNCATED, detail)


def write_missing(store: ObjectStore, videos: Sequence[Video], outputs: OutputConfig) -> None:
    """Write the text of videos that were committed without it, if it is wanted now."""
    if not outputs.save_mot:
        return
    for video_id in lacking_text(store, [video.video_id for video in videos]):
        write_text(store, video_id)


def missing(store: ObjectStore, videos: Sequence[Video], outputs: OutputConfig) -> list[Video]:
    """Those of the videos that are committed and lack pictures that are wanted now."""
    return [video for video, _ in _lacking(store, videos, outputs)]


def _lacking(
    store: ObjectStore, videos: Sequence[Video], outputs: OutputConfig
) -> list[tuple[Video, OutputConfig]]:
    """Committed videos, each with the pictures that it lacks; none if none are wanted."""
    if not outputs.has_pictures:
        return []
    committed = set(store.list(TRACKS_PREFIX))
    drawn = set(store.list(VIDEOS_PREFIX)) if outputs.save_video else set()
    cropped = set(store.list(CROP_INDEX_PREFIX)) if outputs.save_crops else set()
    found = []
    for video in videos:
        video_id = video.video_id
        own = replace(
            outputs,
            save_video=outputs.save_video and video_key(video_id) not in drawn,
            save_crops=outputs.save_crops and crop_index_key(video_id) not in cropped,
        )
        if tracks_key(video_id) in committed and own.has_pictures:
            found.append((video, own))
    return found


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
) -> Pictures:
    """Make the missing pictures of videos in this process.

    Raises:
        RunError: If OUT cannot be written, or no video can be drawn here.
    """
    lacking = _lacking(store, videos, outputs)
    record_pictures(store, outputs)
    made: list[OutputConfig] = []
    failed: list[tuple[str, VideoError]] = []
    for video, own in lacking:
        try:
            log_sound(video, render(store.uri, video, config, own, read_frames, s3_endpoint))
        except Exception as error:  # noqa: BLE001  a video never ends a run
            failed.append((video.uri, _fault_of_video(error, store)))
        else:
            made.append(own)
    return Pictures.of(made, failed)


def _fault_of_video(error: BaseException, store: ObjectStore) -> VideoError:
    """Why the pictures of a video could not be made.

    Raises:
        RunError: If the video is not to blame.
    """
    if isinstance(error, RunError):
        raise error
    if isinstance(error, OSError):  # of the store, as the reader maps those of the video
        text = f"cannot write to {store.uri}: {error}"
        raise RunError(text, ExitCode.INTERNAL) from error
    return to_video_error(error)


def render_all(
    store: ObjectStore,
    videos: Sequence[Video],
    config: TrackConfig,
    outputs: OutputConfig,
    read_frames: FrameReader,
    cpus: float,
    resources: ResourceConfig = ResourceConfig(),
    report: Callable[[int, int], None] = lambda done, of: None,
) -> Pictures:
    """Make the missing pictures of videos, as Ray tasks of `cpus` CPUs each.

    `report` is called with the numbers of videos whose pictures are made and are to be made.

    Raises:
        RunError: As `render_here`, after the others were made.
    """
    if not outputs.has_pictures:
        return Pictures()
    import ray
    from ray.exceptions import RayError, RayTaskError

    lacking = _lacking(store, videos, outputs)
    record_pictures(store, outputs)
    task: Any = ray.remote(render).options(num_cpus=cpus, max_retries=2)
    tasks = {
        task.remote(store.uri, video, config, own, read_frames, resources.s3_endpoint): (video, own)
        for video, own in lacking
    }
    made: list[OutputConfig] = []
    errors: list[tuple[str, BaseException]] = []
    waiting = list(tasks)
    while waiting:
        report(len(tasks) - len(waiting), len(tasks))
        (done, *_), waiting = ray.wait(waiting)
        video, own = tasks[done]
        try:
            log_sound(video, ray.get(done))
        except RayTaskError as error:
            errors.append((video.uri, error.cause))
        except RayError as error:
            text = " ".join(str(error).split())
            errors.append((video.uri, VideoError(Reason.WORKER_DIED, text)))
        else:
            made.append(own)
    # uploads of workers that were killed; those of another partition must stay
    store.abort_uploads(VIDEOS_PREFIX, {video_key(video.video_id) for video, _ in tasks.values()})
    failed = [(uri, _fault_of_video(error, store)) for uri, error in errors]
    return Pictures.of(made, failed)
