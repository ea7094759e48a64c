"""Videos cut at keyframes: whatever is decoded first, the chunks are those of the whole video.

Every frame carries its number as a bar code in its pixels.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from decoded import SIZE, indices, numbers
from made_videos import pan_frame, write_images, write_video

from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.structures import FrameChunk, Segment, Video
from jde_ray.pipelines.video import video_file
from jde_ray.pipelines.video.chunks import decode_segment
from jde_ray.pipelines.video.splitting import split_segment

NUM_FRAMES = 150
VARIABLE = np.cumsum(np.random.default_rng(0).choice([1, 13, 40, 40, 77, 400], NUM_FRAMES)).tolist()
CUTTABLE = {
    "closed.mp4": {"options": {"bf": "0"}, "gop": 12},
    "b_frames.mp4": {"options": {"bf": "3", "b-pyramid": "normal"}, "gop": 15},
    "open_gop.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=11:min-keyint=4"}},
    "open_gop.mkv": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=11"}},
    "variable.mp4": {"options": {"bf": "2"}, "gop": 10, "pts": VARIABLE},
    "variable_open.mkv": {
        "options": {"bf": "3", "x264-params": "open-gop=1:keyint=9"},
        "pts": VARIABLE,
    },
    "fragments.mp4": {"gop": 10, "container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "front.mp4": {"gop": 10, "container_options": {"movflags": "faststart"}},
    "hevc.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=14:open-gop=1:bframes=3:log-level=none"},
    },
    "hevc_closed.mkv": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=14:open-gop=0:bframes=3:log-level=none"},
    },
    "mpeg4.mp4": {"codec": "mpeg4", "gop": 12, "options": {"bf": "2"}},
    "vp9.webm": {"codec": "libvpx-vp9", "gop": 20, "options": {"deadline": "realtime"}},
    "mjpeg.mov": {"codec": "mjpeg"},
}


def segment_of(path: Path) -> Segment:
    return Segment(Video(str(path), path.stem), attempt=2)


def decode(segment: Segment, chunk_frames: int, **settings: object) -> list[FrameChunk]:
    options = {"size": SIZE, "resize": "fast", "chunk_frames": chunk_frames} | settings
    return list(decode_segment(segment, **options))  # type: ignore[arg-type]


def assert_same_chunks(got: list[FrameChunk], want: list[FrameChunk]) -> None:
    assert [c.chunk_index for c in got] == [c.chunk_index for c in want]
    for one, other in zip(got, want, strict=True):
        for name in ("frame_index", "time_s", "frames", "camera_motion"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
        for name in ("video_id", "attempt", "info", "is_last", "num_damaged"):
            assert getattr(one, name) == getattr(other, name)
        assert str(one.error) == str(other.error)


@pytest.fixture
def sought(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each seek came to its keyframe."""
    results: list[bool] = []
    original = video_file._Decoding.seek

    def seek(self, target):
        frames = original(self, target)
        results.append(frames is not None)
        return frames

    monkeypatch.setattr(video_file._Decoding, "seek", seek)
    return results


@pytest.mark.parametrize("name", CUTTABLE)
def test_segments_decoded_in_any_order_give_the_chunks_of_the_whole(tmp_path, sought, name):
    path = write_video(tmp_path / name, NUM_FRAMES, **CUTTABLE[name])
    whole = decode(segment_of(path), 4)
    assert numbers(whole) == indices(whole) == list(range(NUM_FRAMES))
    parts = split_segment(segment_of(path), segment_frames=30, step=4)
    assert len(parts) >= 3
    assert all(part.start_frame % 4 == 0 for part in parts)
    random.Random(name).shuffle(parts)
    chunks = [chunk for part in parts for chunk in decode(part, 4)]
    assert_same_chunks(sorted(chunks, key=lambda c: c.chunk_index), whole)
    assert sought == [True] * (len(parts) - 1)  # nothing was decoded from the beginning


@pytest.mark.parametrize(("stride", "max_frames"), [(1, 77), (3, None), (3, 40), (2, 64), (1, 10)])
def test_stride_and_frame_limit_are_those_of_the_whole(tmp_path, stride, max_frames):
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, **CUTTABLE["open_gop.mp4"])
    settings = {"vid_stride": stride, "max_frames": max_frames}
    limit = None if max_frames is None else max_frames * stride
    parts = split_segment(segment_of(path), segment_frames=24, step=4 * stride, max_frames=limit)
    chunks = [chunk for part in parts for chunk in decode(part, 4, **settings)]
    assert_same_chunks(chunks, decode(segment_of(path), 4, **settings))
    assert max_frames == 10 or len(parts) > 1


