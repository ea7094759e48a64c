"""Headers of images, beside what OpenCV makes of the same bytes."""

from __future__ import annotations

import re
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.video import image_headers
from jde_ray.pipelines.video.image_headers import (
    MAX_SCANS,
    check_image,
    reaches_its_end,
    read_header,
)

KINDS = {"jpeg": ".jpg", "png": ".png", "webp": ".webp", "bmp": ".bmp"}
QUALITIES = {"lossy": [cv2.IMWRITE_WEBP_QUALITY, 80], "lossless": [cv2.IMWRITE_WEBP_QUALITY, 101]}


def encode(suffix: str, width: int, height: int, options: list[int] | None = None) -> bytes:
    image = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(suffix, image, options or [])[1].tobytes()


def with_chunks(data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with more chunks before its pixels."""
    more = [
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
        for kind, body in chunks
    ]
    return data[:33] + b"".join(more) + data[33:]


def animated_png(data: bytes) -> bytes:
    """The chunk that makes an APNG of a PNG, before its pixels."""
    return with_chunks(data, (b"acTL", (2).to_bytes(4, "big") + bytes(4)))


def with_scans(num_scans: int, size: tuple[int, int] = (160, 96)) -> bytes:
    """A progressive JPEG whose last scan is there as often as it takes."""
    data = encode(".jpg", *size, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])
    last = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + last * (num_scans - data.count(b"\xff\xda")) + data[-2:]


def pixels(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)


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
        assert reaches_its_end(data + bytes(1000))  # as some cameras pad their files


def test_the_end_of_a_picture_inside_a_png_is_not_its_own():
    data, inner = encode(".png", 64, 48), encode(".png", 8, 8)
    chunk = len(inner).to_bytes(4, "big") + b"prVW" + inner
    chunk += zlib.crc32(chunk[4:]).to_bytes(4, "big")
    data = data[:33] + chunk + data[33:]
    assert reaches_its_end(data)
    assert not reaches_its_end(data[: 33 + len(chunk) - 4])
    assert not reaches_its_end(data[:-20])


@given(st.binary(max_size=200))
@settings(max_examples=300)
def test_any_bytes_have_a_header_or_none(data):
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF1234WEBP", b"BM"):
        header = read_header(start + data)
        assert header is None or header.width >= 0


class Steps:
    """Counts the steps from marker to marker that a check of a JPEG makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count, self._marker = 0, image_headers._MARKER
        monkeypatch.setattr(image_headers, "_MARKER", self)

    def search(self, data: bytes, position: int) -> re.Match[bytes] | None:
        self.count += 1
        return self._marker.search(data, position)


@pytest.mark.parametrize("num_scans", [MAX_SCANS + 1, 2 * MAX_SCANS, 14_558])
def test_a_jpeg_of_too_many_scans_is_refused_at_the_first_too_many(num_scans, monkeypatch):
    data, steps = with_scans(num_scans), Steps(monkeypatch)
    with pytest.raises(VideoError, match=f"expected {MAX_SCANS}") as caught:
        check_image(data, frame=7)
    assert (caught.value.reason, caught.value.frame) == (Reason.TOO_LARGE, 7)
    assert steps.count < 2 * MAX_SCANS  # tables stand between the first scans
    assert check_image(data, max_scans=num_scans) is data


def test_only_what_a_decoder_takes_for_a_scan_counts():
    data = with_scans(MAX_SCANS)
    assert check_image(data) is data
    many = b"\xff\xda" * 200
    comment = b"\xff\xfe" + (2 + len(many)).to_bytes(2, "big") + many
    hidden = data[:2] + comment + data[2:] + many  # in a comment, and behind the end
    assert check_image(hidden) is hidden
    fill = data[:-2] + b"\xff" * 9 + b"\xda\x00\x08\x01\x01\x00\x01\x3f\x10" + data[-2:]
    with pytest.raises(VideoError):
        check_image(fill)


def test_hostile_markers_without_end_are_given_up(monkeypatch):
    steps, most = Steps(monkeypatch), image_headers._MAX_SEGMENTS
    endless = b"\xff\xd8" + b"\xff\xe0\x00\x02" * 4 * most + b"\xff\xda" * 100
    with pytest.raises(VideoError):
        check_image(endless)
    assert steps.count == most
    steps.count = 0
    assert check_image(b"\xff\xd8" + b"\xff\x00" * most + b"\xff\xd9" + b"\xff\xda" * 99)
    assert steps.count == 1  # over all that are none


def test_texts_and_profiles_of_a_png_never_reach_the_decoder():
    plain = encode(".png", 40, 30)
    packed = zlib.compress(bytes(7_000_000))
    texts = [(b"zTXt", b"a\0\0" + packed), (b"iTXt", b"a\0\1\0\0\0" + packed)]
    chunks = [*texts * 20, (b"tEXt", b"a\0b"), (b"iCCP", b"a\0\0" + packed), (b"eXIf", b"MM\0*")]
    assert check_image(with_chunks(plain, *chunks)) == plain
    assert check_image(animated_png(plain)) == plain
    assert check_image(plain + with_chunks(plain, *chunks)) == plain  # nothing behind its end
    gamma = with_chunks(plain, (b"gAMA", (45455).to_bytes(4, "big")))
    assert (pixels(check_image(gamma)) == pixels(gamma)).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_pixels_of_a_png_stay_the_same(channels, depth):
    high = np.iinfo(depth).max
    image = np.random.default_rng(0).integers(0, high, (20, 30, channels), depth)
    data = cv2.imencode(".png", image)[1].tobytes()
    kept = check_image(with_chunks(data, (b"tEXt", b"a\0b")))
    assert (pixels(kept) == pixels(data)).all()


@given(st.binary(max_size=200), st.integers(0, 200))
@settings(max_examples=200)
def test_any_bytes_are_checked_without_an_exception_of_another_kind(data, at):
    png = encode(".png", 20, 10)
    for start in (b"", b"\xff\xd8", b"\x89PNG\r\n\x1a\n", png[:at]):
        check_image(start + data)
