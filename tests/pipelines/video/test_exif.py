from __future__ import annotations

import struct

import pytest
from original_layouts import jpeg, png, turned_jpeg

from jde_ray.pipelines.video.exif import UPRIGHT, orientation_of, without_exif


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_of_a_jpeg(orientation: int):
    assert orientation_of(turned_jpeg(orientation)) == orientation
    assert without_exif(turned_jpeg(orientation)) == jpeg()


def test_in_big_endian_order_too():
    data = turned_jpeg(6)
    small = data[data.index(b"II*") :][:26]
    tiff = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)
    assert orientation_of(data.replace(small, tiff[: len(small)])) == 6


@pytest.mark.parametrize(
    "data",
    [jpeg(), png(), b"", b"\xff\xd8", turned_jpeg(0), turned_jpeg(99), turned_jpeg(6)[:30],
     turned_jpeg(6).replace(b"II*", b"XX*")],
)  # fmt: skip
def test_everything_else_is_upright(data: bytes):
    assert orientation_of(data) == UPRIGHT