@pytest.mark.parametrize(
    ("name", "stride"), [("closed.mp4", 1), ("open_gop.mkv", 3), ("vp9.webm", 1)]
)
def test_the_cameras_motion_is_that_of_the_whole_and_no_part_is_decoded_from_the_beginning(
    tmp_path, sought, name, stride
):
    path = write_video(
        tmp_path / name, NUM_FRAMES, **CUTTABLE[name], size=(320, 192), draw=pan_frame
    )
    settings = {"vid_stride": stride, "camera_motion": True, "size": (320, 192)}
    whole = decode(segment_of(path), 4, **settings)
    motions = np.concatenate([chunk.camera_motion for chunk in whole])
    assert (motions[0] == np.eye(2, 3)).all()
    moves = [not (motion == np.eye(2, 3)).all() for motion in motions[1:]]
    assert np.mean(moves) > 0.8
    parts = split_segment(segment_of(path), segment_frames=24, step=4 * stride, lead=stride)
    assert len(parts) >= 3
    chunks = [chunk for part in parts for chunk in decode(part, 4, **settings)]
    assert_same_chunks(chunks, whole)
    assert sought == [True] * (len(parts) - 1)
    rest = [chunk for chunk in whole if chunk.chunk_index >= 5]  # as from a checkpoint
    left = replace(segment_of(path), start_frame=20 * stride)
    assert_same_chunks(decode(left, 4, **settings), rest)
    limited = decode(segment_of(path), 4, **settings, max_frames=22)
    assert_same_chunks(decode(left, 4, **settings, max_frames=22), limited[5:])


def test_the_motion_in_an_image_folder_is_that_of_the_whole(tmp_path):
    folder = write_images(tmp_path / "seq", 30, size=(320, 192), rate=10, draw=pan_frame)
    segment = Segment(Video(str(folder), "seq", is_image_folder=True))
    settings = {"camera_motion": True, "size": (320, 192)}
    whole = decode(segment, 4, **settings)
    assert not (whole[2].camera_motion == np.eye(2, 3)).all()
    parts = split_segment(segment, segment_frames=8, step=4, lead=1)
    assert len(parts) == 4
    assert_same_chunks([chunk for part in parts for chunk in decode(part, 4, **settings)], whole)


@pytest.mark.parametrize("start", [8, 64, 144])
def test_going_on_from_a_frame_gives_what_is_left(tmp_path, start):
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, **CUTTABLE["open_gop.mp4"])
    rest = [c for c in decode(segment_of(path), 4) if c.chunk_index >= start // 4]
    left = replace(segment_of(path), start_frame=start)
    assert_same_chunks(decode(left, 4), rest)  # uncut: decoded from the beginning
    parts = split_segment(left, segment_frames=30, step=4)
    assert (parts[0].seek is None) == (start < 11)  # before the second keyframe there is nothing
    assert_same_chunks([chunk for part in parts for chunk in decode(part, 4)], rest)


def test_a_stream_without_clean_keyframes_is_decoded_from_the_beginning(tmp_path, sought):
    """Intra refresh: what is marked as a key starts no clean picture."""
    options = {"x264-params": "intra-refresh=1:keyint=20:bframes=0"}
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, options=options)
    keys = segment_of(path)
    parts = split_segment(keys, segment_frames=30, step=4)
    chunks = [chunk for part in parts for chunk in decode(part, 4)]
    assert_same_chunks(chunks, decode(keys, 4))


@pytest.mark.parametrize("name", ["a.ts", "h264.avi"])
def test_containers_without_reliable_stamps_are_one_segment(tmp_path, name):
    segment = segment_of(write_video(tmp_path / name, NUM_FRAMES, options={"bf": "2"}))
    assert split_segment(segment, segment_frames=30, step=4) == [segment]


def test_a_short_video_is_not_cut_and_a_missing_one_is_left_to_the_decoder(tmp_path):
    short = segment_of(write_video(tmp_path / "a.mp4", 50, gop=5))
    assert split_segment(short, segment_frames=30, step=4) == [short]
    missing = segment_of(tmp_path / "none.mp4")
    assert split_segment(missing, segment_frames=30, step=4) == [missing]


