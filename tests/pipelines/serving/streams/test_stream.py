"""Streams without Ray: numbers of frames, retries, snapshots, lost sessions, ends."""

from __future__ import annotations

import asyncio
import os
import pickle
import time
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_videos import pan_frame
from serving_service import CONFIG, TRACK, MemorySnapshots

from jde_ray.models.letterbox import Letterbox
from jde_ray.models.structures import Detections
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import DetectionConfig, TrackConfig
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.serving.replicas.session import SessionReplica
from jde_ray.pipelines.serving.streams.operations import (
    EndStream,
    GetAnswer,
    GetExpected,
    GetFigures,
    OpenStream,
    TrackFrame,
)
from jde_ray.pipelines.serving.streams.session import Session
from jde_ray.pipelines.serving.streams.snapshots import (
    NoSnapshots,
    SharedMemorySnapshots,
    StoredSnapshots,
    dump,
    load,
)
from jde_ray.pipelines.serving.streams.stream import REMEMBERED, Answer, StreamTable, session_of
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.video.camera_motion import STANDING, CameraMotion, small_grey

SIZE = (640, 360)
OWNER = "me"


def found(seq: int, seed: int = 0) -> Detections:
    """Five walkers and some noise."""
    rng = np.random.default_rng((seed, seq))
    x = np.arange(5) * 100 + 3.0 * seq
    tlbr = np.stack([x, np.full(5, 50.0), x + 40, np.full(5, 150.0)], 1) + rng.normal(0, 1, (5, 4))
    keep = rng.random(5) > 0.1
    vectors = np.eye(5, 8) + rng.normal(0, 0.05, (5, 8))
    scores = rng.uniform(0.5, 1, 5)
    return Detections(
        tlbr[keep].astype(np.float32),
        scores[keep].astype(np.float32),
        vectors[keep].astype(np.float16),
    )


