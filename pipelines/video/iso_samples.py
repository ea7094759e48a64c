"""Number of samples per track of an mp4 or mov file, according to its tables; decodes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_IN_FRAGMENT = frozenset({b"mfhd", b"traf", b"pssh", b"uuid", b"free", b"meta", b"udta"})
_IN_TRACK = frozenset(
    {
        *(b"tfhd", b"tfdt", b"trun", b"sbgp", b"sgpd", b"subs", b"sdtp", b"meta", b"udta"),
        *(b"saiz", b"saio", b"senc", b"uuid", b"free"),
    }
)
_MOST_BOXES = 10_000  # per box; a malicious file may contain millions


def samples_of_index(moov: bytes) -> dict[int, int | None]:
    """Number of samples by track.

    Two tables count them; the larger number is used, since damage makes one smaller. It is None
    for a track that an edit list shows only in part, since libav leaves out the rest.

    Args:
        moov: Bytes of the complete box.
    """
    movie_scale = 0
    found: dict[int, int | None] = {}
    for kind, content in _boxes(moov[8:]):
        if kind == b"mvhd":
            movie_scale = _number(content, 20 if content[:1] == b"\1" else 12)
        elif kind == b"trak":
            number = _number(_inside(content, b"tkhd"), 12)
            if _inside(content, b"tkhd")[:1] == b"\1":
                number = _number(_inside(content, b"tkhd"), 20)
            tables = _inside(content, b"mdia", b"minf", b"stbl")
            is_part = _is_trimmed(content, movie_scale)
            found[number] = None if is_part else _num_samples(tables)
    return found


def samples_of_fragment(moof: bytes) -> tuple[Counter[int], bool]:
    """Number of samples by track in a fragment, and whether its boxes are intact.

    Args:
        moof: Bytes of the complete box.
    """
    found: Counter[int] = Counter()
    kinds, is_sound = set(), _is_filled(moof[8:])
    for kind, fragment in _boxes(moof[8:]):
        kinds.add(kind)
        if kind == b"traf":
            number = _number(_inside(fragment, b"tfhd"), 4)
            is_sound = is_sound and _is_filled(fragment)
            for name, content in _boxes(fragment):
                is_sound = is_sound and name in _IN_TRACK
                if name == b"trun":
                    is_sound = is_sound and len(content) == _run_size(content)
                    found[number] += _number(content, 4)
    return found, is_sound and kinds <= _IN_FRAGMENT


def _run_size(run: bytes) -> int:
    """Length in bytes of a table of samples, according to its flags."""
    flags = _number(run, 0) & 0xFFFFFF
    columns = (flags >> 8 & 0xF).bit_count()
    return 8 + 4 * (flags & 1) + (flags & 4) + 4 * columns * _number(run, 4)


def _num_samples(tables: bytes) -> int:
    sizes = _inside(tables, b"stsz") or _inside(tables, b"stz2")
    return max(_number(sizes, 8), int(_table(_inside(tables, b"stts"))[:, 0].sum()))


def _is_trimmed(track: bytes, movie_scale: int) -> bool:
    edits = _inside(track, b"edts", b"elst")
    if not edits:
        return False
    width = 8 if edits[:1] == b"\1" else 4
    entries = []
    for place in range(8, min(len(edits), 8 + _number(edits, 4) * (2 * width + 4)), 2 * width + 4):
        length = int.from_bytes(edits[place : place + width], "big")
        start = int.from_bytes(edits[place + width : place + 2 * width], "big", signed=True)
        if start != -1:  # -1 marks an initial delay
            entries.append((length, start))
    if len(entries) != 1:
        return True
    tables = _inside(track, b"mdia", b"minf", b"stbl")
    durations = _table(_inside(tables, b"stts"))
    if len(durations) == 0:
        return False  # all samples are in fragments
    (length, start), first = entries[0], _table(_inside(tables, b"ctts"))[:1]
    media = _inside(track, b"mdia", b"mdhd")
    scale = _number(media, 20 if media[:1] == b"\1" else 12)
    left = int((durations[:, 0] * durations[:, 1]).sum()) - start
    longest = int(durations[:, 1].max(initial=0))
    slack = 2 * longest * movie_scale + scale
    is_later = start > (int(first[0, 1]) if len(first) else 0)
    return is_later or bool(left > 0 and length * scale < left * movie_scale - slack)


def _table(box: bytes) -> NDArray[np.int64]:
    """The `(n, 2)` rows of a table with two numbers per row."""
    count = min(_number(box, 4), max(0, len(box) - 8) // 8)
    return np.frombuffer(box, ">u4", 2 * count, 8 if count else 0).reshape(-1, 2).astype(np.int64)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    for _ in range(_MOST_BOXES):
        size, kind = _number(data, position), data[position + 4 : position + 8]
        if size < 8 or position + size > len(data):
            return
        yield kind, data[position + 8 : position + size]
        position += size


def _is_filled(data: bytes) -> bool:
    """Whether the last box ends at the end of the data."""
    return sum(8 + len(content) for _, content in _boxes(data)) == len(data)


def _inside(data: bytes, *path: bytes) -> bytes:
    """Content of the first box at a path of nested boxes; empty if there is none."""
    for wanted in path:
        data = next((content for kind, content in _boxes(data) if kind == wanted), b"")
    return data


def _number(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")
