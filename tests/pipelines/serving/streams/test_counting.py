"""Events of streams: those of `jde count` over the same rows, through kills and retries."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from counted_tracks import write_tracks
from serving_service import CONFIG, MemorySnapshots

from jde_ray.models.structures import Detections
from jde_ray.pipelines.counting.run import count
from jde_ray.pipelines.counting.videos import CountConfig
from jde_ray.pipelines.formats.places_file import parse_places
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.streams.counting import StreamCounter
from jde_ray.pipelines.serving.streams.operations import (
    EndStream,
    GetAnswer,
    OpenStream,
    TrackFrame,
)
from jde_ray.pipelines.serving.streams.session import Session

SIZE, OWNER, RATE, FRAMES = (640, 360), "me", 10.0, 60
TEXT = """
units: shares
places:
  - {name: door, camera: hall*, line: [[0.5, 1.0], [0.5, 0.0]], to_right: in, to_left: out}
  - {name: desk, zone: [[0.55, 0.2], [0.8, 0.2], [0.8, 0.9], [0.55, 0.9]]}
  - ground: {image: [[0, 0.2], [1, 0.2], [1, 1], [0, 1]], metres: [[0, 9], [9, 9], [9, 0], [0, 0]]}
"""


def places(text=TEXT):
    return parse_places(yaml.safe_load(text))


CONFIG = replace(CONFIG, places=places())


def found(seq: int) -> Detections:
    """Three people: two walk in opposite directions, one stays at the desk and disappears."""
    x = np.array([60 + 8.0 * seq, 560 - 8.0 * seq, 420.0])
    y = np.array([90.0, 180.0, 300.0])
    here = np.array([True, True, seq < 45])
    tlbr = np.stack([x - 15, y - 60, x + 15, y], axis=1)[here]
    vectors = np.eye(3, 8, dtype=np.float16)[here]
    return Detections(tlbr.astype(np.float32), np.full(len(tlbr), 0.9, np.float32), vectors)


async def feed(session, stream, start, stop):
    frames = range(start, stop)
    return [
        await session.execute(TrackFrame(stream, OWNER, seq, None, SIZE, found(seq)))
        for seq in frames
    ]


async def whole(session, stream):
    answers = await feed(session, stream, 0, FRAMES)
    events = [event for answer in answers for event in answer.events]
    return answers, events + await session.execute(EndStream(stream, OWNER))


def rows_of(answers):
    frame = [answer.seq for answer in answers for _ in answer.track_ids]
    ids = [number for answer in answers for number in answer.track_ids]
    boxes = [box for answer in answers for box in answer.boxes]
    return np.array(frame), np.array(ids), np.array(boxes, np.float32)


ORDER = ("frame", "track_id", "place", "direction")


def told(event):
    """An event without what does not apply to it."""
    names = (*ORDER, "time_s", "x", "y", "duration_s", "distance_m")
    return {name: event[name] for name in names if event.get(name) is not None}


def test_the_events_of_a_stream_are_those_of_jde_count_over_its_rows(tmp_path):
    async def main():
        session = Session(CONFIG, MemorySnapshots())
        return await whole(session, await session.execute(OpenStream(OWNER, RATE, "hall-1")))

    answers, live = asyncio.run(main())
    write_tracks(tmp_path / "out", "a", rows_of(answers), camera="hall-1", size=SIZE)
    count(tmp_path / "out", str(tmp_path / "to"), CountConfig(places=places()))
    offline = pq.read_table(tmp_path / "to" / "events.parquet").to_pylist()

    def key(event):
        return [event[name] for name in ORDER]

    assert [told(one) for one in sorted(live, key=key)] == [
        told(one) for one in sorted(offline, key=key)
    ]
    assert {event["direction"] for event in live} == {"in", "out", "enter", "leave", "walk"}
    assert len(live) >= 10


@pytest.mark.parametrize("killed_at", [1, 33, 40, 59])
def test_a_killed_replica_goes_on_counting_and_a_repeated_frame_has_its_first_events(killed_at):
    async def main():
        plain = Session(CONFIG, MemorySnapshots())
        undisturbed = await whole(plain, await plain.execute(OpenStream(OWNER, RATE, "hall-1")))
        snapshots = MemorySnapshots()
        killed = Session(CONFIG, snapshots)
        stream = await killed.execute(OpenStream(OWNER, RATE, "hall-1"))
        answers = await feed(killed, stream, 0, killed_at)
        successor = Session(CONFIG, snapshots)
        repeated = await successor.execute(GetAnswer(stream, OWNER, killed_at - 1))
        assert repeated == answers[-1]
        answers += await feed(successor, stream, killed_at, FRAMES)
        events = [event for answer in answers for event in answer.events]
        events += await successor.execute(EndStream(stream, OWNER))
        assert (answers, events) == undisturbed

    asyncio.run(main())


@pytest.mark.parametrize("other", [None, TEXT.replace("0.5, 1.0", "0.4, 1.0")])
def test_a_stream_of_other_places_is_lost_not_counted_by_them(other):
    async def main():
        snapshots = MemorySnapshots()
        session = Session(CONFIG, snapshots)
        stream = await session.execute(OpenStream(OWNER, RATE, "hall-1"))
        await feed(session, stream, 0, 5)
        changed = replace(CONFIG, places=None if other is None else places(other))
        with pytest.raises(Refusal) as refused:
            await feed(Session(changed, snapshots), stream, 5, 6)
        assert refused.value.cause is Cause.SESSION_LOST

    asyncio.run(main())


def test_each_camera_has_its_places_and_without_any_nothing_is_counted():
    async def main():
        session = Session(CONFIG, MemorySnapshots())
        _, events = await whole(session, await session.execute(OpenStream(OWNER, RATE)))
        assert {event["place"] for event in events} == {"desk", "ground"}
        without = Session(replace(CONFIG, places=None), MemorySnapshots())
        stream = await without.execute(OpenStream(OWNER, RATE, "hall-1"))
        answers = await feed(without, stream, 0, 3)
        assert [answer.events for answer in answers] == [None] * 3
        assert await without.execute(EndStream(stream, OWNER)) == []

    asyncio.run(main())


def test_a_camera_without_places_and_a_picture_that_does_not_hold_them_are_refused():
    door = places(
        "places: [{name: door, camera: hall, line: [[0, 0], [900, 0]]}]",
    )

    async def main():
        session = Session(replace(CONFIG, places=door), MemorySnapshots())
        with pytest.raises(Refusal, match="camera: no place is of camera 'yard'"):
            await session.execute(OpenStream(OWNER, RATE, "yard"))
        stream = await session.execute(OpenStream(OWNER, RATE, "hall"))
        with pytest.raises(Refusal, match=r"door: \(900, 0\) is outside the picture") as refused:
            await feed(session, stream, 0, 1)
        assert refused.value.cause is Cause.INVALID

    asyncio.run(main())


def test_a_first_frame_that_is_refused_leaves_no_places_of_its_size():
    async def main():
        session = Session(CONFIG, MemorySnapshots())
        stream = await session.execute(OpenStream(OWNER, RATE, "hall"))
        other = TrackFrame(stream, OWNER, 0, float("nan"), (64, 36), found(0))
        with pytest.raises(Refusal, match="expected a finite number"):
            await session.execute(other)
        await feed(session, stream, 0, 1)
        counter = session.table.get(stream, OWNER).counter
        assert counter.digest == StreamCounter(places(), "hall", SIZE).digest

    asyncio.run(main())
