"""Frames of video files: all of them, upright, with times that rise."""

from __future__ import annotations

import zlib
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from decoded import SIZE, corners, decode, failure, indices, numbers, times
from hostile_files import GOOD
from made_videos import (
    number_frame,
    read_number,
    set_display_matrix,
    write_packets,
    write_video,
)

from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.structures import FrameChunk, Segment, Video, VideoInfo
from jde_ray.pipelines.video import video_file
from jde_ray.pipelines.video.chunks import decode_segment, read_frames
from jde_ray.pipelines.video.containers import opened
from jde_ray.pipelines.video.source_file import source_file
from jde_ray.pipelines.video.splitting import split_segment


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


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p10le", "yuv444p", "yuv422p16le", "bgra", "gray", "gray16le"]
)
def test_deep_grey_and_transparent_pixels_become_rgb(tmp_path, pixel_format):
    path = write_video(tmp_path / "a.mkv", 3, codec="ffv1", pixel_format=pixel_format)
    chunks = decode(path)
    assert numbers(chunks) == [0, 1, 2]
    if not pixel_format.startswith("gray"):
        assert corners(chunks[0].frames[0]) == "red green blue grey"


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (3, 3), (2000, 2)])
@pytest.mark.parametrize("resize", ["fast", "published"])
def test_the_smallest_frames_decode(tmp_path, size, resize):
    path = write_video(tmp_path / "a.mkv", 2, codec="ffv1", size=size, pixel_format="gray")
    chunks = decode(path, resize=resize)
    assert indices(chunks) == [0, 1]
    assert (chunks[0].info.width, chunks[0].info.height) == size


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


def kept(path: Path, keep_partial: bool) -> tuple[list[tuple[int, int]], FrameChunk]:
    """Numbers of the frames, and those that their pixels show; and the last chunk."""
    segment = Segment(Video(str(path), "x"), keep_partial=keep_partial)
    chunks = list(decode_segment(segment, size=(96, 64), resize="fast", chunk_frames=7))
    shown = [
        (int(index), read_number(frame))
        for chunk in chunks
        for index, frame in zip(chunk.frame_index, chunk.frames, strict=False)
    ]
    return shown, chunks[-1]


@pytest.mark.parametrize(
    ("name", "least"),
    [("front.mp4", 51), ("fragments.mp4", 54), ("h264.mkv", 52), ("vp9.webm", 56),
     ("mpeg4.avi", 52), ("mjpeg.avi", 54), ("h264.ts", 54)],
)  # fmt: skip
def test_the_frames_before_a_cut_are_kept_on_request(tmp_path, name, least):
    path = write_video(tmp_path / name, 60, gop=8, **GOOD[name])
    whole = [(number, number) for number in range(60)]
    assert kept(path, True)[0] == whole
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.9)])
    shown, end = kept(path, True)
    assert shown == whole[: len(shown)]
    assert len(shown) >= least
    assert end.is_partial
    assert (end.error.reason, end.error.frame) == (Reason.TRUNCATED, len(shown))
    _, end = kept(path, False)
    assert end.error.reason == Reason.TRUNCATED
    assert not end.is_partial


def test_frames_after_damage_that_libav_skips_are_not_kept(tmp_path):
    """A broken cluster in the middle: libav goes on behind it, with wrong numbers."""
    path = write_video(tmp_path / "a.mkv", 60, gop=8, **GOOD["mpeg4.mkv"])
    data = bytearray(path.read_bytes())
    second = data.index(bytes.fromhex("1f43b675"), data.index(bytes.fromhex("1f43b675")) + 4)
    data[second : second + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    shown, end = kept(path, True)
    assert 0 < len(shown) < 30
    assert shown == [(number, number) for number in range(len(shown))]
    assert (end.is_partial, end.error.reason) == (True, Reason.DECODE)


def test_a_damaged_part_of_a_long_video_is_decoded_again_in_one_piece(tmp_path):
    path = write_video(tmp_path / "a.mp4", 80, gop=8, **GOOD["front.mp4"])
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size][60]
    data[at : at + 4] = b"\xff\xff\xff\xff"  # the length of a unit, beyond the packet
    path.write_bytes(data)
    segment = Segment(Video(str(path), "x"), keep_partial=True)
    parts = split_segment(segment, segment_frames=20, step=7)
    assert len(parts) > 2
    ends = [
        list(decode_segment(part, size=(96, 64), resize="fast", chunk_frames=7))[-1]
        for part in parts
    ]
    assert [end.decode_whole for end in ends if end.error] == [True]
    shown, end = kept(path, True)
    assert end.is_partial
    assert shown == [(number, number) for number in range(60)]


