"""Contracts between stages: sources, segments, chunks of frames, chunks of detections, rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import Detections, Tracks
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.names import make_id
from jde_ray.pipelines.wall_clock import from_microseconds

DEFAULT_RATE = 30.0


@dataclass(frozen=True, slots=True)
class Video:
    """One input.

    Attributes:
        uri: Canonical address: absolute path or s3://...
        name: Stem of the file's name, or the folder's name; becomes part of the id.
        is_image_folder: Whether its frames are images.
        frames_per_second: From seqinfo.ini; None: that of the container.
        num_bytes: Size of the listed file; 0: unknown.
        version: Version of the listed file, which changes with its content.
        camera: Camera that recorded it; None if unknown.
        start: When the recording began, in UTC; None if unknown.
    """

    uri: str
    name: str
    is_image_folder: bool = False
    frames_per_second: float | None = None
    num_bytes: int = field(default=0, compare=False)
    version: str = field(default="", compare=False)
    camera: str | None = field(default=None, compare=False)
    start: datetime | None = field(default=None, compare=False)

    @property
    def video_id(self) -> str:
        """The key-safe name and 16 hex digits of the hash of the URI; see `pipelines.names`."""
        return make_id(self.name, self.uri)

    @property
    def source_version(self) -> str:
        """The video's part of `version`; the version of its saved detections may follow it."""
        return self.version.partition("|")[0]


@dataclass(frozen=True)
class Keyframe:
    """A frame at which decoding can start.

    Attributes:
        frame: 0-based rank among all frames of the video.
        pts: Presentation time stamp, in the stream's own unit.
    """

    frame: int
    pts: int


@dataclass(frozen=True)
class ChosenSize:
    """The input size that was chosen for a video.

    Attributes:
        size: Width and height in pixels.
        why: The reason, for people.
    """

    size: tuple[int, int]
    why: str

    def __str__(self) -> str:
        return f"{self.size[0]}x{self.size[1]}"


