"""Streams of one session replica: a tracker each, frames in order, answers kept for retries.

Without Ray: the session deployment and the tests use the same class. A stream's id names the
replica that owns it and that replica's life, `<session>-<life>-<random>`: an id of an earlier life
that is in no snapshot is a lost session, not an unknown stream.
"""

from __future__ import annotations

import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import Detections, Tracks
from jde_ray.models.tracking.reporting import reported
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.serving.refusals import Cause, Refusal

REMEMBERED = 8  # answers of a stream that a retry gets again
_STREAM = re.compile(r"([0-9a-f]{1,4})-([0-9a-f]{8})-[0-9a-f]{12}\Z")


@dataclass(frozen=True)
class Answer:
    """Tracks of one frame, as they are sent: plain values in the precision of `tracks/*.parquet`.

    Attributes:
        seq: Number of the frame, from 0.
        track_ids: Of the M people.
        boxes: M lists of x1, y1, x2, y2 in source pixels.
        scores: Of the detection each took.
    """

    seq: int
    track_ids: list[int]
    boxes: list[list[float]]
    scores: list[float]


def to_plain(values: np.ndarray[tuple[int, ...], np.dtype[np.floating]]) -> list[float]:
    """Numbers that are read back as exactly the same float32, with no more digits than needed."""
    return [float(f"{value:.9g}") for value in values.astype(np.float32).tolist()]


@dataclass
class Stream:
    """One open stream.

    Attributes:
        name: Its id.
        owner: Digest of the token that opened it; other tokens do not see it.
        model: Version that it was opened with; another one may not go on with it.
        tracker: Its association.
        expected: Number of the next frame.
        size: Width and height of its frames, None before the first.
        answers: The last ones, by number.
        is_resumed: It was read from a snapshot, and no frame has followed yet.
        used_s: When it was used last, on the monotonic clock.
        snapshot_seq: `expected` of the newest snapshot.
    """

    name: str
    owner: str
    model: str
    tracker: JDETracker
    expected: int = 0
    size: tuple[int, int] | None = None
    answers: OrderedDict[int, Answer] = field(default_factory=OrderedDict)
    is_resumed: bool = False
    used_s: float = 0.0
    snapshot_seq: int = 0

    def repeated(self, seq: int) -> Answer | None:
        """The first answer to a frame sent again, None if the frame is the next one.

        Raises:
            Refusal: `old_frame`, `sequence_gap`, or `session_lost` if what lies between was lost.
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

    def track(
        self,
        time_s: float | None,
        size: tuple[int, int],
        found: Detections,
        min_box_area: float,
    ) -> Answer:
        """Associate the next frame.

        Args:
            time_s: When it was taken; None: at the stream's rate.
            size: Width and height of its image.
            found: Its detections in source pixels.
            min_box_area: Smaller boxes are left out, as offline.

        Raises:
            Refusal: `size_changed`, or `invalid` for a time that is no number; the stream is
                unchanged then.
        """
        if self.size is not None and size != self.size:
            got, wanted = (f"{w}x{h}" for w, h in (size, self.size))
            text = f"image: got {got}, expected {wanted} as in the stream's first frame"
            raise Refusal(Cause.SIZE_CHANGED, text, expected=self.expected)
        seq = self.expected
        if time_s is None:
            time_s = seq / self.tracker.frames_per_second
        embeddings = found.embeddings.astype(np.float32)
        try:
            tracks = self.tracker.update(found.tlbr, found.scores, embeddings, time_s=time_s)
        except ValueError as error:
            raise Refusal(Cause.INVALID, str(error), expected=seq) from error
        answer = _answer(seq, tracks, reported(tracks.tlbr, self.tracker.config, min_box_area))
        self.size, self.expected, self.is_resumed = size, seq + 1, False
        self.answers[seq] = answer
        while len(self.answers) > REMEMBERED:
            self.answers.popitem(last=False)
        return answer


def _answer(seq: int, tracks: Tracks, keep: NDArray[np.bool_]) -> Answer:
    boxes = tracks.tlbr[keep]
    return Answer(
        seq,
        tracks.track_id[keep].tolist(),
        [to_plain(box) for box in boxes],
        to_plain(tracks.score[keep]),
    )


def session_of(stream: str) -> int | None:
    """Number of the session replica that owns a stream, None if that is no stream's id."""
    match = _STREAM.match(stream)
    return None if match is None else int(match[1], 16)


class StreamTable:
    """The open streams of one session replica.

    Args:
        config: Association and filters.
        model: Version that answers.
        session: Number of this replica.
        idle_s: Streams not used for so long end.
        max_ids: Ended streams that are remembered.
        clock: Monotonic seconds.

    Attributes:
        life: Of this process, 8 hex digits; part of the ids of the streams opened in it.
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

    def open(self, owner: str, frames_per_second: float) -> Stream:
        """Begin a stream.

        Raises:
            Refusal: `invalid` if the rate is none.
        """
        try:
            tracker = JDETracker(self.config.tracking, frames_per_second)
        except ValueError as error:
            raise Refusal(Cause.INVALID, str(error)) from error
        name = f"{self.session:x}-{self.life}-{secrets.token_hex(6)}"
        return self.add(Stream(name, owner, self.model, tracker))

    def add(self, stream: Stream) -> Stream:
        """Take a stream in, a new one or one from a snapshot."""
        stream.used_s = self._clock()
        self._streams[stream.name] = stream
        return stream

    def has(self, name: str) -> bool:
        """Whether the stream is open here."""
        return name in self._streams

    def peek(self, name: str) -> Stream | None:
        """An open stream, whoever owns it; that counts as no use."""
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
        """Forget a stream, but for its id."""
        if self._streams.pop(name, None) is not None:
            self._ended[name] = None
            while len(self._ended) > self._max_ids:
                self._ended.popitem(last=False)

    def expire(self) -> list[str]:
        """End the streams that have been idle for too long, and name them."""
        too_old = self._clock() - self._idle_s
        gone = [name for name, stream in self._streams.items() if stream.used_s < too_old]
        for name in gone:
            self.end(name)
        return gone


def lost(detail: str) -> Refusal:
    """Nothing is left of a stream: its people would get new numbers, so a new one is needed."""
    return Refusal(Cause.SESSION_LOST, detail, expected=0)
