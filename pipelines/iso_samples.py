"""How many samples an mp4 or mov file has of each track, by its own tables; nothing is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

_MOST_BOXES = 10_000  # in a box: a hostile one may claim millions


def samples_of_index(moov: bytes) -> dict[int, int | None]:
    """Samples of every track.

    Two tables count them, and the larger number holds: damage makes one smaller. Of a track of
    which an edit list shows a part it is None, since libav leaves out the rest.

    Args:
        moov: The whole box.
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


def samples_of_fragment(moof: bytes) -> Counter[int]:
    """Samples of every track in a fragment.

    Args:
        moof: The whole box.
    """
    found: Counter[int] = Counter()
    for kind, fragment in _boxes(moof[8:]):
        if kind == b"traf":
            number = _number(_inside(fragment, b"tfhd"), 4)
            runs = (content for name, content in _boxes(fragment) if name == b"trun")
            found[number] += sum(_number(run, 4) for run in runs)
    return found


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
        if start != -1:  # else it says how long to wait
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
    """Rows of two numbers, `(n, 2)`."""
    count = min(_number(box, 4), max(0, len(box) - 8) // 8)
    return np.frombuffer(box, ">u4", 2 * count, 8 if count else 0).reshape(-1, 2).astype(np.int64)


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    position = 0
    for _ in range(_MOST_BOXES):
        size, kind = _number(data, position), data[position + 4 : position + 8]
        if size < 8 or len(kind) < 4:
            return
        yield kind, data[position + 8 : position + size]
        position += size


def _inside(data: bytes, *path: bytes) -> bytes:
    """Content of the first box of each kind, one in the other; empty if there is none."""
    for wanted in path:
        data = next((content for kind, content in _boxes(data) if kind == wanted), b"")
    return data


def _number(data: bytes, position: int) -> int:
    return int.from_bytes(data[position : position + 4], "big")
