"""Contracts between stages: sources, segments, chunks of frames, chunks of detections, rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import Detections, Tracks
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.names import make_id

DEFAULT_RATE = 30.0


@dataclass(frozen=True, slots=True)
class Video:
    """One input. `uri` is canonical (absolute path or s3://...); `name` goes into the id."""

    uri: str
    name: str
    is_image_folder: bool = False
    frames_per_second: float | None = None  # from seqinfo.ini; None: the container's
    num_bytes: int = field(default=0, compare=False)  # of the file when it was listed; 0: unknown
    version: str = field(default="", compare=False)  # likewise: what changes with its content

    @property
    def video_id(self) -> str:
        """The name, key-safe, and 16 hex digits of the hash of the URI; see `pipelines.names`."""
        return make_id(self.name, self.uri)

    @property
    def source_version(self) -> str:
        """Of `version` what is the video's own; behind it that of its saved detections follows."""
        return self.version.partition("|")[0]


@dataclass(frozen=True)
class Keyframe:
    """Where decoding can start: the frame's rank among all frames of its video, and its stamp.

    Attributes:
        frame: 0-based number.
        pts: Presentation time stamp, in the stream's own unit.
    """

    frame: int
    pts: int


@dataclass(frozen=True)
class Segment:
    """A run of frames of one video, the input row of the dataflow. By default all of them.

    Attributes:
        video: Whose frames.
        attempt: Number of the try at this video; older attempts are fenced off.
        start_frame: First frame taken, on a border of chunks.
        stop_frame: Frame behind the last one, on a border of chunks; None goes to the end.
        seek: Where decoding starts, at `start_frame` or before; None: at the beginning.
        stop_pts: Stamp of `stop_frame`, which proves that no frame was counted wrongly.
        num_frames: Of the whole video, for the last segment's proof; None: not known.
        version: Of what was cut, or of what was listed if a checkpoint is gone on from; another
            one is refused. Empty: any.
        checkpoint: Key in OUT from which the association goes on; empty: none.
        may_cut: It may be parted into several segments.
        replaces: Results of an earlier run may be in OUT; they go when there are new ones.
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

    @property
    def is_part(self) -> bool:
        """Whether frames before or behind it belong to other segments."""
        return self.start_frame > 0 or self.stop_frame is not None


@dataclass(frozen=True)
class VideoInfo:
    """What the decoder knows of a video when it has seen its frames.

    Attributes:
        width: Of a frame in source pixels, after display rotation.
        height: Likewise.
        frames_per_second: Nominal rate, for the lost-track buffer.
        num_frames: As the container tells before they are counted, 0 if it does not: for the time
            that is left, and nothing else.
    """

    width: int
    height: int
    frames_per_second: float
    num_frames: int = field(default=0, compare=False)


@dataclass(frozen=True)
class FrameChunk:
    """T frames of one video, letterboxed for the network: one row of the dataset.

    Attributes:
        video_id: Whose frames.
        attempt: Of the segment.
        chunk_index: 0, 1, ... over the whole video.
        frame_index: `(n,)` int64 0-based source frame numbers, n <= T.
        time_s: `(n,)` float64 presentation times in seconds.
        frames: `(T, H, W, 3)` uint8 RGB; rows from n on are padding.
        info: Size and rate of the video.
        is_last: No chunk follows.
        error: The decoder gave up here; then n is 0 and no chunk follows.
        num_damaged: Frames of this chunk in which the decoder concealed missing data.
        decode_whole: The frames are not the ones that the packets promised when the video was
            split: it has to be decoded again as one segment. `error` is set too; no user sees it.
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


@dataclass(frozen=True)
class DetectionChunk:
    """What a detector delivers to the association: `FrameChunk` without pixels.

    Attributes:
        detections: One a frame, in the order of `frame_index`.
        num_capped: Detections dropped by `max_detections` in this chunk.
        error: From the decoder or the detector; then `detections` is empty.
        num_damaged: As in `FrameChunk`.
        decode_whole: As in `FrameChunk`.
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


@dataclass(frozen=True)
class TrackedFrame:
    """Tracks of one frame, as a session hands them to the sink."""

    frame_index: int
    time_s: float
    tracks: Tracks
    embeddings: NDArray[np.float16] | None = None


@dataclass(slots=True)
class Counts:
    """What happened in one video (or, added up, in a run). Every drop has a name here."""

    frames: int = 0
    damaged: int = 0  # of the frames, those with missing data that the decoder concealed
    detections: int = 0
    rows: int = 0
    tracks: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # cause -> rows or detections

    def drop(self, cause: str, number: int) -> None:
        """Count `number` things left out because of `cause`."""
        if number:
            self.dropped[cause] = self.dropped.get(cause, 0) + number

    def add(self, other: Counts) -> None:
        """Add the counts of another video."""
        for name in ("frames", "damaged", "detections", "rows", "tracks"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for cause, number in other.dropped.items():
            self.drop(cause, number)


class Verdict(Enum):
    """How an association shard answers a worker that announces or delivers a chunk."""

    TAKEN = "taken"
    """Announced: go ahead. Delivered: it was accepted."""
    DUPLICATE = "duplicate"
    """It was delivered before."""
    STALE = "stale"
    """It belongs to an attempt that is over, or to a video of another shard."""
    ENDED = "ended"
    """Its video has ended."""
    HALTED = "halted"
    """The shard cannot write any more."""
    LOST = "lost"
    """The shard died over this delivery, or was dead before."""


@dataclass(frozen=True, slots=True)
class DecodeGrant:
    """Whether a task shall decode a segment.

    Attributes:
        go: If not, decoding has killed its workers too often, or the video has ended.
        num_chunks: Chunks that an earlier try made; a refused task yields at least one more, since
            a replay must not be shorter than what was read of it.
    """

    go: bool
    num_chunks: int = 0


@dataclass(frozen=True, slots=True)
class VideoOutcome:
    """How one video ended in this run: committed tracks, or an error record.

    Attributes:
        video: Which one.
        counts: What was seen and written; what was dropped, by cause.
        seconds: Time spent in association and writing.
        error: Why there are no tracks, None if there are.
        length_s: From the video's start to the end of the last frame that was tracked, in seconds.
    """

    video: Video
    counts: Counts
    seconds: float
    error: VideoError | None = None
    length_s: float = 0.0


class Decoded(NamedTuple):
    """How far the decoding of a segment has come.

    Attributes:
        video_id: Of the segment.
        start_frame: Likewise.
        num_chunks: Chunks made so far.
        has_ended: No chunk follows.
    """

    video_id: str
    start_frame: int
    num_chunks: int
    has_ended: bool
