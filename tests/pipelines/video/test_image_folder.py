"""Frames that are images on disk."""

from __future__ import annotations

import cv2
import pytest
from decoded import decode, failure, indices, numbers, times
from made_videos import number_frame, write_images

from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.structures import VideoInfo
from jde_ray.pipelines.video.image_folder import images_version


def test_image_folders(tmp_path):
    sequence = write_images(tmp_path / "MOT-1", 10, rate=14)
    chunks = decode(sequence, is_image_folder=True, rate=14.0)
    assert numbers(chunks) == indices(chunks) == list(range(10))
    assert times(chunks) == pytest.approx([i / 14 for i in range(10)])
    assert chunks[0].info == VideoInfo(96, 64, 14.0)
    assert chunks[0].info.version == images_version(str(sequence))
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


def test_a_jpeg_of_very_many_scans_is_too_large(tmp_path):
    """A megabyte of scans held a decoder for minutes."""
    folder = write_images(tmp_path / "plain", 2)
    jpeg = cv2.imencode(".jpg", number_frame(1), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    last = jpeg[jpeg.rfind(b"\xff\xda") : -2]
    (folder / "000002.png").write_bytes(jpeg[:-2] + last * 14_000 + jpeg[-2:])
    error = failure(folder, is_image_folder=True)
    assert (error.reason, error.frame) == (Reason.TOO_LARGE, 1)
    assert "64 scans" in error.detail