def run(call: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await call

    return asyncio.run(main())


async def refusal(call: Awaitable[Any]) -> Refusal:
    with pytest.raises(Refusal) as refused:
        await call
    return refused.value


@pytest.mark.parametrize("first_s", [1.7e9, 0.0])
@pytest.mark.parametrize("has_time", [lambda seq: seq % 3 == 0, lambda seq: seq >= 5])
def test_a_frame_without_a_time_comes_one_frame_after_the_last(first_s, has_time):
    """Frames with Unix times between others without any were 54 years apart: all ids were new."""
    config = TrackConfig()
    with_times, mixed = (StreamTable(config, "m").open(OWNER, 25.0) for _ in range(2))
    for seq in range(20):
        time_s = first_s + seq / 25
        wanted = with_times.track(time_s, SIZE, found(seq), config)
        assert mixed.track(time_s if has_time(seq) else None, SIZE, found(seq), config) == wanted
        if seq == 10:
            mixed = load(dump(mixed), config)


def test_a_damaged_snapshot_is_a_lost_session():
    """Some bytes that differ ended in a KeyError or TypeError, and the client got `internal`."""
    stream = StreamTable(CONFIG.track, CONFIG.model).open(OWNER, 25.0)
    for seq in range(12):
        stream.track(None, SIZE, found(seq), CONFIG.track)
    whole, rng, num_refused = dump(stream), np.random.default_rng(0), 0
    for _ in range(400):
        content = bytearray(whole)
        content[rng.integers(3000)] ^= 1 << int(rng.integers(8))
        try:
            load(bytes(content), CONFIG.track)
        except ValueError:
            num_refused += 1
    assert num_refused > 50

    async def main() -> None:
        snapshots = MemorySnapshots()
        name = stream.name
        await snapshots.put(name, whole.replace(b'"track_ids"', b'"tvack_ids"'))
        refused = await refusal(Session(CONFIG, snapshots).execute(GetExpected(name, OWNER)))
        assert (refused.cause, refused.expected) == (Cause.SESSION_LOST, 0)

    run(main())


async def feed(session: Session, stream: str, start: int, stop: int) -> list[Answer]:
    return [
        await session.execute(TrackFrame(stream, OWNER, seq, None, SIZE, found(seq)))
        for seq in range(start, stop)
    ]


def test_answers_are_those_of_the_plain_tracker():
    config = TrackConfig(min_box_area=4100.0)
    tracker = JDETracker(config.tracking, 25.0)
    table = StreamTable(config, "m")
    stream = table.open(OWNER, 25.0)
    for seq in range(40):
        detections = found(seq)
        answer = stream.track(None, SIZE, detections, config)
        tracks = tracker.update(
            detections.tlbr,
            detections.scores,
            detections.embeddings.astype(np.float32),
            time_s=seq / 25,
        )
        sides = tracks.tlbr[:, 2:] - tracks.tlbr[:, :2]
        keep = sides.prod(axis=1) >= 4100
        assert answer.track_ids == tracks.track_id[keep].tolist()
        boxes = np.array(answer.boxes, np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(boxes, tracks.tlbr[keep].astype(np.float32))
        np.testing.assert_array_equal(np.array(answer.scores, np.float32), tracks.score[keep])
    assert seq == 39


def test_a_stream_follows_the_camera_and_a_resumed_one_too():
    config = replace(
        CONFIG, track=replace(TRACK, detection=DetectionConfig(weights="fake", resize="published"))
    )
    box = Letterbox(*SIZE, *config.track.detection.size)
    frames = [box.apply(pan_frame(number, *SIZE)) for number in range(8)]
    pictures = [small_grey(frame, box) for frame in frames]
    camera = CameraMotion()
    motions = [camera.estimate(frame, box) for frame in frames]
    assert not all(motion is STANDING for motion in motions)
    tracker = JDETracker(config.track.tracking, 25.0)
    plain = [
        tracker.update(
            one.tlbr, one.scores, one.embeddings, time_s=seq / 25, camera_motion=motions[seq]
        )
        for seq, one in enumerate(map(found, range(8)))
    ]

    async def main() -> list[Answer]:
        snapshots, answers = MemorySnapshots(), []
        session = Session(config, snapshots)
        stream = await session.execute(OpenStream(OWNER, 25.0))
        for seq, picture in enumerate(pictures):
            if seq == 4:  # the replica is lost
                session = Session(config, snapshots)
            frame = TrackFrame(stream, OWNER, seq, None, SIZE, found(seq), picture)
            answers.append(await session.execute(frame))
        assert session.num_resumed == 1
        return answers

    for answer, tracks in zip(asyncio.run(main()), plain, strict=True):
        assert answer.track_ids == tracks.track_id.tolist()
        boxes = np.array(answer.boxes, np.float32).reshape(-1, 4)
        np.testing.assert_array_equal(boxes, tracks.tlbr.astype(np.float32))


def test_numbers_are_contiguous_and_a_retry_gets_the_first_answer():
    async def main() -> None:
        session = Session(CONFIG, MemorySnapshots())
        stream = await session.execute(OpenStream(OWNER, 25.0))
        early = await refusal(session.execute(TrackFrame(stream, OWNER, 1, None, SIZE, found(1))))
        assert (early.cause, early.expected) == (Cause.SEQUENCE_GAP, 0)
        first = await feed(session, stream, 0, 20)
        again = [
            await session.execute(TrackFrame(stream, OWNER, seq, None, SIZE, found(seq, seed=9)))
            for seq in range(20 - REMEMBERED, 20)
        ]
        assert again == first[-REMEMBERED:]
        old = await refusal(session.execute(TrackFrame(stream, OWNER, 3, None, SIZE, found(3))))
        assert (old.cause, old.expected) == (Cause.OLD_FRAME, 20)
        gap = await refusal(session.execute(TrackFrame(stream, OWNER, 25, None, SIZE, found(25))))
        assert (gap.cause, gap.expected) == (Cause.SEQUENCE_GAP, 20)
        assert await session.execute(GetExpected(stream, OWNER)) == 20
        assert await session.execute(GetAnswer(stream, OWNER, 19)) == first[-1]
        assert await session.execute(GetAnswer(stream, OWNER, 20)) is None

    asyncio.run(main())


def test_a_frame_sent_twice_at_once_is_tracked_once():
    async def main() -> None:
        session = Session(CONFIG, MemorySnapshots())
        stream = await session.execute(OpenStream(OWNER, 25.0))
        calls = [
            session.execute(TrackFrame(stream, OWNER, 0, None, SIZE, found(0, seed)))
            for seed in range(5)
        ]
        answers = await asyncio.gather(*calls)
        assert all(answer == answers[0] for answer in answers)
        assert await session.execute(GetExpected(stream, OWNER)) == 1

    asyncio.run(main())


@pytest.mark.parametrize("mode", ["default", "published"])
@pytest.mark.parametrize("killed_at", [0, 1, 7, 19])
def test_a_killed_replica_resumes_its_streams_where_they_were(mode, killed_at):
    config = replace(CONFIG, track=replace(TRACK, tracking=TrackingConfig(mode=mode)))

    async def main() -> None:
        snapshots = MemorySnapshots()
        plain, killed = Session(config, MemorySnapshots()), Session(config, snapshots)
        undisturbed = await feed(plain, await plain.execute(OpenStream(OWNER, 25.0)), 0, 40)
        stream = await killed.execute(OpenStream(OWNER, 25.0))
        answers = await feed(killed, stream, 0, killed_at)
        successor = Session(config, snapshots)
        if killed_at:  # its answer may have been lost on the way
            last = await successor.execute(GetAnswer(stream, OWNER, killed_at - 1))
            assert last == answers[-1]
        answers += await feed(successor, stream, killed_at, 40)
        assert answers == undisturbed
        assert successor.num_resumed == 1

    asyncio.run(main())


def test_what_no_snapshot_holds_is_lost_and_sent_again_from_there():
    config = replace(CONFIG, snapshot_every=10)

    async def main() -> None:
        snapshots = MemorySnapshots()
        session = Session(config, snapshots)
        stream = await session.execute(OpenStream(OWNER, 25.0))
        answers = await feed(session, stream, 0, 27)
        successor = Session(config, snapshots)
        lost = await refusal(
            successor.execute(TrackFrame(stream, OWNER, 27, None, SIZE, found(27)))
        )
        assert (lost.cause, lost.expected) == (Cause.SESSION_LOST, 20)
        assert await feed(successor, stream, 20, 27) == answers[20:]
        gap = await refusal(successor.execute(TrackFrame(stream, OWNER, 30, None, SIZE, found(30))))
        assert gap.cause is Cause.SEQUENCE_GAP

    asyncio.run(main())


def test_without_snapshots_a_lost_session_never_begins_anew_by_itself():
    async def main() -> None:
        session = Session(CONFIG, NoSnapshots())
        stream = await session.execute(OpenStream(OWNER, 25.0))
        await feed(session, stream, 0, 5)
        successor = Session(CONFIG, NoSnapshots())
        for seq in (5, 0):
            lost = await refusal(
                successor.execute(TrackFrame(stream, OWNER, seq, None, SIZE, found(seq)))
            )
            assert (lost.cause, lost.expected) == (Cause.SESSION_LOST, 0)
        unknown = await refusal(
            session.execute(TrackFrame(stream[:-12] + "0" * 12, OWNER, 0, None, SIZE, found(0)))
        )
        assert unknown.cause is Cause.NO_SUCH_STREAM

    asyncio.run(main())


def test_another_version_does_not_go_on_with_a_stream():
    async def main() -> None:
        snapshots = MemorySnapshots()
        session = Session(CONFIG, snapshots)
        stream = await session.execute(OpenStream(OWNER, 25.0))
        await feed(session, stream, 0, 5)
        newer = replace(CONFIG, track=replace(CONFIG.track, min_box_area=300.0))
        assert newer.model != CONFIG.model
        lost = await refusal(
            Session(newer, snapshots).execute(TrackFrame(stream, OWNER, 5, None, SIZE, found(5)))
        )
        assert (lost.cause, lost.expected) == (Cause.SESSION_LOST, 0)

    asyncio.run(main())


def test_a_session_waits_for_an_ingress_of_its_own_version(monkeypatch):
    """Else a stream opened while the service is updated would be told one and answered another."""
    monkeypatch.delattr(SessionReplica, "__del__")  # Serve awaits it, the interpreter does not

    async def main() -> None:
        replica = SessionReplica(replace(CONFIG, snapshots="none"), 0, None)
        stream = await replica.execute(CONFIG.model, OpenStream(OWNER, 25.0))
        for model, is_own in (("older@0.0", False), (CONFIG.model, True)):
            for message in (
                OpenStream(OWNER, 25.0),
                GetExpected(stream, OWNER),
                GetAnswer(stream, OWNER, 0),
                TrackFrame(stream, OWNER, 0, None, SIZE, found(0)),
            ):
                answer = await replica.execute(model, message)
                assert is_own != (isinstance(answer, Refusal) and answer.cause is Cause.UNAVAILABLE)
        assert len(replica._session.table) == 2
        replica._sweeping.cancel()

    asyncio.run(main())


def test_a_store_that_is_away_stops_no_stream_and_is_counted():
    class Broken(MemorySnapshots):
        async def put(self, name: str, content: bytes) -> None:
            raise TimeoutError

        async def delete(self, name: str) -> None:
            raise TimeoutError

    async def main() -> None:
        session = Session(CONFIG, Broken())
        stream = await session.execute(OpenStream(OWNER, 25.0))
        await feed(session, stream, 0, 3)
        assert session.num_unkept == 4
        await session.execute(EndStream(stream, OWNER))

    asyncio.run(main())


def test_streams_of_another_token_are_unknown():
    async def main() -> None:
        session = Session(CONFIG, MemorySnapshots())
        stream = await session.execute(OpenStream(OWNER, 25.0))
        for other in (session, Session(CONFIG, session._snapshots)):
            refused = await refusal(other.execute(GetExpected(stream, "you")))
            assert refused.cause is Cause.NO_SUCH_STREAM
        assert await session.execute(GetExpected(stream, OWNER)) == 0

    asyncio.run(main())


def test_idle_and_ended_streams_are_gone_with_their_snapshots():
    now = [0.0]

    async def main() -> None:
        snapshots = MemorySnapshots()
        session = Session(CONFIG, snapshots)
        session.table._clock = lambda: now[0]
        idle, used, ended = [await session.execute(OpenStream(OWNER, 25.0)) for _ in range(3)]
        await session.execute(EndStream(ended, OWNER))
        now[0] = 59.0
        await feed(session, used, 0, 1)
        now[0] = 61.0
        await session.expire()
        assert session.table.count(OWNER) == len(session.table) == 1
        assert set(snapshots.kept) == {used}
        assert not session._locks.keys() - {used}
        for stream in (idle, ended):
            refused = await refusal(
                session.execute(TrackFrame(stream, OWNER, 0, None, SIZE, found(0)))
            )
            assert refused.cause is Cause.STREAM_ENDED
        assert (await session.execute(GetFigures()))["jde_streams_expired"] == 1

    asyncio.run(main())


def test_the_memory_of_ended_streams_is_bounded():
    table = StreamTable(CONFIG.track, "m", max_ids=10)
    for _ in range(50):
        table.end(table.open(OWNER, 25.0).name)
    assert len(table) == 0
    assert len(table._ended) == 10


def test_size_and_time_of_frames():
    async def main() -> None:
        session = Session(CONFIG, MemorySnapshots())
        stream = await session.execute(OpenStream(OWNER, 25.0))
        await feed(session, stream, 0, 2)
        changed = await refusal(
            session.execute(TrackFrame(stream, OWNER, 2, None, (360, 640), found(2)))
        )
        assert (changed.cause, changed.expected) == (Cause.SIZE_CHANGED, 2)
        bad = await refusal(
            session.execute(TrackFrame(stream, OWNER, 2, float("nan"), SIZE, found(2)))
        )
        assert bad.cause is Cause.INVALID
        await session.execute(TrackFrame(stream, OWNER, 2, 7.5, SIZE, found(2)))
        assert (await refusal(session.execute(OpenStream(OWNER, 0.0)))).cause is Cause.INVALID

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["store", "memory"])
def test_snapshots_survive_their_session(tmp_path, kind):
    def build() -> Any:
        if kind == "memory":
            return SharedMemorySnapshots(tmp_path, 60.0)
        return StoredSnapshots(open_store(str(tmp_path)), asyncio.to_thread)

    async def main() -> None:
        store = build()
        session = Session(CONFIG, store)
        stream = await session.execute(OpenStream(OWNER, 25.0))
        answers = await feed(session, stream, 0, 6)
        successor = Session(CONFIG, build())
        assert await successor.execute(GetAnswer(stream, OWNER, 5)) == answers[-1]
        await successor.execute(EndStream(stream, OWNER))
        assert await store.get(stream) is None

    asyncio.run(main())


def test_a_snapshot_that_nobody_replaces_leaves_the_memory(tmp_path):
    async def main() -> None:
        store = SharedMemorySnapshots(tmp_path, 60.0)
        await store.put("old", b"1")
        os.utime(tmp_path / "old", (time.time() - 61, time.time() - 61))
        await store.put("new", b"2")
        assert await store.get("old") == b"1"  # one looks now and then, not with every frame
        store._swept_s -= 3600
        await store.put("new", b"3")
        assert (await store.get("old"), await store.get("new")) == (None, b"3")
        assert [path.name for path in tmp_path.iterdir()] == ["new"]

    asyncio.run(main())


def test_a_message_is_little_more_than_its_arrays_on_the_wire():
    detections = found(0)
    message = TrackFrame("0-0123abcd-0123456789ab", OWNER, 0, None, SIZE, detections)
    arrays = (detections.tlbr, detections.scores, detections.embeddings)
    content = pickle.dumps(message)
    assert len(content) < len(pickle.dumps(arrays)) + 400
    assert pickle.loads(content).seq == 0  # noqa: S301 - our own


@given(st.binary(max_size=300))
@settings(max_examples=100)
def test_bytes_that_are_no_snapshot_are_refused(data):
    with pytest.raises(ValueError, match=r"snapshot|state"):
        load(data, CONFIG.track)


def test_a_pickle_is_no_snapshot():
    table = StreamTable(CONFIG.track, "m")
    stream = table.open(OWNER, 25.0)
    assert load(dump(stream), CONFIG.track).name == stream.name
    with pytest.raises(ValueError, match="snapshot"):
        load(pickle.dumps({"a": 1}), CONFIG.track)


@pytest.mark.parametrize(
    ("stream", "session"),
    [("0-0123abcd-0123456789ab", 0), ("1f-0123abcd-0123456789ab", 31), ("a", None), ("", None)],
)
def test_an_id_names_its_session(stream, session):
    assert session_of(stream) == session
    assert session_of(stream + "\n") is None
