from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from conftest import WORKER_PATH
from fakes import Script

from jde_ray.pipelines.config import OutputConfig, ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.output.checkpoints import find_states
from jde_ray.pipelines.storage.base import Body
from jde_ray.pipelines.storage.local import LocalStore
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import (
    Decoded,
    DecodeGrant,
    DetectionChunk,
    Segment,
    Verdict,
    Video,
)
from jde_ray.pipelines.tracking.stages import associate, wire_format
from jde_ray.pipelines.tracking.stages.associate import MAX_TRIES, AssociationShard
from jde_ray.pipelines.tracking.stages.session import Checkpointing
from jde_ray.pipelines.tracking.stages.shard_client import ShardClient
from jde_ray.pipelines.tracking.stages.start_shards import start_shards

GO = DecodeGrant(go=True)


def shard(out: Path, checkpoints: Checkpointing | None = None) -> AssociationShard:
    settings = (fakes.CONFIG, OutputConfig(), {"model": "fake"})
    return AssociationShard(str(out), *settings, checkpoints=checkpoints)


def chunks(tmp_path: Path, name: str = "a") -> tuple[Segment, list[DetectionChunk]]:
    segment = Segment(Video(Script(seed=len(name)).write(tmp_path / "in", name), name))
    detector = Detector(fakes.CONFIG.detection, ResourceConfig(), fakes.COMPONENTS.build_model)
    frames = fakes.decode(segment, size=fakes.SIZE, resize="fast", chunk_frames=8)
    return segment, [detector.detect(chunk) for chunk in frames]