@dataclass(frozen=True)
class Segment:
    """A range of frames of one video, the input row of the dataflow; by default all its frames.

    Attributes:
        video: The video that the frames belong to.
        attempt: Number of the attempt at this video; older attempts are fenced off.
        start_frame: First frame, at a chunk boundary.
        stop_frame: Frame after the last one, at a chunk boundary; None for the end of the video.
        seek: Keyframe at which decoding starts, not after `start_frame`, nor after the frame taken
            before it if the camera's motion is estimated; None for the beginning.
        stop_pts: Stamp of `stop_frame`, which verifies the numbering of frames.
        num_frames: Frames in the whole video, which verifies the last segment; None if unknown.
        version: Version of the file when it was split, or when it was listed if a checkpoint is
            resumed; a file of another version is refused. Empty for any.
        checkpoint: Key in OUT of the checkpoint that the association resumes; empty for none.
        may_cut: Whether it may be split into several segments.
        replaces: Whether OUT may hold results of an earlier run; new results replace them.
        keep_partial: Whether a damaged video keeps the frames before the damage.
        chosen: Size of the network's input for this video; None for that of the run.
    """

    video: Video
    attempt: int = 0
    start_frame: int = 0
    stop_frame: int | None = None
    seek: Keyframe | None = None
    stop_pts: int | None = None
    num_frames: int | None = None
    version: str = ""
    checkpoint: str = ""
    may_cut: bool = True
    replaces: bool = False
    keep_partial: bool = False
    chosen: ChosenSize | None = None

    @property
    def is_part(self) -> bool:
        """Whether frames before or after it belong to other segments."""
        return self.start_frame > 0 or self.stop_frame is not None


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video as the decoder found them.

    Attributes:
        width: Frame width in source pixels, after display rotation.
        height: Frame height in source pixels, after display rotation.
        frames_per_second: Nominal rate, for the lost-track buffer.
        num_frames: Number of frames that the container states, 0 if it states none; used only to
            estimate the remaining time.
        start_us: When the recording began according to the container, in microseconds since 1970 in
            UTC; None if it does not say.
        version: Version of the file that was opened; empty if it was not the video's own.
    """

    width: int
    height: int
    frames_per_second: float
    num_frames: int = field(default=0, compare=False)
    start_us: int | None = field(default=None, compare=False)
    version: str = field(default="", compare=False)

    def as_opened(self, video: Video) -> Video:
        """The listed video as it was opened, hours later perhaps.

        Its version is that of the file which was read, and its start is the container's if nothing
        else says one.
        """
        start = video.start
        if start is None and self.start_us is not None:
            start = from_microseconds(self.start_us)
        return replace(video, version=self.version or video.version, start=start)


@dataclass(frozen=True)
class FrameChunk:
    """T frames of one video, letterboxed for the network: one row of the dataset.

    Attributes:
        video_id: Id of the video that the frames belong to.
        attempt: Attempt of the segment.
        chunk_index: Number 0, 1, ... over the whole video.
        frame_index: `(n,)` int64 0-based source frame numbers, n <= T.
        time_s: `(n,)` float64 presentation times in seconds.
        frames: `(T, H, W, 3)` uint8 RGB; rows from n on are padding.
        info: Size and rate of the video.
        is_last: Whether no chunk follows.
        error: Error at which decoding ended; then n is 0 and no chunk follows.
        num_damaged: Frames of this chunk in which the decoder concealed missing data.
        decode_whole: The frames differ from the packets by which the video was split, so it must be
            decoded again as one segment. `error` is set too, but no user sees it.
        is_partial: The chunks so far hold all frames before `error`, and are kept.
        camera_motion: `(n, 2, 3)` float64, per frame the affine map from source pixels of the frame
            taken before to its own (`pipelines.video.camera_motion`); None if it is not estimated,
            and the camera counts as standing.
    """

    video_id: str
    attempt: int
    chunk_index: int
    frame_index: NDArray[np.int64]
    time_s: NDArray[np.float64]
    frames: NDArray[np.uint8]
    info: VideoInfo
    is_last: bool
    error: VideoError | None = None
    num_damaged: int = 0
    decode_whole: bool = False
    is_partial: bool = False
    camera_motion: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class DetectionChunk:
    """A detector's delivery to the association: a `FrameChunk` with detections instead of pixels.

    Attributes:
        detections: One value per frame, in the order of `frame_index`.
        num_capped: Detections dropped by `max_detections` in this chunk.
        num_crops: Boxes of this chunk that the re-identification network looked at.
        error: Error of the decoder or the detector; then `detections` is empty.
    """

    video_id: str
    attempt: int
    chunk_index: int
    frame_index: NDArray[np.int64]
    time_s: NDArray[np.float64]
    info: VideoInfo
    is_last: bool
    detections: list[Detections]
    num_capped: int = 0
    error: VideoError | None = None
    num_damaged: int = 0
    decode_whole: bool = False
    is_partial: bool = False
    camera_motion: NDArray[np.float64] | None = None
    num_crops: int = 0


@dataclass(frozen=True)
class TrackedFrame:
    """Tracks of one frame, as a session passes them to the row writer."""

    frame_index: int
    time_s: float
    tracks: Tracks
    embeddings: NDArray[np.float16] | None = None


@dataclass(slots=True)
class Counts:
    """Counts of one video or, added up, of a run; all that is dropped is counted by cause."""

    frames: int = 0
    damaged: int = 0  # frames with missing data that the decoder concealed
    detections: int = 0
    rows: int = 0
    tracks: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # cause -> rows or detections
    crops: int = 0  # detections that the re-identification network looked at

    def drop(self, cause: str, number: int) -> None:
        """Count `number` things left out because of `cause`."""
        if number:
            self.dropped[cause] = self.dropped.get(cause, 0) + number

    def add(self, other: Counts) -> None:
        """Add the counts of another video."""
        for name in ("frames", "damaged", "detections", "crops", "rows", "tracks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for cause, number in other.dropped.items():
            self.drop(cause, number)


class Verdict(Enum):
    """Answer of an association shard to a worker that announces or delivers a chunk."""

    TAKEN = "taken"
    """The announced chunk may be decoded, or the delivered one was accepted."""
    DUPLICATE = "duplicate"
    """The chunk was delivered before."""
    STALE = "stale"
    """The chunk belongs to an earlier attempt, or to a video of another shard."""
    ENDED = "ended"
    """The chunk's video has ended."""
    HALTED = "halted"
    """The shard cannot write any more."""
    LOST = "lost"
    """The shard died over this delivery, or was dead before."""


@dataclass(frozen=True, slots=True)
class DecodeGrant:
    """Permission for a task to decode a segment.

    Attributes:
        go: False if decoding has killed its workers too often, or the video has ended.
        num_chunks: Chunks that an earlier try produced; a refused task yields at least one more,
            since a replay must not be shorter than the part already read.
    """

    go: bool
    num_chunks: int = 0


@dataclass(frozen=True, slots=True)
class VideoOutcome:
    """Result of one video in this run: committed tracks, or an error record.

    Attributes:
        video: The video.
        counts: Frames, detections and rows; what was dropped, by cause.
        seconds: Time spent in association and writing.
        error: Why there are no tracks, None if there are.
        length_s: From the video's start to the end of the last frame that was tracked, in seconds.
        partial: Damage that ended the video, in one line, if the tracks before it were kept.
        input_size: Size that was chosen for the network's input, as 960x544; empty for the run's.
        input_size_why: The reason, for people.
    """

    video: Video
    counts: Counts
    seconds: float
    error: VideoError | None = None
    length_s: float = 0.0
    partial: str = ""
    input_size: str = ""
    input_size_why: str = ""


class Decoded(NamedTuple):
    """Progress of decoding a segment.

    Attributes:
        video_id: Id of the segment's video.
        start_frame: First frame of the segment.
        num_chunks: Chunks produced so far.
        has_ended: Whether no chunk follows.
    """

    video_id: str
    start_frame: int
    num_chunks: int
    has_ended: bool
