from __future__ import annotations

import cv2
import numpy as np
import pytest

from jde_ray.pipelines.live.images import bgr_to_rgb

BGR = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def test_colours_are_put_in_the_networks_order():
    np.testing.assert_array_equal(bgr_to_rgb(BGR), BGR[:, :, ::-1])
    opaque = np.dstack([BGR, np.zeros((2, 4), np.uint8)])
    np.testing.assert_array_equal(bgr_to_rgb(opaque), BGR[:, :, ::-1])
    for grey in (BGR[:, :, 0], BGR[:, :, :1]):
        np.testing.assert_array_equal(bgr_to_rgb(grey), np.repeat(BGR[:, :, :1], 3, axis=2))


def test_views_are_read_and_the_result_is_the_callers_own():
    turned = np.asarray(BGR[::-1, ::2])
    turned.flags.writeable = False
    rgb = bgr_to_rgb(turned)
    np.testing.assert_array_equal(rgb, turned[:, :, ::-1])
    rgb[:] = 0
    assert BGR.any()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (None, "image: got None, expected .*cannot open"),
        (BGR / 255, "image: got float64, expected uint8 from 0 to 255; multiply by 255 first"),
        (BGR.astype(np.int64), "image: got int64, expected uint8 from 0 to 255$"),
        ("x.jpg", "image: got <U5, expected uint8"),
        (np.zeros((3, 4, 5), np.uint8), r"image: got shape \(3, 4, 5\), expected \(H, W, 3\)"),
        (np.zeros(7, np.uint8), r"image: got shape \(7,\)"),
        (np.zeros((0, 4, 3), np.uint8), "image: got 4x0 pixels, expected sides from 1 to"),
        (np.zeros((1, 20_000, 3), np.uint8), "image: got 20000x1 pixels"),
    ],
)
def test_whatever_is_no_image_is_refused_in_one_line(image, message: str):
    with pytest.raises(ValueError, match=message) as refused:
        bgr_to_rgb(image)
    assert "\n" not in str(refused.value)


def test_a_picture_of_pil_is_refused_with_the_way_to_convert_it():
    """Its RGB was read as BGR, and the numbers of a palette as grey values."""
    pillow = pytest.importorskip("PIL.Image")
    picture = pillow.fromarray(BGR)
    for mode in ("RGB", "P", "L"):
        with pytest.raises(ValueError, match=rf"image: got a picture of PIL \({mode}\)") as refused:
            bgr_to_rgb(picture.convert(mode))
    way = str(refused.value).partition("; ")[2].removesuffix(" makes one")
    array = eval(way, {"cv2": cv2, "np": np, "image": picture})  # noqa: S307 - our own words
    np.testing.assert_array_equal(bgr_to_rgb(array), BGR)
