"""Operations on streams, sent to a session and executed there.

They cross processes, so they hold plain values and arrays only. Executing one twice is harmless:
a session knows which frames it has answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Generic, TypeVar

from jde_ray.models.structures import Detections
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.streams.stream import Answer
from jde_ray.pipelines.video.camera_motion import Grey

Result = TypeVar("Result")


class Operation(Generic[Result]):
    """One operation of a session, with the type of its result.

    Attributes:
        stage: Label under which retries are counted.
        needs_same_model: The result is reported with the sender's version of the model, so that a
            session of another version must not execute it.
    """

    stage: ClassVar[str]
    needs_same_model: ClassVar[bool] = False


@dataclass(frozen=True)
class OpenStream(Operation[str]):
    """Open a stream; the result is its id.

    Attributes:
        owner: Digest of the caller's token.
        frames_per_second: Nominal rate.
        camera: Its camera, whose places are counted.
    """

    owner: str
    frames_per_second: float
    camera: str = ""
    stage = "open"
    needs_same_model = True


@dataclass(frozen=True)
class GetExpected(Operation[int]):
    """Return the number of the next frame of a stream.

    Attributes:
        stream: Id of the stream.
        owner: Digest of the caller's token.
    """

    stream: str
    owner: str
    stage = "ask"
    needs_same_model = True


@dataclass(frozen=True)
class GetAnswer(Operation[Answer | None]):
    """Return the answer to a frame that was answered before; None if it is the next frame.

    Attributes:
        stream: Id of the stream.
        owner: Digest of the caller's token.
        seq: Number of the frame, from 0.
    """

    stream: str
    owner: str
    seq: int
    stage = "ask"
    needs_same_model = True


@dataclass(frozen=True)
class TrackFrame(Operation[Answer]):
    """Associate the next frame; a frame sent again gets its first answer.

    Attributes:
        stream: Id of the stream.
        owner: Digest of the caller's token.
        seq: Number of the frame, from 0.
        time_s: When it was taken; None: one frame after the last at the stream's rate.
        size: Width and height of its image in pixels.
        detections: People found in it, in source pixels.
        picture: Small grey picture, from which the camera's motion is estimated; None: not at all.
    """

    stream: str
    owner: str
    seq: int
    time_s: float | None
    size: tuple[int, int]
    detections: Detections
    picture: Grey | None = None
    stage = "associate"
    needs_same_model = True


def track_frame(
    place: tuple[str, str, int],
    time_s: float | None,
    seen: tuple[NetworkFrame, Detections],
    config: TrackConfig,
) -> TrackFrame:
    """The operation for a frame and its detections.

    Args:
        place: Stream, owner and number of the frame.
        time_s: When it was taken, if the client says so.
        seen: The frame as the detector saw it, and the people found in it.
        config: Says whether the camera's motion is estimated.
    """
    frame, found = seen
    picture = frame.small_grey() if config.estimates_motion else None
    return TrackFrame(*place, time_s, (frame.width, frame.height), found, picture)


@dataclass(frozen=True)
class EndStream(Operation[list[dict[str, Any]]]):
    """End a stream; the result is the events of the people who were still present.

    Attributes:
        stream: Id of the stream.
        owner: Digest of the caller's token.
    """

    stream: str
    owner: str
    stage = "end"


@dataclass(frozen=True)
class CountStreams(Operation[int]):
    """Return how many streams of a token are open in the session.

    Attributes:
        owner: Digest of the token.
    """

    owner: str
    stage = "count"


@dataclass(frozen=True)
class GetFigures(Operation[dict[str, float]]):
    """Return the session's values by their names in `metrics`."""

    stage = "figures"
