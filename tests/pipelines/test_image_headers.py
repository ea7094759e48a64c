"""Headers of images, beside what OpenCV makes of the same bytes."""

from __future__ import annotations

import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.image_headers import reaches_its_end, read_header

KINDS = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "bmp": ".bmp"}
QUALITIES = {"lossy": [cv2.IMWRITE_WEBP_QUALITY, 80], "lossless": [cv2.IMWRITE_WEBP_QUALITY, 101]}


def encode(suffix: str, width: int, height: int, options: list[int] | None = None) -> bytes:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(suffix, image, options or [])[1].tobytes()


def animated_png(data: bytes) -> bytes:
    """The chunk that makes an APNG of a PNG, before its pixels."""
    body = (2).to_bytes(4, "big") + bytes(4)
    chunk = len(body).to_bytes(4, "big") + b"acTL" + body
    chunk += zlib.crc32(b"acTL" + body).to_bytes(4, "big")
    return data[:33] + chunk + data[33:]


@pytest.mark.parametrize("kind", KINDS)
@given(width=st.integers(1, 400), height=st.integers(1, 400))
@settings(max_examples=25, deadline=None)
def test_kind_and_size_are_those_of_the_decoded_image(kind, width, height):
    data = encode(KINDS[kind], width, height)
    header = read_header(data)
    assert (header.kind, header.width, header.height) == (kind, width, height)
    assert not header.is_animated
    assert reaches_its_end(data)


@pytest.mark.parametrize("quality", QUALITIES)
def test_both_layouts_of_webp(quality):
    header = read_header(encode(".webp", 37, 21, QUALITIES[quality]))
    assert (header.kind, header.width, header.height) == ("webp", 37, 21)


def test_the_extended_layout_of_webp_says_whether_it_moves():
    size = (299).to_bytes(3, "little") + (199).to_bytes(3, "little")
    for flags, moves in ((0x02, True), (0x10, False)):
        body = b"VP8X" + (10).to_bytes(4, "little") + bytes([flags, 0, 0, 0]) + size
        data = b"RIFF" + (4 + len(body)).to_bytes(4, "little") + b"WEBP" + body
        header = read_header(data)
        assert (header.width, header.height, header.is_animated) == (300, 200, moves)


def test_an_apng_is_animated():
    plain = encode(".png", 20, 10)
    assert read_header(animated_png(plain)).is_animated
    assert not read_header(plain).is_animated


@pytest.mark.parametrize("suffix", KINDS.values())
def test_a_cut_header_is_none_and_a_cut_image_does_not_reach_its_end(suffix):
    data = encode(suffix, 64, 48)
    assert read_header(data[:10]) is None
    if suffix != ".bmp":  # says nothing at its end
        assert not reaches_its_end(data[: len(data) // 2])


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_have_a_header_or_none(data):
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBP", b"BM"):
        header = read_header(start + data)
        assert header is None or header.width >= 0
