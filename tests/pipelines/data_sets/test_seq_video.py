from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from original_layouts import jpeg, png, put, seq

from jde_ray.pipelines.data_sets.seq_video import read_seq, read_seq_header

PICTURES = [jpeg(shade=shade) for shade in (10, 70, 130)]


@pytest.mark.parametrize("padding", [2, 10])
@pytest.mark.parametrize("promised", [None, 0, 99])
def test_both_strides_and_any_promised_number(tmp_path: Path, padding, promised):
    path = seq(tmp_path / "a.seq", PICTURES, padding=padding, promised=promised)
    assert list(read_seq(path, {0, 2, 7})) == [(0, PICTURES[0], ".jpg"), (2, PICTURES[2], ".jpg")]


def test_a_short_last_frame_is_none(tmp_path: Path):
    path = seq(tmp_path / "a.seq", PICTURES)
    path.write_bytes(path.read_bytes()[:-40])
    assert [frame for frame, _, _ in read_seq(path, {0, 1, 2})] == [0, 1]


def test_png_frames_and_plain_pixels(tmp_path: Path):
    path = seq(tmp_path / "a.seq", [png()], kind=2)
    assert list(read_seq(path, {0})) == [(0, png(), ".png")]
    pixels = np.arange(48 * 64 * 3, dtype=np.uint32).astype(np.uint8)
    stride = pixels.size + 8
    header = bytearray(seq(tmp_path / "b.seq", [], kind=200).read_bytes())
    struct.pack_into("<I", header, 548 + 24, 2)
    struct.pack_into("<I", header, 548 + 32, stride)
    frames = (pixels.tobytes() + b"\0" * 8) * 2
    raw = put(tmp_path / "c.seq", bytes(header) + frames)
    ((frame, data, suffix),) = read_seq(raw, {1, 5})
    assert (frame, suffix) == (1, ".png")
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), pixels.reshape(48, 64, 3)
    )


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ({"size": (60_000, 60_000)}, "expected sides to"),
        ({"size": (0, 48)}, "got frames of 0x48"),
        ({"kind": 101}, "got the format 101"),
        ({"kind": 200}, "got a stride of 0"),
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, how, reason):
    with pytest.raises(ValueError, match=reason):
        read_seq_header(seq(tmp_path / "a.seq", PICTURES, **how))


def test_an_impossible_length_is_refused(tmp_path: Path):
    path = seq(tmp_path / "a.seq", PICTURES, promised=0)
    data = path.read_bytes()
    second = 1024 + len(PICTURES[0]) + 4 + 16
    path.write_bytes(data[:second] + struct.pack("<I", 3) + data[second + 4 :])
    with pytest.raises(ValueError, match=rf"frame 1 at byte {second}: got 3 bytes"):
        list(read_seq(path, {2}))