def test_a_damaged_image_ends_a_partial_folder(tmp_path):
    for number in range(9):
        cv2.imwrite(str(tmp_path / f"{number}.png"), number_frame(number)[:, :, ::-1])
    whole = (tmp_path / "5.png").read_bytes()
    (tmp_path / "5.png").write_bytes(whole[: len(whole) // 2])
    segment = Segment(Video(str(tmp_path), "x", is_image_folder=True), keep_partial=True)
    chunks = list(decode_segment(segment, size=(96, 64), resize="fast", chunk_frames=3))
    assert [len(chunk.frame_index) for chunk in chunks] == [3, 2, 0]
    assert (chunks[-1].is_partial, chunks[-1].error.frame) == (True, 5)


def test_a_wrong_frame_count_in_the_header_harms_nothing(tmp_path):
    path = write_video(tmp_path / "a.avi", 12, codec="mpeg4")
    data = bytearray(path.read_bytes())
    start = data.index(b"avih") + 8 + 16  # dwTotalFrames
    data[start : start + 4] = (477).to_bytes(4, "little")
    path.write_bytes(data)
    assert numbers(decode(path)) == list(range(12))


def test_av_is_quiet():
    assert av.logging.get_level() is None or av.logging.get_level() < av.logging.INFO


def test_a_motion_jpeg_of_very_many_scans_is_too_large(tmp_path):
    image = cv2.resize(number_frame(1), (960, 640))
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = jpeg[jpeg.rfind(b"\xff\xda") : -2]
    bomb = jpeg[:-2] + last * 1000 + jpeg[-2:]
    for name, at in (("a.avi", 0), ("a.mov", 1), ("a.mkv", 2)):
        frames = [bomb if number == at else jpeg for number in range(3)]
        error = failure(write_packets(tmp_path / name, "mjpeg", frames, (960, 640)))
        assert (error.reason, error.frame) == (Reason.TOO_LARGE, at)


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.avi", "mjpeg"),
        ("a.mov", "mjpeg"),
        ("a.mkv", "mjpeg"),
        ("a.avi", "png"),
        ("a.mov", "png"),
    ],
)
def test_images_are_not_decoded_while_a_file_is_opened(tmp_path, name, codec):
    image = cv2.imencode({"mjpeg": ".jpg", "png": ".png"}[codec], number_frame(1))[1].tobytes()
    path = write_packets(tmp_path / name, codec, [image] * 3, (96, 64))
    with source_file(str(path)) as file, opened(file, Video(str(path), "a")) as source:
        assert source.stream.codec_context.name == codec
        assert source.stream.codec_context.pix_fmt is None  # known only after a look at one


def test_texts_in_the_images_of_a_png_video_are_not_unpacked(tmp_path, monkeypatch):
    body = b"zTXt" + b"a\0\0" + zlib.compress(bytes(7_000_000))
    text = (len(body) - 4).to_bytes(4, "big") + body + zlib.crc32(body).to_bytes(4, "big")
    images = [cv2.imencode(".png", number_frame(i)[..., ::-1])[1].tobytes() for i in range(3)]
    heavy = [image[:33] + text * 5 + image[33:] for image in images]
    check, decoded = video_file._Decoding._checked, []

    def checked(self, packet):
        packet = check(self, packet)
        decoded.append(bytes(packet))
        return packet

    monkeypatch.setattr(video_file._Decoding, "_checked", checked)
    assert numbers(decode(write_packets(tmp_path / "a.mov", "png", heavy, (96, 64)))) == [0, 1, 2]
    assert decoded == images