def test_a_file_that_is_cut_off_is_refused_as_before(tmp_path):
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, gop=10)
    path.write_bytes(path.read_bytes()[:-3000])
    segment = segment_of(path)
    assert split_segment(segment, segment_frames=30, step=4) == [segment]


def test_a_file_replaced_after_it_was_cut_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, gop=10)
    *_, last = split_segment(segment_of(path), segment_frames=30, step=4)
    write_video(path, NUM_FRAMES + 1, gop=10)
    error = decode(last, 4)[-1].error
    assert error is not None
    assert error.reason is Reason.CHANGED_DURING_READ


@pytest.mark.parametrize("wrong", [{"stop_pts": 1}, {"stop_frame": None, "num_frames": 99}])
def test_frames_that_are_not_what_the_packets_promised_are_noticed(tmp_path, wrong):
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, gop=10)
    parts = split_segment(segment_of(path), segment_frames=30, step=4)
    last = decode(replace(parts[1], **wrong), 4)[-1]
    assert last.error is not None
    assert last.decode_whole


def test_an_image_folder_is_cut_anywhere(tmp_path):
    folder = write_images(tmp_path / "seq", 50, rate=10)
    segment = Segment(Video(str(folder), "seq", is_image_folder=True))
    parts = split_segment(segment, segment_frames=10, step=4)
    assert [(p.start_frame, p.stop_frame) for p in parts] == [
        (0, 12), (12, 24), (24, 36), (36, 48), (48, None),
    ]  # fmt: skip
    chunks = [chunk for part in parts for chunk in decode(part, 4)]
    assert_same_chunks(chunks, decode(segment, 4))


def test_parts_that_would_have_to_invent_a_time_send_the_video_to_be_decoded_whole(tmp_path):
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, codec="mpeg4", gop=10, late={15: 95})
    whole = decode(segment_of(path), 4)
    assert numbers(whole) == list(range(NUM_FRAMES))
    parts = split_segment(segment_of(path), segment_frames=30, step=4)
    ends = [decode(part, 4)[-1] for part in parts]
    assert [end.decode_whole for end in ends if end.error] == [True]
    left = [c for c in whole if c.chunk_index >= 10]  # a run that goes on behind the late frame
    parts = split_segment(replace(segment_of(path), start_frame=40), segment_frames=30, step=4)
    assert len(parts) > 2
    assert_same_chunks([chunk for part in parts for chunk in decode(part, 4)], left)


def test_what_is_lost_in_a_part_sends_the_video_to_be_decoded_whole(tmp_path):
    options = {"x265-params": "log-level=none:bframes=0:keyint=15:min-keyint=15"}
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, codec="libx265", options=options)
    parts = split_segment(segment_of(path), segment_frames=30, step=4)
    original = path.read_bytes()
    with av.open(str(path)) as container:
        entries = [(e.pos, e.size) for e in container.streams.video[0].index_entries]
    position, _ = entries[parts[1].start_frame + 7]
    stamp = path.stat()
    data = bytearray(original)
    data[position + 4] |= 0x40 | 0x10  # another kind of unit: one that decoders pass over
    path.write_bytes(data)
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    last = decode(parts[1], 4)[-1]
    assert last.error is not None
    assert last.decode_whole
    whole = decode(segment_of(path), 4)[-1].error
    assert whole is not None
    assert whole.reason is Reason.DECODE


def test_what_was_replaced_since_it_was_listed_is_not_decoded(tmp_path):
    path = write_video(tmp_path / "a.mp4", NUM_FRAMES, gop=10)
    folder = write_images(tmp_path / "seq", 50, rate=10)
    rest = replace(segment_of(path), start_frame=40, version="as it was listed")
    images = Segment(Video(str(folder), "seq", True), version="as it was listed", start_frame=8)
    for segment in (rest, images):
        for part in split_segment(segment, segment_frames=10, step=4):
            error = decode(part, 4)[-1].error
            assert error is not None
            assert error.reason is Reason.CHANGED_DURING_READ


def test_images_replaced_after_the_folder_was_cut_are_refused(tmp_path):
    folder = write_images(tmp_path / "seq", 50, rate=10)
    *_, last = split_segment(Segment(Video(str(folder), "seq", True)), segment_frames=10, step=4)
    assert decode(last, 4)[-1].error is None
    (folder / "img1" / "000001.png").write_bytes((folder / "img1" / "000002.png").read_bytes())
    error = decode(last, 4)[-1].error
    assert error is not None
    assert error.reason is Reason.CHANGED_DURING_READ
