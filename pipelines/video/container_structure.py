"""Check from a few headers whether a file is as long as its structure states; decodes nothing.

libav decodes a truncated AVI or Matroska file without any error, so the length stated by the
container is compared with the file. Only stated lengths in bytes count: frame counts and durations
in headers are wrong in many good files.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from jde_ray.pipelines.video.iso_samples import samples_of_fragment, samples_of_index

_MAX_BOXES = 100_000  # a malicious file may contain millions of tiny ones
_MAX_MOOV_BYTES = 64 << 20
_ISO_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"styp", b"moof")
_ISO_BOXES = frozenset(_ISO_FIRST_BOXES) | {
    *(b"sidx", b"ssix", b"prft", b"emsg", b"mfra", b"meta", b"uuid", b"pdin", b"udta"),
}
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067


@dataclass(frozen=True)
class Structure:
    """Properties of a file according to its top-level structure.

    Attributes:
        container: `iso` (mp4, mov), `avi`, `matroska`, `mpegts`, or `` for anything else.
        promised_bytes: Length that the file needs for its media data to be complete, 0 if unknown.
        has_index: False for an iso file without a complete index (`moov`); its frames are unknown.
        is_fragmented: Whether an iso file is fragmented, so that `moov` does not index all samples.
        is_encrypted: Whether samples are encrypted (iso common encryption).
        samples: Number of samples by track number of an iso file, where its tables state it.
        is_damaged: Whether an iso file has a fragment of no track, or unknown data between boxes.
    """

    container: str = ""
    promised_bytes: int = 0
    has_index: bool = True
    is_fragmented: bool = False
    is_encrypted: bool = False
    samples: dict[int, int] = field(default_factory=dict)
    is_damaged: bool = False


def read_structure(file: BinaryIO, num_bytes: int) -> Structure:
    """Read the top-level structure of a file.

    Args:
        file: Seekable file, at any position.
        num_bytes: Length of the file.
    """
    head = _read(file, 0, 200)
    if head[4:8] in _ISO_FIRST_BOXES:
        return _iso(file, num_bytes)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Structure("avi", _avi_promise(file, num_bytes))
    if head[:4] == _EBML.to_bytes(4, "big"):
        return Structure("matroska", _matroska_promise(file))
    for packet, offset in ((188, 0), (192, 4)):
        if head[offset : offset + 1] == b"G" == head[offset + packet : offset + packet + 1]:
            return Structure("mpegts", -(-num_bytes // packet) * packet)
    return Structure()


def _read(file: BinaryIO, position: int, count: int) -> bytes:
    file.seek(position)
    return file.read(count)


def _iso_boxes(file: BinaryIO, num_bytes: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of every top-level box; its end may be beyond the end of the file."""
    position = 0
    for _ in range(_MAX_BOXES):
        header = _read(file, position, 16)
        if len(header) < 8:
            return
        size, kind = struct.unpack(">I4s", header[:8])
        if size == 1 and len(header) == 16:
            size = int.from_bytes(header[8:], "big")
        elif size == 0:  # the box extends to the end of the file
            size = num_bytes - position
        if size < 8:
            return
        yield kind, position, position + size
        position += size
        if position >= num_bytes:
            return


def _iso(file: BinaryIO, num_bytes: int) -> Structure:
    kinds: set[bytes] = set()
    promised = 0
    is_encrypted = has_index = is_damaged = False
    known: dict[int, int | None] = {}
    fragments: Counter[int] = Counter()
    for kind, start, end in _iso_boxes(file, num_bytes):
        kinds.add(kind)
        if kind in (b"mdat", b"moof", b"moov"):
            promised = max(promised, end)
        if kind == b"moov":
            content = _read(file, start, min(end - start, _MAX_MOOV_BYTES))
            is_encrypted = b"encv" in content and b"schm" in content
            has_index = end <= num_bytes
            known = samples_of_index(content)
        if kind == b"moof":
            content = _read(file, start, min(end - start, _MAX_MOOV_BYTES))
            found, is_sound = samples_of_fragment(content)
            fragments += found
            is_cut = end > num_bytes  # then the file is truncated, not damaged
            is_damaged = is_damaged or not (is_sound or is_cut)
    is_fragmented = b"moof" in kinds
    is_strange = bool(kinds - _ISO_BOXES or fragments.keys() - known.keys())
    is_damaged = is_fragmented and (is_damaged or is_strange)
    samples = {
        number: count + fragments[number] for number, count in known.items() if count is not None
    }
    return Structure("iso", promised, has_index, is_fragmented, is_encrypted, samples, is_damaged)


def _avi_promise(file: BinaryIO, num_bytes: int) -> int:
    """End of the last `movi` list; 0 if a recorder that crashed did not fill in the length.

    Without a complete list the length in the RIFF header counts. Only an index follows the last
    list; it may be missing.
    """
    position, promised = 0, 0
    whole = 8 + int.from_bytes(_read(file, 4, 4), "little")
    for _ in range(_MAX_BOXES):
        header = _read(file, position, 12)
        if len(header) < 12:
            return promised or whole
        name, size = struct.unpack("<4sI", header[:8])
        if name == b"RIFF":
            position += 12  # enter the list; its chunks follow
            continue
        if name == b"LIST" and header[8:] == b"movi" and 4 < size < 0xFFFFFFFF:
            promised = max(promised, position + 8 + size)
        position += 8 + size + size % 2
        if position >= num_bytes:
            return promised or whole
    return promised


def _matroska_promise(file: BinaryIO) -> int:
    """End of the segment; 0 if it has no length (live recordings)."""
    head = _read(file, 0, 16)
    start, size = _ebml_size(head, 4)
    if size is None or start is None:
        return 0
    segment = start + size
    head = _read(file, segment, 16)
    if int.from_bytes(head[:4], "big") != _SEGMENT:
        return 0
    start, size = _ebml_size(head, 4)
    return 0 if size is None or start is None else segment + start + size


def _ebml_size(data: bytes, position: int) -> tuple[int | None, int | None]:
    """Position after a variable-length size, and the size (None: unknown or truncated)."""
    if position >= len(data) or data[position] == 0:
        return None, None
    length = 9 - data[position].bit_length()
    field = data[position : position + length]
    if len(field) < length:
        return None, None
    mask = (1 << (7 * length)) - 1
    value = int.from_bytes(field, "big") & mask
    return position + length, None if value == mask else value
