"""The letterbox has the geometry of the original, forwards and back."""

from __future__ import annotations

import cv2
import numpy as np
import places
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.models.letterbox import Letterbox, fitted_size

# Columns: h, w, W, H, ratio, dw, dh, outW, outH, border value, two checksums of an image that is
# not at hand, and the corners of GOLDEN_BOXES mapped back to the source. See tests/golden.
GOLDEN = np.load(places.GOLDEN / "letterbox.npz")["letterbox"]
GOLDEN_BOXES = np.array([[10.3, 20.7, 300.2, 310.9], [-5.0, -5.0, 2000.0, 2000.0]], np.float32)


@pytest.mark.parametrize("row", GOLDEN, ids=lambda r: "x".join(str(int(v)) for v in r[:4]))
def test_geometry_equals_the_original(row):
    height, width, network_width, network_height = (int(v) for v in row[:4])
    letterbox = Letterbox(width, height, network_width, network_height)
    scaled_width, scaled_height = letterbox.scaled_size
    assert letterbox.ratio == row[4]
    assert (network_width - scaled_width) / 2 == row[5]
    assert (network_height - scaled_height) / 2 == row[6]
    assert letterbox.offset == (round(row[5] - 0.1), round(row[6] - 0.1))
    image = np.zeros((height, width, 3), np.uint8)
    out = letterbox.apply(image)
    assert out.shape == (row[8], row[7], 3)
    border = np.ones(out.shape[:2], bool)
    left, top = letterbox.offset
    border[top : top + scaled_height, left : left + scaled_width] = False
    assert (out[border] == row[9]).all()
    assert not out[~border].any()


@pytest.mark.parametrize("row", GOLDEN, ids=lambda r: "x".join(str(int(v)) for v in r[:4]))
def test_boxes_map_back_as_in_the_original(row):
    height, width, network_width, network_height = (int(v) for v in row[:4])
    letterbox = Letterbox(width, height, network_width, network_height)
    np.testing.assert_allclose(
        letterbox.to_source(GOLDEN_BOXES).ravel(), row[12:], rtol=2e-5, atol=2e-4
    )


@pytest.mark.parametrize("size", [(1920, 1080), (640, 480), (333, 777), (100, 60)])
def test_published_pixels_are_opencv_on_a_grey_border(size):
    width, height = size
    image = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    letterbox = Letterbox(width, height, 576, 320)
    left, top = letterbox.offset
    scaled = cv2.resize(image, letterbox.scaled_size, interpolation=cv2.INTER_AREA)
    right, bottom = 576 - left - scaled.shape[1], 320 - top - scaled.shape[0]
    expected = cv2.copyMakeBorder(
        scaled, top, bottom, left, right, cv2.BORDER_CONSTANT, value=(127.5, 127.5, 127.5)
    )
    np.testing.assert_array_equal(letterbox.apply(image), expected)
    # the original resizes BGR: the order of channels makes no difference
    np.testing.assert_array_equal(letterbox.apply(image[..., ::-1].copy()), expected[..., ::-1])


@given(st.integers(1, 8192), st.integers(1, 8192), st.integers(1, 40), st.integers(1, 40))
def test_every_frame_fits(width, height, columns, rows):
    letterbox = Letterbox(width, height, 32 * columns, 32 * rows)
    left, top = letterbox.offset
    scaled_width, scaled_height = letterbox.scaled_size
    assert 0 <= left <= left + scaled_width <= 32 * columns
    assert 0 <= top <= top + scaled_height <= 32 * rows


@given(st.integers(16, 4000), st.integers(16, 4000))
def test_there_and_back_within_half_a_network_pixel(width, height):
    letterbox = Letterbox(width, height, 576, 320)
    box = np.array([[0.25 * width, 0.25 * height, 0.75 * width, 0.75 * height]])
    back = letterbox.to_source(letterbox.to_network(box))
    assert np.abs(back - box).max() <= 1.1 / letterbox.ratio


def test_sizes_must_be_positive():
    with pytest.raises(ValueError, match="at least 1"):
        Letterbox(0, 10, 576, 320)


@pytest.mark.parametrize(
    ("source", "fitted"),
    [
        ((1920, 1080), (576, 320)),
        ((1080, 1920), (320, 576)),
        ((640, 480), (480, 384)),
        ((1224, 370), (768, 224)),
        ((500, 500), (416, 416)),
        ((16, 8192), (64, 2944)),
        ((8192, 16), (2944, 64)),
    ],
)
def test_fitted_size_follows_the_shape_of_the_frame(source, fitted):
    assert fitted_size(*source, (576, 320)) == fitted


SIDES = st.integers(1, 30).map(lambda side: side * 32)


@given(st.integers(1, 8000), st.integers(1, 8000), st.tuples(SIDES, SIDES))
def test_fitted_size_never_shows_less_and_never_costs_more(width, height, size):
    fitted = fitted_size(width, height, size)
    assert all(side % 32 == 0 and side >= min(64, *size) for side in fitted)
    assert fitted[0] * fitted[1] <= 1.03 * size[0] * size[1]
    ratio = Letterbox(width, height, *fitted).ratio
    assert ratio >= Letterbox(width, height, *size).ratio * (1 - 1e-12)
    turned = fitted_size(height, width, size[::-1])
    assert Letterbox(height, width, *turned).ratio == ratio
