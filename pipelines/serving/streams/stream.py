"""Streams: one tracker each, frames in order, and the last answers for retries. Without Ray.

A stream's id is `<session>-<life>-<random>`. `life` changes whenever the session's process is
started, so that a stream of an earlier process without a snapshot is known to be lost.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import Detections, Tracks
from jde_ray.models.tracking.reporting import reported
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.formats.places_file import PlacesFile
from jde_ray.pipelines.serving.images import network_size
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.streams.counting import StreamCounter
from jde_ray.pipelines.video.camera_motion import Grey, Motion, motion_since

REMEMBERED = 8  # answers per stream that are kept for retries
_STREAM = re.compile(r"([0-9a-f]{1,4})-([0-9a-f]{8})-[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class Answer:
    """Tracks of one frame as plain values, in the precision of `tracks/*.parquet`.

    Attributes:
        seq: Number of the frame, from 0.
        track_ids: M ids, from 1 in order of first appearance in the stream.
        boxes: M lists of x1, y1, x2, y2 in source pixels.
        scores: M scores, each of the detection that the track took.
        events: Events of places that became sure with this frame; None if none are counted.
    """

    seq: int
    track_ids: list[int]
    boxes: list[list[float]]
    scores: list[float]
    events: list[dict[str, Any]] | None = None


def to_plain(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> list[float]:
    """Numbers with as few digits as needed to be read back as the same float32."""
    return [float(f"{value:.9g}") for value in values.astype(np.float32).tolist()]


@dataclass
class Stream:
    """One open stream.

    Attributes:
        name: Id of the stream.
        owner: Digest of the token that opened it; for other tokens it does not exist.
        model: Version of the model that it was opened with; no other may continue it.
        tracker: Associates its frames.
        expected: Number of the next frame.
        size: Width and height of its frames, None before the first.
        picture: Small grey picture of its last frame; None before the first, or if the camera's
            motion is not estimated.
        answers: The last `REMEMBERED` answers, by number of their frame.
        is_resumed: Whether it was read from a snapshot, and no frame has followed yet.
        used_s: When it was last used, on the monotonic clock.
        snapshot_seq: Value of `expected` in the newest snapshot.
        camera: Its camera, whose places are counted.
        counter: Counts them; None before the first frame, or without places.
    """

    name: str
    owner: str
    model: str
    tracker: JDETracker
    expected: int = 0
    size: tuple[int, int] | None = None
    picture: Grey | None = None
    answers: OrderedDict[int, Answer] = field(default_factory=OrderedDict)
    is_resumed: bool = False
    used_s: float = 0.0
    snapshot_seq: int = 0
    camera: str = ""
    counter: StreamCounter | None = None

    def repeated(self, seq: int) -> Answer | None:
        """The first answer to a frame sent again, None if the frame is the next one.

        Raises:
            Refusal: `old_frame`, `sequence_gap`, or `session_lost` if the frames between were lost.
        """
        if seq == self.expected:
            return None
        if seq in self.answers:
            return self.answers[seq]
        if seq < self.expected:
            text = f"frame {seq} was answered long ago, the next one is {self.expected}"
            raise Refusal(Cause.OLD_FRAME, text, expected=self.expected)
        if self.is_resumed:
            text = f"the session was lost; send the frames from {self.expected} on again"
            raise Refusal(Cause.SESSION_LOST, text, expected=self.expected)
        text = f"got frame {seq}, the next one is {self.expected}"
        raise Refusal(Cause.SEQUENCE_GAP, text, expected=self.expected)

    def motion_to(
        self, picture: Grey | None, size: tuple[int, int], config: TrackConfig
    ) -> Motion | None:
        """The camera's motion from the last frame to the next one; None if it is not estimated.

        Args:
            picture: Small grey picture of the next frame.
            size: Width and height of its image in pixels.
            config: Size and form of the network's input.
        """
        if picture is None:
            return None
        detection = config.detection
        network = network_size(*size, detection.size, rect=detection.rect)
        return motion_since(self.picture, picture, Letterbox(*size, *network))

    def track(
        self,
        time_s: float | None,
        size: tuple[int, int],
        found: Detections,
        config: TrackConfig,
        picture: Grey | None = None,
        motion: Motion | None = None,
        places: PlacesFile | None = None,
    ) -> Answer:
        """Associate the next frame.

        Args:
            time_s: When it was taken; None: one frame after the last at the stream's rate.
            size: Width and height of its image in pixels.
            found: Detections in source pixels.
            config: Decides which boxes are reported, as offline.
            picture: Small grey picture of it.
            motion: From `motion_to`.
            places: Places of all cameras; None to count none.

        Raises:
            Refusal: `size_changed`, or `invalid` for a time that is not a number or places that do
                not fit the picture; the stream then does not change.
        """
        if self.size is not None and size != self.size:
            got, wanted = (f"{w}x{h}" for w, h in (size, self.size))
            text = f"image: got {got}, expected {wanted} as in the stream's first frame"
            raise Refusal(Cause.SIZE_CHANGED, text, expected=self.expected)
        seq = self.expected
        counter = self.counter
        try:
            if places is not None and counter is None:
                counter = StreamCounter(places, self.camera, size)
            tracks = self.tracker.follow(found, time_s=time_s, camera_motion=motion)
        except ValueError as error:
            raise Refusal(Cause.INVALID, str(error), expected=seq) from error
        keep = reported(tracks.tlbr, config)
        events = None
        if counter is not None:
            now_s = self.tracker.time_s
            if now_s is None:  # no frame had a time
                now_s = seq / self.tracker.frames_per_second
            events = counter.update(seq, now_s, tracks.track_id[keep], tracks.tlbr[keep])
        answer = _answer(seq, tracks, keep, events)
        self.size, self.expected, self.is_resumed = size, seq + 1, False
        self.picture, self.counter = picture, counter
        self.answers[seq] = answer
        while len(self.answers) > REMEMBERED:
            self.answers.popitem(last=False)
        return answer


def _answer(
    seq: int, tracks: Tracks, keep: NDArray[np.bool_], events: list[dict[str, Any]] | None
) -> Answer:
    boxes = tracks.tlbr[keep]
    return Answer(
        seq,
        tracks.track_id[keep].tolist(),
        [to_plain(box) for box in boxes],
        to_plain(tracks.score[keep]),
        events,
    )


def session_of(stream: str) -> int | None:
    """Number of the session in a stream's id; None if it is not a stream's id."""
    match = _STREAM.match(stream)
    return None if match is None else int(match[1], 16)


class StreamTable:
    """The open streams of one session replica.

    Args:
        config: Association and filters.
        model: Version of the model.
        session: Number of this session.
        idle_s: Seconds without use after which a stream ends.
        max_ids: Number of ended streams whose ids are remembered.
        clock: Returns monotonic seconds.

    Attributes:
        life: 8 random hex digits of this process, part of the ids of its streams.
    """

    def __init__(
        self,
        config: TrackConfig,
        model: str,
        session: int = 0,
        *,
        idle_s: float = 60.0,
        max_ids: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.config, self.model, self.session = config, model, session
        self.life = secrets.token_hex(4)
        self._idle_s, self._max_ids, self._clock = idle_s, max_ids, clock
        self._streams: dict[str, Stream] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()

    def __len__(self) -> int:
        return len(self._streams)

    def count(self, owner: str) -> int:
        """Open streams of a token."""
        return sum(stream.owner == owner for stream in self._streams.values())

    def open(self, owner: str, frames_per_second: float, camera: str = "") -> Stream:
        """Open a stream.

        Raises:
            Refusal: `invalid` if the rate is not positive.
        """
        try:
            tracker = JDETracker(self.config.tracking, frames_per_second)
        except ValueError as error:
            raise Refusal(Cause.INVALID, str(error)) from error
        name = f"{self.session:x}-{self.life}-{secrets.token_hex(6)}"
        return self.add(Stream(name, owner, self.model, tracker, camera=camera))

    def add(self, stream: Stream) -> Stream:
        """Add a stream, a new one or one from a snapshot."""
        stream.used_s = self._clock()
        self._streams[stream.name] = stream
        return stream

    def has(self, name: str) -> bool:
        """Whether the stream is open here."""
        return name in self._streams

    def peek(self, name: str) -> Stream | None:
        """An open stream of any owner; this does not count as use."""
        return self._streams.get(name)

    def get(self, name: str, owner: str) -> Stream:
        """An open stream of this token.

        Raises:
            Refusal: `stream_ended`, `no_such_stream` or `session_lost`.
        """
        stream = self._streams.get(name)
        if stream is not None and stream.owner == owner:
            if stream.model != self.model:
                self.end(name)
                raise lost("the model has changed; open a new stream")
            stream.used_s = self._clock()
            return stream
        if stream is None and name in self._ended:
            raise Refusal(Cause.STREAM_ENDED, "the stream has ended; open a new one")
        match = _STREAM.match(name)
        if stream is None and match and match[2] != self.life:
            raise lost("the session was lost with all its frames; open a new stream")
        raise Refusal(Cause.NO_SUCH_STREAM, "there is no such stream")

    def end(self, name: str) -> None:
        """End a stream, and remember its id."""
        if self._streams.pop(name, None) is not None:
            self._ended[name] = None
            while len(self._ended) > self._max_ids:
                self._ended.popitem(last=False)

    def expire(self) -> list[str]:
        """End the streams that have been idle for too long; returns their ids."""
        too_old = self._clock() - self._idle_s
        gone = [name for name, stream in self._streams.items() if stream.used_s < too_old]
        for name in gone:
            self.end(name)
        return gone


def lost(detail: str) -> Refusal:
    """The refusal of a stream that is lost, so that its track ids cannot be continued."""
    return Refusal(Cause.SESSION_LOST, detail, expected=0)
