"""Check the structure of a Matroska file while libav reads it.

libav silently skips a damaged element up to the next cluster, or stops there. The bytes it reads
are therefore parsed here too, so that nothing is read twice, which over S3 would cost a request per
cluster. When libav seeks ahead, the walk waits until the bytes after its last element are read.
"""

from __future__ import annotations

import io
from collections import Counter
from typing import Any

_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _GROUP = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0xA0
_NUMBER, _TYPE, _SIMPLE_BLOCK, _BLOCK, _EBML = 0xD7, 0x83, 0xA3, 0xA1, 0x1A45DFA3
_ANYWHERE = frozenset({0xEC, 0xBF})  # Void, CRC-32
_IN_SEGMENT = _ANYWHERE | {
    *(_CLUSTER, _TRACKS, 0x114D9B74, 0x1549A966, 0x1C53BB6B),  # SeekHead, Info, Cues
    *(0x1254C367, 0x1941A469, 0x1043A770),  # Tags, Attachments, Chapters
}
_IN_CLUSTER = _ANYWHERE | {
    *(_SIMPLE_BLOCK, _GROUP, 0xE7, 0xAB, 0xA7),  # Timestamp, PrevSize, Position
    *(0x5854, 0xAF),  # SilentTracks, EncryptedBlock
}
_KNOWN = {_SEGMENT: _IN_SEGMENT, _CLUSTER: _IN_CLUSTER}
_MASTERS = frozenset({_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _GROUP})
_HEAD = 24  # bytes of an element that are read: id, size and start of the content
_VIDEO = 1


class Walk:
    """Position and result of walking the elements of a file.

    Args:
        num_bytes: Length of the file.

    Attributes:
        damage: Fault of the structure found so far; empty for none.
        damage_at: Byte at which the faulty element starts.
        blocks: Number of blocks with content, by track.
    """

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes
        self.damage = ""
        self.damage_at = 0
        self.blocks: Counter[int] = Counter()
        self._numbers: list[int] = []
        self._types: list[int] = []
        self._next, self._rest = 0, b""
        self._open: list[tuple[int, int | None]] = []  # masters that contain `_next`, their ends
        self._has_ended = False

    @property
    def video_tracks(self) -> list[int]:
        """Numbers of the video tracks."""
        pairs = zip(self._numbers, self._types, strict=False)
        return [number for number, kind in pairs if kind == _VIDEO]

    def see(self, position: int, data: bytes) -> None:
        """Parse bytes that were read.

        Args:
            position: Position of the bytes in the file.
            data: Bytes that were read.
        """
        is_end = position + len(data) >= self._num_bytes
        if self._next < position <= self._next + len(self._rest):
            data, position = self._rest[: position - self._next] + data, self._next
        while position <= self._next < position + len(data) and self._goes_on():
            start = self._next - position
            head = data[start : start + _HEAD]
            if len(head) < _HEAD and not is_end:
                self._rest = head
                return
            self._element(head)
            self._rest = b""

    def _goes_on(self) -> bool:
        return not self.damage and not self._has_ended

    def _element(self, head: bytes) -> None:
        self._close_masters()
        if not self._goes_on():
            return
        name, at = _vint(head, 0, keep_marker=True)
        size, start = _vint(head, at) if name is not None and at <= 4 else (None, 0)
        if name is None or start == 0:
            self._has_ended = 0 < len(head) < _HEAD and head[0] != 0  # truncated: the file ends
            if not self._has_ended:
                self._fault(f"no element at byte {self._next}")
            return
        is_unknown = size == (1 << 7 * (start - at)) - 1
        self._leave_endless(name)
        parent, end = self._open[-1] if self._open else (0, None)
        if name == _EBML and self._open:  # another recording after one without a length
            self._has_ended = True
            return
        content = self._next + start
        stop = None if is_unknown else content + (size or 0)
        if name not in _KNOWN.get(parent, {name}):
            self._fault(f"an unknown element at byte {self._next}")
        elif (stop is None and name not in (_SEGMENT, _CLUSTER)) or _is_over(stop, end):
            self._fault(f"an element at byte {self._next} reaches beyond the one around it")
        elif name in _MASTERS:
            self._open.append((name, stop))
            self._next = content
        else:
            self._take(name, head[start:], size or 0, _is_over(stop, self._num_bytes))
            self._next = stop or content

    def _fault(self, damage: str) -> None:
        self.damage, self.damage_at = damage, self._next

    def _close_masters(self) -> None:
        while self._open and self._open[-1][1] == self._next:
            name, _ = self._open.pop()
            self._has_ended = name == _SEGMENT

    def _leave_endless(self, name: int) -> None:
        """Close a cluster without a length, which ends at the next element of the segment."""
        if self._open and self._open[-1] == (_CLUSTER, None) and name in _IN_SEGMENT - _ANYWHERE:
            self._open.pop()

    def _take(self, name: int, content: bytes, size: int, is_cut: bool) -> None:
        parent = self._open[-1][0] if self._open else 0
        if parent == _TRACK and name in (_NUMBER, _TYPE) and size <= 8:
            values = self._numbers if name == _NUMBER else self._types
            values.append(int.from_bytes(content[:size], "big"))
        elif (parent, name) in ((_CLUSTER, _SIMPLE_BLOCK), (_GROUP, _BLOCK)):
            number, start = _vint(content, 0)
            if number is None or number not in self._numbers:
                self._fault(f"a block of no track at byte {self._next}")
            elif size > start + 3 and not is_cut:
                self.blocks[number] += 1


class Watched(io.RawIOBase):
    """A file that passes all bytes read from it to a `Walk`.

    Args:
        file: Seekable file, at its start.
        num_bytes: Length of the file.
    """

    def __init__(self, file: Any, num_bytes: int) -> None:
        self._file = file
        self.walk = Walk(num_bytes)

    def read(self, size: int = -1, /) -> bytes:
        """As the file's."""
        position = self._file.tell()
        data: bytes = self._file.read(size)
        self.walk.see(position, data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """As the file's."""
        place: int = self._file.seek(offset, whence)
        return place

    def tell(self) -> int:
        """As the file's."""
        place: int = self._file.tell()
        return place

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True


def _is_over(stop: int | None, end: int | None) -> bool:
    return stop is not None and end is not None and stop > end


def _vint(data: bytes, at: int, *, keep_marker: bool = False) -> tuple[int | None, int]:
    """A variable-length number and the position after it; None and 0 if there is none."""
    if at >= len(data) or data[at] == 0:
        return None, 0
    length = 9 - data[at].bit_length()
    field = data[at : at + length]
    if len(field) < length:
        return None, 0
    value = int.from_bytes(field, "big")
    return value if keep_marker else value & (1 << 7 * length) - 1, at + length