def test_many_videos_at_once_each_ends_by_itself(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    videos = [chunks(tmp_path, name) for name in ("a", "bb", "ccc")]
    own.open(segment for segment, _ in videos)
    for parts in zip(*(parts for _, parts in videos), strict=True):
        for chunk in parts:
            assert own.begin(chunk.video_id, 0, chunk.chunk_index) == Verdict.TAKEN
            assert own.deliver(wire_format.pack(chunk)) == Verdict.TAKEN
    assert own.stats().ended_videos == 3
    assert own.stats().open_videos == 0
    outcomes = own.finish()
    assert {o.video.video_id for o in outcomes} == {s.video.video_id for s, _ in videos}
    assert all(o.error is None and o.counts.frames == 40 for o in outcomes)


def test_a_chunk_is_worked_on_once_and_its_copies_are_dropped(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segment, parts = chunks(tmp_path)
    own.open([segment])
    assert own.deliver(wire_format.pack(parts[2])) == Verdict.TAKEN
    assert own.begin(segment.video.video_id, 0, 2) == Verdict.DUPLICATE
    assert own.deliver(wire_format.pack(parts[2])) == Verdict.DUPLICATE
    assert own.stats().duplicates == 1
    for part in parts:
        own.deliver(wire_format.pack(part))
    assert own.begin(segment.video.video_id, 0, 2) == Verdict.ENDED
    assert own.deliver(wire_format.pack(parts[2])) == Verdict.ENDED


def test_a_video_it_does_not_know_is_fenced(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segment, parts = chunks(tmp_path)
    assert own.begin(segment.video.video_id, 0, 0) == Verdict.STALE
    assert own.deliver(wire_format.pack(parts[0])) == Verdict.STALE
    own.open([Segment(segment.video, 1)])
    assert own.deliver(wire_format.pack(parts[0])) == Verdict.STALE


def test_a_chunk_that_keeps_ending_detectors_ends_its_video(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segment, parts = chunks(tmp_path)
    video_id = segment.video.video_id
    own.open([segment])
    own.deliver(wire_format.pack(parts[0]))
    answers = [own.begin(video_id, 0, 1) for _ in range(MAX_TRIES + 2)]
    assert answers == [Verdict.TAKEN] * MAX_TRIES + [Verdict.ENDED] * 2
    record = json.loads((tmp_path / "out/errors" / f"{video_id}.json").read_text())
    assert (record["reason"], record["detail"]) == ("worker_died", "chunk 1 ended 3 detectors")


def test_of_chunks_begun_together_the_one_that_ends_detectors_is_found(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    videos = [chunks(tmp_path, name) for name in ("a", "bb")]
    own.open(segment for segment, _ in videos)
    row = [(part.video_id, 0, part.chunk_index) for _, parts in videos for part in parts[:2]]
    packed = [wire_format.pack(part) for _, parts in videos for part in parts[:2]]
    assert own.begin_all(row) == [Verdict.TAKEN] * 4
    for tries in range(MAX_TRIES + 1):  # the third one of them ends its detector
        assert own.begin_all(row) is None
        assert [own.begin(*key) for key in row[:2]] == [
            Verdict.DUPLICATE if tries else Verdict.TAKEN
        ] * 2
        own.deliver_all(packed[:2])
        assert own.begin(*row[2]) == (Verdict.TAKEN if tries < MAX_TRIES else Verdict.ENDED)
    assert own.begin_all(row) == [
        Verdict.DUPLICATE,
        Verdict.DUPLICATE,
        Verdict.ENDED,
        Verdict.ENDED,
    ]
    (outcome,) = own.finish()
    assert str(outcome.error) == "worker_died: chunk 0 ended 3 detectors"
    assert outcome.video == videos[1][0].video


def test_of_videos_decoded_together_the_one_that_ends_workers_is_found(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segments = [chunks(tmp_path, name)[0] for name in ("a", "bb", "ccc")]
    ids = [segment.video.video_id for segment in segments]
    own.open(segments)
    assert own.begin_decode_all(segments) == [GO] * 3
    own.decoded([Decoded(ids[0], 0, 5, True), Decoded(ids[1], 0, 2, False)])
    for tries in range(MAX_TRIES + 1):  # the second one of them ends its worker
        assert own.begin_decode_all(segments) is None
        assert own.begin_decode(segments[0]) == GO
        own.decoded([Decoded(ids[0], 0, 5, True)])
        assert own.begin_decode(segments[1]) == (
            GO if tries < MAX_TRIES else DecodeGrant(go=False, num_chunks=2)
        )
    assert own.begin_decode(segments[2]) == GO
    assert [str(outcome.error) for outcome in own.finish()] == [
        "worker_died: decoding ended 3 workers"
    ]


def test_a_video_that_keeps_ending_decoders_is_given_up(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segment, _ = chunks(tmp_path)
    video_id = segment.video.video_id
    own.open([segment])
    for _ in range(MAX_TRIES):
        assert own.begin_decode(segment) == GO
        own.decoded([Decoded(video_id, 0, 5, False)])
    assert own.begin_decode(segment) == DecodeGrant(go=False, num_chunks=5)
    assert str(own.finish()[0].error) == "worker_died: decoding ended 3 workers"


def test_decoding_again_what_was_decoded_well_is_no_suspicion(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segment, _ = chunks(tmp_path)
    own.open([segment])
    for _ in range(3 * MAX_TRIES):
        assert own.begin_decode(segment) == GO
        own.decoded([Decoded(segment.video.video_id, 0, 5, True)])


def test_parts_of_a_video_that_has_ended_are_not_decoded(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segment, parts = chunks(tmp_path)
    first, second = replace(segment, stop_frame=16), replace(segment, start_frame=16)
    own.open([segment])
    assert own.begin_decode(first) == GO
    own.decoded([Decoded(segment.video.video_id, 0, 2, True)])
    assert own.reached(segment.video.video_id, 0) == 0
    own.deliver(wire_format.pack(parts[0]))
    assert own.reached(segment.video.video_id, 0) == 1
    for part in parts[1:]:
        own.deliver(wire_format.pack(part))
    assert own.reached(segment.video.video_id, 0) is None
    assert own.begin_decode(second) == DecodeGrant(go=False)
    assert own.begin_decode(first) == GO  # a replay must be as long as what was read of it


def test_a_video_whose_parts_do_not_fit_is_left_to_the_next_pass(tmp_path: Path) -> None:
    own = shard(tmp_path / "out", Checkpointing("t", 8))
    segment, parts = chunks(tmp_path)
    own.open([segment])
    own.deliver(wire_format.pack(parts[0]))
    assert list((tmp_path / "out/checkpoints").rglob("state.npz"))
    misfit = replace(parts[1], error=VideoError(Reason.INTERNAL, ""), decode_whole=True)
    assert own.deliver(wire_format.pack(misfit)) == Verdict.STALE
    assert own.stats().uncuttable == [segment.video.video_id]
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert own.finish() == []


def test_an_actor_goes_on_from_the_checkpoint_of_a_lost_one(tmp_path: Path) -> None:
    segment, parts = chunks(tmp_path)
    for name, until in (("whole", len(parts)), ("out", 3)):
        own = shard(tmp_path / name, Checkpointing("first", 16))
        own.open([segment])
        for part in parts[:until]:
            own.deliver(wire_format.pack(part))
        own.finish()
    (key,) = find_states(open_store(str(tmp_path / "out")))[segment.video.video_id]
    rest = replace(segment, attempt=1, start_frame=16, checkpoint=key)
    other = shard(tmp_path / "out", Checkpointing("second", 16))
    other.open([rest])
    assert other.reached(rest.video.video_id, 1) == 2
    assert other.deliver(wire_format.pack(replace(parts[1], attempt=1))) == Verdict.DUPLICATE
    for part in parts[2:]:
        assert other.deliver(wire_format.pack(replace(part, attempt=1))) == Verdict.TAKEN
    assert len(other.finish()) == 1
    found = [
        {path.name: path.read_bytes() for path in (tmp_path / name).rglob("*") if path.is_file()}
        for name in ("whole", "out")
    ]
    assert found[0] == found[1]


def test_a_checkpoint_that_cannot_be_read_leaves_the_video_to_the_next_pass(tmp_path: Path) -> None:
    segment, parts = chunks(tmp_path)
    store = open_store(str(tmp_path / "out"))
    store.put("checkpoints/x/y/000000000016/state.npz", b"damaged")
    own = shard(tmp_path / "out", Checkpointing("second", 16))
    key = "checkpoints/x/y/000000000016/state.npz"
    own.open([replace(segment, start_frame=16, checkpoint=key)])
    assert own.deliver(wire_format.pack(parts[2])) == Verdict.STALE
    assert not store.exists(key)


def test_a_full_disk_halts_the_run_and_blames_no_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> bool:
        raise OSError(28, "No space left on device")

    own = shard(tmp_path / "out")
    segment, parts = chunks(tmp_path)
    own.open([segment])
    monkeypatch.setattr("jde_ray.pipelines.storage.local.LocalStore.put_if_absent", full)
    for part in parts:
        assert own.deliver(wire_format.pack(part)) in (
            Verdict.TAKEN,
            Verdict.HALTED,
        )  # it is committed in the background
    assert own.finish() == []
    assert own.begin(segment.video.video_id, 0, 0) == Verdict.HALTED
    assert "No space left" in str(own.stats().halted)


def test_commits_go_on_in_the_background_and_only_so_many_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(associate, "_MOST_COMMITS", 2)
    own = shard(tmp_path / "out")
    segment, parts = chunks(tmp_path)
    videos = [Segment(replace(segment.video, uri=f"/{i}.mp4")) for i in range(4)]
    own.open(videos)
    may_commit, original = threading.Event(), LocalStore.put_if_absent

    def waiting(self: LocalStore, key: str, body: Body) -> bool:
        assert may_commit.wait(60)
        return original(self, key, body)

    monkeypatch.setattr(LocalStore, "put_if_absent", waiting)
    for video in videos[:2]:
        for part in parts:
            own.deliver(wire_format.pack(replace(part, video_id=video.video.video_id)))
    assert own.stats().ended_videos == 2
    assert not list(tmp_path.glob("out/tracks/*"))
    threading.Timer(0.05, may_commit.set).start()  # the third one waits for the first
    for video in videos[2:]:
        for part in parts:
            own.deliver(wire_format.pack(replace(part, video_id=video.video.video_id)))
    assert len(own.finish()) == 4
    assert len(list(tmp_path.glob("out/tracks/*"))) == 4


def test_unfinished_videos_are_left_to_the_next_pass(tmp_path: Path) -> None:
    own = shard(tmp_path / "out")
    segment, parts = chunks(tmp_path)
    own.open([segment])
    own.deliver(wire_format.pack(parts[0]))
    assert own.finish() == []
    assert own.deliver(wire_format.pack(parts[1])) == Verdict.STALE
    assert not (tmp_path / "out").exists()


def test_association_does_without_torch() -> None:
    code = "import sys, pipelines.tracking.stages.associate; print('torch' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout == "False\n"


def test_the_spool_of_a_killed_actor_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spools = tmp_path / "tmp"
    spools.mkdir()
    code = """
import fakes, os, sys
from jde_ray.pipelines.tracking.stages.associate import AssociationShard
from jde_ray.pipelines.config import OutputConfig
own = AssociationShard(sys.argv[1], fakes.CONFIG, OutputConfig(), {})
open(os.path.join(own._spool.name, "rows"), "w").close()
os.kill(os.getpid(), 9)
"""
    environment = os.environ | {"TMPDIR": str(spools), "PYTHONPATH": WORKER_PATH}
    command = [sys.executable, "-c", code, str(tmp_path / "out")]
    assert subprocess.run(command, env=environment, check=False).returncode == -9
    (left,) = spools.iterdir()
    monkeypatch.setattr("tempfile.tempdir", str(spools))
    own, other = shard(tmp_path / "out"), shard(tmp_path / "out")
    assert not left.exists()
    assert len(list(spools.iterdir())) == 2  # both live
    for one in (own, other):
        one.finish()
    assert list(spools.iterdir()) == []


def is_alive(actor: object) -> bool:
    import ray

    try:
        ray.get(actor.stats.remote())  # type: ignore[attr-defined]
    except ray.exceptions.RayActorError:
        return False
    return True


@pytest.mark.ray
def test_as_actors_they_are_found_by_name_and_a_dead_one_fences(
    ray_cluster: str, tmp_path: Path
) -> None:
    import ray

    segment, parts = chunks(tmp_path)
    out = str(tmp_path / "out")
    shards = start_shards("test-pass", [segment], 2, out, fakes.CONFIG, OutputConfig(), {})
    owners = ShardClient("test-pass", 2)
    other, _ = chunks(tmp_path, "other")  # nobody owns it
    strange = replace(parts[0], video_id=other.video.video_id)
    assert owners.begin_all([*parts[::2], strange]) == [Verdict.TAKEN] * len(parts[::2]) + [
        Verdict.STALE
    ]
    assert owners.send_all([strange, *parts[::2]])() == [Verdict.STALE] + [Verdict.TAKEN] * len(
        parts[::2]
    )
    for part in reversed(parts[1::2]):
        assert owners.begin(part) == Verdict.TAKEN
        assert owners.deliver(part) == Verdict.TAKEN
    assert owners.begin_decode(segment) == GO
    assert owners.begin_decode_all([segment, other]) is None  # it was begun and has not ended
    owners.decoded([Decoded(one.video.video_id, 0, 5, True) for one in (segment, other)])
    assert owners.begin_decode_all([segment, other]) == [GO, GO]
    assert sorted(len(ray.get(s.finish.remote())) for s in shards) == [0, 1]
    for s in shards:
        ray.kill(s)
        while is_alive(s):  # killing takes a moment
            time.sleep(0.05)
    assert owners.deliver(parts[0]) == Verdict.LOST
    assert owners.send_all(parts[:2])() == [Verdict.LOST] * 2
    assert owners.begin_all(parts[:2]) == [Verdict.STALE] * 2
    assert owners.begin_decode(segment) == DecodeGrant(go=False)
    assert owners.begin_decode_all([segment, other]) == [DecodeGrant(go=False)] * 2
    assert ShardClient("no-such-pass", 2).deliver(parts[0]) == Verdict.LOST
