"""Images of clients: refused before they are decoded, or decoded as offline."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from faults.attack_service import text_bomb
from made_videos import write_images

from jde_ray.pipelines.serving.client import connection
from jde_ray.pipelines.serving.images import (
    check_content_type,
    check_image,
    decode_image,
    to_network,
)
from jde_ray.pipelines.serving.refusals import Cause, Refusal
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.video.chunks import decode_segment

PIXELS = 1_000_000


def encode(image: np.ndarray, suffix: str = ".png") -> bytes:
    return cv2.imencode(suffix, image)[1].tobytes()


def cause(call, *arguments) -> Cause:
    with pytest.raises(Refusal) as refused:
        call(*arguments)
    assert "\n" not in refused.value.detail
    return refused.value.cause


PLAIN = encode(np.full((20, 30, 3), 90, np.uint8))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Cause.BAD_IMAGE),
        (b"GIF89a" + bytes(100), Cause.UNSUPPORTED_TYPE),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", Cause.UNSUPPORTED_TYPE),
        (b"II*\0" + bytes(100), Cause.UNSUPPORTED_TYPE),  # TIFF
        (b"SIMPLE  =" + bytes(100), Cause.UNSUPPORTED_TYPE),  # FITS
        (encode(np.zeros((4, 4, 3), np.uint8), ".bmp"), Cause.UNSUPPORTED_TYPE),
        (PLAIN[:8] + bytes(25) + PLAIN[33:], Cause.UNSUPPORTED_TYPE),  # no IHDR
        (PLAIN[:16] + b"\0\0\xff\xff\0\0\xff\xff" + PLAIN[24:], Cause.TOO_MANY_PIXELS),
        (PLAIN[:16] + b"\0\0\0\0\0\0\0\x09" + PLAIN[24:], Cause.BAD_IMAGE),
        (PLAIN[:-20], Cause.BAD_IMAGE),
        (PLAIN[:50] + b"\x7f" * 20 + PLAIN[70:], Cause.BAD_IMAGE),
    ],
)
def test_what_is_no_usable_image_is_refused(data, expected):
    assert cause(decode_image, data, PIXELS) is expected


def test_the_limit_of_pixels_is_exact_and_looks_at_the_header_only():
    data = encode(np.zeros((1000, 1000, 3), np.uint8))
    assert check_image(data, 1_000_000) == (1000, 1000)
    assert cause(check_image, data, 999_999) is Cause.TOO_MANY_PIXELS
    bomb = data[:16] + (8192).to_bytes(4, "big") * 2 + data[24:]
    assert cause(check_image, bomb, 36_000_000) is Cause.TOO_MANY_PIXELS


def test_a_decoder_gets_nothing_of_a_png_but_its_picture(monkeypatch):
    decode_it, sizes = cv2.imdecode, []

    def imdecode(data: np.ndarray, flags: int) -> np.ndarray:
        sizes.append(len(data))
        return decode_it(data, flags)

    monkeypatch.setattr(cv2, "imdecode", imdecode)
    for num_texts in (0, 2, 4):
        assert decode_image(text_bomb(num_texts), PIXELS).shape == (64, 64, 3)
    assert sizes == [len(text_bomb(0))] * 3


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg; q=1", "application/octet-stream", None])
def test_content_types_of_images_are_accepted(kind):
    check_content_type(kind, None)
    check_content_type(kind, "identity")


def test_other_types_and_compressed_bodies_are_refused():
    for kind in ("text/html", "application/json", "image/gif", "multipart/form-data", ""):
        assert cause(check_content_type, kind, None) is Cause.UNSUPPORTED_TYPE
    for encoding in ("gzip", "br", "gzip, gzip"):
        assert cause(check_content_type, "image/png", encoding) is Cause.UNSUPPORTED_TYPE


def test_a_png_becomes_the_frame_that_the_offline_run_sees(tmp_path):
    folder = write_images(tmp_path / "sequence", 3, 10.0)
    video = Video(str(folder), "sequence", is_image_folder=True)
    for size, rect in (((64, 64), False), ((192, 96), False), ((64, 64), True)):
        chunks = list(
            decode_segment(Segment(video), size=size, rect=rect, resize="published", chunk_frames=1)
        )
        assert len(chunks) == 3
        for number, chunk in enumerate(chunks):
            data = (folder / "img1" / f"{number + 1:06d}.png").read_bytes()
            ready = to_network(data, size, PIXELS, rect=rect)
            np.testing.assert_array_equal(ready.pixels, chunk.frames[0])
            assert (ready.width, ready.height) == (chunk.info.width, chunk.info.height)


def test_a_jpeg_of_the_client_is_nearly_the_frame():
    """Colours too: a swap of channels would be many grey levels away."""
    across, down = np.meshgrid(np.arange(160), np.arange(120))
    image = np.stack([across, 255 - 2 * down, np.full_like(down, 30)], 2).astype(np.uint8)
    decoded = decode_image(connection.encode(image, "jpeg"), PIXELS)
    assert np.abs(decoded.astype(int) - image).mean() < 2
    assert np.abs(decoded[..., ::-1].astype(int) - image).mean() > 10
    np.testing.assert_array_equal(decode_image(connection.encode(image, "png"), PIXELS), image)


def test_grey_alpha_and_16_bit_images_become_rgb():
    rng = np.random.default_rng(1)
    for image in (
        rng.integers(0, 255, (9, 11), np.uint8),
        rng.integers(0, 255, (9, 11, 4), np.uint8),
        rng.integers(0, 60000, (9, 11, 3), np.uint16),
    ):
        decoded = decode_image(encode(image), PIXELS)
        assert decoded.shape == (9, 11, 3)
        assert decoded.dtype == np.uint8
