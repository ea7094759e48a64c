"""Decoding: every frame once, upright, with rising times; and an honest reason when it fails."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
import pytest
from made_videos import (
    number_frame,
    read_number,
    set_display_matrix,
    write_images,
    write_sound,
    write_video,
)

from models.letterbox import Letterbox
from pipelines.errors import Reason, VideoError
from pipelines.schema import FrameChunk, Segment, Video, VideoInfo
from pipelines.videos import decode_segment, read_frames

SIZE = (96, 64)
DATA = Path(os.environ.get("JDE_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))


def decode(
    path: Path,
    *,
    size: tuple[int, int] = SIZE,
    resize: str = "fast",
    chunk_frames: int = 8,
    vid_stride: int = 1,
    max_frames: int | None = None,
    is_image_folder: bool = False,
    rate: float | None = None,
) -> list[FrameChunk]:
    segment = Segment(Video(str(path), path.stem, is_image_folder, rate), attempt=3)
    return list(
        decode_segment(
            segment,
            size=size,
            resize=resize,
            chunk_frames=chunk_frames,
            vid_stride=vid_stride,
            max_frames=max_frames,
        )
    )


def numbers(chunks: list[FrameChunk]) -> list[int]:
    """What is written into the pixels of every frame."""
    return [read_number(f) for c in chunks for f in c.frames[: len(c.frame_index)]]


def indices(chunks: list[FrameChunk]) -> list[int]:
    return [int(i) for c in chunks for i in c.frame_index]


def times(chunks: list[FrameChunk]) -> list[float]:
    return [float(t) for c in chunks for t in c.time_s]


def failure(path: Path, **options: bool) -> VideoError:
    """The error of a video that must fail: one last chunk without frames."""
    chunks = decode(path, **options)
    last = chunks[-1]
    assert [c.is_last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert last.error is not None
    assert len(last.frame_index) == len(last.time_s) == 0
    assert "\n" not in str(last.error)
    return last.error


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("plain.mp4", {"bf": "0"}),
        ("b_frames.mp4", {"bf": "3", "b-pyramid": "normal"}),
        ("open_gop.mkv", {"bf": "3", "x264-params": "open-gop=1:keyint=5"}),
        ("b_frames.avi", {"bf": "2"}),
        ("stream.ts", {"bf": "2"}),
    ],
)
def test_every_frame_comes_once_and_in_order(tmp_path, name, options):
    chunks = decode(write_video(tmp_path / name, 21, options=options))
    assert numbers(chunks) == indices(chunks) == list(range(21))
    assert times(chunks) == pytest.approx([i / 25 for i in range(21)], abs=1e-3)
    assert chunks[-1].info == VideoInfo(96, 64, 25.0)
    assert all(c.error is None and c.attempt == 3 and c.num_damaged == 0 for c in chunks)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "mpeg4"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mjpeg"),
        ("a.mp4", "libx265"),
        ("a.mov", "mpeg4"),
    ],
)
def test_codecs_of_archives_decode(tmp_path, name, codec):
    assert numbers(decode(write_video(tmp_path / name, 5, codec=codec))) == list(range(5))


@pytest.mark.parametrize("num_frames", [1, 7, 8, 9, 16])
def test_chunks_are_full_but_the_last_which_says_so(tmp_path, num_frames):
    chunks = decode(write_video(tmp_path / "a.mp4", num_frames))
    assert [c.chunk_index for c in chunks] == list(range(len(chunks)))
    assert [c.is_last for c in chunks] == [False] * (len(chunks) - 1) + [True]
    assert [len(c.frame_index) for c in chunks[:-1]] == [8] * (len(chunks) - 1)
    assert all(c.frames.shape == (8, 64, 96, 3) for c in chunks)
    padding = chunks[-1].frames[len(chunks[-1].frame_index) :]
    assert not padding.any()
    assert indices(chunks) == list(range(num_frames))


def test_stride_keeps_source_numbers_and_max_frames_counts_what_is_taken(tmp_path):
    path = write_video(tmp_path / "a.mp4", 20)
    chunks = decode(path, vid_stride=3, max_frames=5, chunk_frames=2)
    assert numbers(chunks) == indices(chunks) == [0, 3, 6, 9, 12]
    assert times(chunks) == pytest.approx([0, 0.12, 0.24, 0.36, 0.48])
    assert chunks[-1].is_last
    assert [len(c.frame_index) for c in chunks] == [2, 2, 1]
    assert indices(decode(path, max_frames=8)) == list(range(8))


def test_variable_frame_rate_keeps_its_times(tmp_path):
    pts = [0, 40, 50, 500, 520, 1000]
    chunks = decode(write_video(tmp_path / "a.mp4", 6, pts=pts))
    assert times(chunks) == pytest.approx([p / 1000 for p in pts])
    assert indices(chunks) == list(range(6))


def test_times_rise_where_stamps_do_not(tmp_path):
    # a raw stream has no stamps of its own; a Matroska file may carry any
    pts = [0, 40, 40, 80, 80, 120]
    path = write_video(tmp_path / "a.mkv", 6, pts=pts, codec="ffv1")
    assert (np.diff(times(decode(path))) > 0).all()


QUARTERS = {
    (1, 0, 0, 1): "red green blue grey",
    (0, 1, -1, 0): "blue red grey green",
    (-1, 0, 0, -1): "grey blue green red",
    (0, -1, 1, 0): "green grey red blue",
    (-1, 0, 0, 1): "green red grey blue",
}
COLOURS = {
    "red": (220, 30, 30),
    "green": (30, 220, 30),
    "blue": (30, 30, 220),
    "grey": (40, 40, 40),
}


def corners(frame: np.ndarray) -> str:
    near = [frame[y, x].astype(int) for y in (3, -4) for x in (3, -4)]
    names = [min(COLOURS, key=lambda c: np.abs(p - COLOURS[c]).sum()) for p in near]
    return " ".join(names)


@pytest.mark.parametrize(("matrix", "expected"), QUARTERS.items())
def test_display_rotation_and_mirroring_are_applied(tmp_path, matrix, expected):
    path = set_display_matrix(write_video(tmp_path / "a.mp4", 2), matrix)
    width, height = (64, 96) if matrix[0] == 0 else (96, 64)
    for resize in ("fast", "published"):
        chunk = decode(path, size=(width, height), resize=resize)[0]
        assert (chunk.info.width, chunk.info.height) == (width, height)
        assert corners(chunk.frames[0]) == expected
    _, _, full = next(read_frames(Video(str(path), "a")))
    assert full.shape == (height, width, 3)
    assert corners(full) == expected


@pytest.mark.parametrize("size", [(98, 62), (34, 130), (130, 34)])
def test_odd_sizes_lie_where_the_letterbox_says(tmp_path, size):
    path = write_video(tmp_path / "a.mp4", 2, size=size)
    fast = decode(path, size=(192, 96))[0].frames[0]
    published = decode(path, size=(192, 96), resize="published")[0].frames[0]
    letterbox = Letterbox(*size, 192, 96)
    left, top = letterbox.offset
    width, height = letterbox.scaled_size
    for frame in (fast, published):
        inside = np.zeros((96, 192), bool)
        inside[top : top + height, left : left + width] = True
        assert (frame[~inside] == 128).all()
        assert corners(frame[top : top + height, left : left + width]) == "red green blue grey"
    assert np.abs(fast.astype(int) - published).mean() < 8


def test_full_frames_agree_with_chunks(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10)
    frames = list(read_frames(Video(str(path), "a")))
    assert [i for i, _, _ in frames] == list(range(10))
    assert [read_number(rgb) for _, _, rgb in frames] == list(range(10))
    assert [t for _, t, _ in frames] == times(decode(path))


def test_colours_come_back(tmp_path):
    chunk = decode(write_video(tmp_path / "a.mp4", 1))[0]
    assert np.abs(chunk.frames[0].astype(int) - number_frame(0)).mean() < 6


def test_a_size_that_changes_on_the_way_is_scaled_to_the_first(tmp_path):
    parts = [write_video(tmp_path / f"{w}.ts", 4, size=(w, 64)) for w in (96, 128)]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(p.read_bytes() for p in parts))
    chunks = decode(both)
    assert numbers(chunks) == [0, 1, 2, 3, 0, 1, 2, 3]
    assert (np.diff(times(chunks)) > 0).all()
    assert {c.info for c in chunks} == {VideoInfo(96, 64, 25.0)}
    assert {rgb.shape for _, _, rgb in read_frames(Video(str(both), "x"))} == {(64, 96, 3)}


def test_image_folders(tmp_path):
    sequence = write_images(tmp_path / "MOT-1", 10, rate=14)
    chunks = decode(sequence, is_image_folder=True, rate=14.0)
    assert numbers(chunks) == indices(chunks) == list(range(10))
    assert times(chunks) == pytest.approx([i / 14 for i in range(10)])
    assert chunks[0].info == VideoInfo(96, 64, 14.0)
    plain = write_images(tmp_path / "plain", 3)
    assert numbers(decode(plain, is_image_folder=True)) == [0, 1, 2]


def test_images_are_in_the_order_of_their_numbers(tmp_path):
    folder = write_images(tmp_path / "plain", 11)
    for path in sorted(folder.iterdir()):
        path.rename(folder / f"frame{int(path.stem) - 1}.png")
    assert numbers(decode(folder, is_image_folder=True)) == list(range(11))


def test_broken_images_name_their_frame(tmp_path):
    folder = write_images(tmp_path / "plain", 3)
    (folder / "000002.png").write_bytes((folder / "000002.png").read_bytes()[:60])
    error = failure(folder, is_image_folder=True)
    assert (error.reason, error.frame) == (Reason.TRUNCATED, 1)
    (folder / "000001.png").write_text("no image")
    assert failure(folder, is_image_folder=True).reason is Reason.UNSUPPORTED_FORMAT
    huge = b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + (20_000).to_bytes(4, "big") * 2
    (folder / "000001.png").write_bytes(huge + bytes(100))
    assert failure(folder, is_image_folder=True).reason is Reason.TOO_LARGE
    for path in folder.iterdir():
        path.unlink()
    assert failure(folder, is_image_folder=True).reason is Reason.EMPTY


CONTAINERS = {
    "tail_index.mp4": {},
    "front_index.mp4": {"container_options": {"movflags": "faststart"}},
    "fragments.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.avi": {"options": {"bf": "2"}},
    "a.mkv": {},
    "a.ts": {},
}


@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_cut_off_file_is_truncated(tmp_path, name, share):
    path = write_video(tmp_path / name, 30, **CONTAINERS[name])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    error = failure(path)
    assert error.reason is Reason.TRUNCATED
    assert error.frame is not None
    assert 0 <= error.frame < 30


@pytest.mark.parametrize("name", ["front_index.mp4", "mpeg4.avi"])
def test_a_file_that_lacks_no_frame_is_good(tmp_path, name):
    path = write_video(tmp_path / name, 30, **CONTAINERS[name])
    data = path.read_bytes()
    if name.endswith("avi"):  # the index behind the frames is missing
        path.write_bytes(data[: data.rindex(b"idx1")])
    else:  # something strange follows, and claims more bytes than there are
        path.write_bytes(data + b"\x00\x01\x00\x00free")
    assert numbers(decode(path)) == list(range(30))


def test_a_wrong_frame_count_in_the_header_harms_nothing(tmp_path):
    path = write_video(tmp_path / "a.avi", 12, codec="mpeg4")
    data = bytearray(path.read_bytes())
    start = data.index(b"avih") + 8 + 16  # dwTotalFrames
    data[start : start + 4] = (477).to_bytes(4, "little")
    path.write_bytes(data)
    assert numbers(decode(path)) == list(range(12))


def test_what_is_no_video_says_why(tmp_path):
    empty, text = tmp_path / "empty.mp4", tmp_path / "text.mp4"
    empty.write_bytes(b"")
    text.write_text("Dear diary, today I renamed a file.\n" * 50)
    assert failure(empty).reason is Reason.EMPTY
    assert failure(text).reason is Reason.UNSUPPORTED_FORMAT
    assert failure(write_sound(tmp_path / "sound.mp4")).reason is Reason.NO_VIDEO_STREAM
    assert failure(tmp_path / "missing.mp4").reason is Reason.NOT_FOUND
    assert failure(tmp_path).reason is Reason.UNSUPPORTED_FORMAT
    assert failure(tmp_path / "nul\0.mp4").reason is Reason.BAD_KEY


def test_formats_that_name_other_files_are_never_opened(tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    playlist = tmp_path / "list.mp4"
    playlist.write_text("ffconcat version 1.0\nfile a.mp4\n")
    assert failure(playlist).reason is Reason.UNSUPPORTED_FORMAT
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:1,\na.mp4\n")
    assert failure(playlist).reason is Reason.UNSUPPORTED_FORMAT


def test_codecs_off_the_list_are_refused(tmp_path):
    path = write_video(tmp_path / "a.avi", 3, codec="asv1")
    error = failure(path)
    assert error.reason is Reason.UNSUPPORTED_CODEC
    assert "asv1" in error.detail


def test_encrypted_files_are_told_apart(tmp_path):
    key = "0123456789abcdef0123456789abcdef"
    scheme = {"encryption_scheme": "cenc-aes-ctr", "encryption_key": key, "encryption_kid": key}
    path = write_video(tmp_path / "a.mp4", 5, container_options=scheme)
    assert failure(path).reason is Reason.ENCRYPTED


def test_frames_too_large_are_refused_before_decoding(tmp_path):
    path = write_video(tmp_path / "a.mkv", 1, size=(8194, 16), codec="ffv1")
    error = failure(path)
    assert error.reason is Reason.TOO_LARGE
    assert "8194x16" in error.detail


def test_a_file_still_being_written_is_told_apart(tmp_path):
    path = write_video(tmp_path / "a.ts", 20)
    chunks = decode_segment(
        Segment(Video(str(path), "a")), size=SIZE, resize="fast", chunk_frames=4
    )
    next(chunks)
    with path.open("ab") as file:
        file.write(bytes(188))
    error = list(chunks)[-1].error
    assert error is not None
    assert error.reason is Reason.CHANGED_DURING_READ


@pytest.mark.parametrize("seed", range(60))
def test_damaged_bytes_end_in_frames_or_in_a_reason(tmp_path, seed):
    rng = np.random.default_rng(seed)
    name = list(CONTAINERS)[seed % len(CONTAINERS)]
    path = write_video(tmp_path / name, 12, **CONTAINERS[name])
    data = bytearray(path.read_bytes())
    region = len(data) if seed % 3 else 400
    for position in rng.integers(min(region, len(data)), size=rng.choice((1, 10, 100, 1000))):
        data[position] = rng.integers(256)
    path.write_bytes(data)
    chunks = decode(path)
    error = chunks[-1].error
    assert chunks[-1].is_last
    assert error is not None or 0 < len(indices(chunks)) < 1000
    if error is not None:
        assert error.reason in set(Reason) - {Reason.INTERNAL}


def test_read_frames_raises_the_same_reasons(tmp_path):
    with pytest.raises(VideoError, match="not_found"):
        next(read_frames(Video(str(tmp_path / "missing.mp4"), "x")))


REAL_VIDEOS = {
    "pets09_s2l1_vtest_480x360.avi": 795,
    "towncentre_1080p.mp4": 302,
    "tokyo_street_moving_360p.mp4": 319,
    "underpass_360x288.avi": 239,
    "mot_night_street_8frames.mp4": 8,
    "intel_one_by_one_ccby.mp4": 1394,
}


@pytest.mark.data
@pytest.mark.parametrize(("name", "num_frames"), REAL_VIDEOS.items())
def test_real_videos_give_every_frame(name, num_frames):
    path = DATA / "videos" / name
    if not path.exists():
        pytest.skip(f"no {name}: set JDE_TEST_DATA to the folder that holds videos/")
    chunks = decode(path, size=(64, 32), chunk_frames=64)
    assert chunks[-1].error is None
    assert indices(chunks) == list(range(num_frames))
    assert (np.diff(times(chunks)) > 0).all()


def test_av_is_quiet():
    assert av.logging.get_level() is None or av.logging.get_level() < av.logging.INFO
