"""Files that end too early are told apart from those that only look odd."""

from __future__ import annotations

import io

import pytest
from decoded import decode, failure, numbers
from made_videos import (
    CONTAINERS,
    write_video,
)

from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.video.container_structure import Structure, read_structure


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


def box(kind: bytes, size: int, *, wide: bool = False) -> bytes:
    """Header of an iso box; `wide` writes its size in 64 bits."""
    if wide:
        return (1).to_bytes(4, "big") + kind + size.to_bytes(8, "big")
    return size.to_bytes(4, "big") + kind


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", Structure()),
        (b"plain text, and more of it than a header has", Structure()),
        (box(b"ftyp", 8) + box(b"mdat", 5000), Structure("iso", 5008, has_index=False)),
        (
            box(b"ftyp", 8) + box(b"moov", 8) + box(b"mdat", 6 << 30, wide=True),
            Structure("iso", 16 + (6 << 30)),
        ),
        (box(b"ftyp", 8) + box(b"moov", 8) + box(b"mdat", 0) + bytes(92), Structure("iso", 116)),
        (
            box(b"ftyp", 8) + box(b"moov", 8) + box(b"moof", 8) + box(b"mdat", 8),
            Structure("iso", 32, is_fragmented=True),
        ),
        (box(b"ftyp", 3) + bytes(50), Structure("iso", 0, has_index=False)),
        (b"RIFF\xff\x00\x00\x00AVI LIST\x00\x00\x00\x00movi" + bytes(9), Structure("avi", 263)),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x90" + bytes(9), Structure("matroska", 26)),
        (b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\xff" + bytes(9), Structure("matroska", 0)),
        (b"\x1a\x45\xdf\xa3", Structure("matroska", 0)),
        (b"G" + bytes(187) + b"G" + bytes(50), Structure("mpegts", 376)),
    ],
)
def test_what_the_outermost_structure_promises(data, expected):
    assert read_structure(io.BytesIO(data), len(data)) == expected


def test_encryption_is_seen_in_the_index():
    moov = box(b"moov", 24) + b"encv....schm...."
    structure = read_structure(io.BytesIO(box(b"ftyp", 8) + moov), 32)
    assert structure.is_encrypted
