"""Bodies of calls and answers, for the OpenAPI description and as plain values."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.streams.stream import Answer, to_plain

Box = Annotated[
    list[float],
    Field(min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the image"),
]


class Person(BaseModel):
    """A person detected in an image."""

    box: Box
    score: float
    embedding: list[float] | None = Field(None, description="only with embeddings=true")


class DetectAnswer(BaseModel):
    """People detected in one image."""

    model: str = Field(description="version of the model that answered")
    width: int
    height: int
    detections: list[Person]


class TrackedPerson(BaseModel):
    """A person tracked in a stream."""

    track_id: int = Field(description="1, 2, ... in the stream, in order of appearance")
    box: Box
    score: float


class CountedEvent(BaseModel):
    """Someone crossed a line, entered or left a zone, or ended a walk on the ground."""

    place: str = Field(description="name of the line or zone, or `ground`")
    direction: str = Field(description="to_right, to_left or their names; enter, leave, walk")
    track_id: int
    frame: int = Field(description="number of the frame of the sighting that it is about")
    time_s: float
    x: float
    y: float
    duration_s: float | None = Field(None, description="of `leave` and `walk`")
    distance_m: float | None = Field(None, description="of `walk`")


class FrameAnswer(BaseModel):
    """People tracked in one frame of a stream."""

    stream: str
    seq: int
    model: str
    tracks: list[TrackedPerson]
    events: list[CountedEvent] = Field([], description="only of a service with places")


class EndAnswer(BaseModel):
    """The last events of a stream that has ended, of a service with places."""

    stream: str
    events: list[CountedEvent]


class OpenStream(BaseModel):
    """Settings of a new stream."""

    model_config = ConfigDict(extra="forbid")

    frames_per_second: float = Field(
        30.0, gt=0, le=1000, allow_inf_nan=False, description="nominal rate of the stream"
    )
    camera: str = Field("", max_length=200, description="its camera, whose places are counted")


class StreamAnswer(BaseModel):
    """A stream that is open."""

    stream: str
    model: str
    expected: int = Field(description="number of its next frame")


class StateAnswer(BaseModel):
    """State of the service."""

    status: str
    model: str


class RefusalAnswer(BaseModel):
    """A call that is refused."""

    error: str = Field(description="name of the cause, from a closed list")
    detail: str = Field(description="one line: what, which value, what is expected")
    expected: int | None = Field(None, description="number of the stream's next frame")


def detect_answer(
    model: str, frame: NetworkFrame, found: Detections, *, embeddings: bool
) -> dict[str, Any]:
    """Plain values of a `DetectAnswer`."""
    people: list[dict[str, Any]] = [
        {"box": to_plain(box), "score": score}
        for box, score in zip(found.tlbr, to_plain(found.scores), strict=True)
    ]
    if embeddings:
        for person, vector in zip(people, found.embeddings, strict=True):
            person["embedding"] = to_plain(vector)
    return {"model": model, "width": frame.width, "height": frame.height, "detections": people}


def frame_answer(model: str, stream: str, answer: Answer) -> dict[str, Any]:
    """Plain values of a `FrameAnswer`."""
    people = zip(answer.track_ids, answer.boxes, answer.scores, strict=True)
    tracks = [{"track_id": i, "box": box, "score": score} for i, box, score in people]
    values = {"stream": stream, "seq": answer.seq, "model": model, "tracks": tracks}
    return values if answer.events is None else {**values, "events": answer.events}


def to_json(values: dict[str, Any]) -> bytes:
    """Compact JSON."""
    return json.dumps(values, separators=(",", ":")).encode()
