"""Ids of videos: readable, and legal as file names, as S3 keys and in web pages."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache

MOST_NAME_BYTES = 200  # file systems allow 255 for a name; hash and suffix need some of them
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".3gp", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"}
)
HASH_DIGITS = 16  # among a million videos of one name, two share an id in 1 of 37 million archives
_HASH = re.compile(r"-(?:[0-9a-f]{16}|[0-9a-f]{8})\Z")  # ids had 8 digits before
_NOT_IN_KEYS = re.compile(r"[^\w.\-]+", re.ASCII)
# invisible letters and marks: fillers, joiners, variation selectors
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


@lru_cache(maxsize=4096)  # a session asks for it many times
def make_id(name: str, uri: str) -> str:
    """Id of a video: its name, made safe for keys, and the hash of its URI.

    Args:
        name: Name of the video, any text.
        uri: Canonical URI of the video, valid Unicode.

    Returns:
        At most 217 bytes of UTF-8, so that every suffix of OUT still fits into a file name.

    >>> make_id("Straße Köln", "/videos/Straße Köln.mp4")
    'Straße-Köln-42d715e827f82f8a'
    """
    return f"{safe_name(name)}-{hashlib.sha256(uri.encode()).hexdigest()[:HASH_DIGITS]}"


def safe_name(name: str) -> str:
    """The letters, digits, `_`, `-` and `.` of a name, in any script; `-` replaces all others.

    The result is composed (NFC), cut to `MOST_NAME_BYTES`, and does not start with `.` or `-`, as
    such files are hidden or taken for options. A safe name is returned unchanged.

    >>> safe_name("MOT16-11"), safe_name("駅前 (1)"), safe_name("../<b>"), safe_name("?")
    ('MOT16-11', '駅前-1', 'b', 'video')
    """
    if name.isascii():
        parts = _NOT_IN_KEYS.split(name)
    else:
        composed = _INVISIBLE.sub("", unicodedata.normalize("NFC", name))
        kinds = ((letter, unicodedata.category(letter)) for letter in composed)
        # format characters (Cf) are dropped without a gap; some reverse the direction of writing,
        # so that a name reads as another one
        text = "".join(c if _is_kept(c, kind) else "/" for c, kind in kinds if kind != "Cf")
        parts = unicodedata.normalize("NFC", text).split("/")
    safe = "-".join(filter(None, parts)).lstrip(".-")
    return safe.encode()[:MOST_NAME_BYTES].decode(errors="ignore") or "video"


def _is_kept(letter: str, kind: str) -> bool:
    return letter in "_.-" or kind[0] in "LN" or kind in ("Mn", "Mc")


def sequence_name(video_id: str) -> str:
    """The name in an id: all but its hash.

    >>> sequence_name("MOT16-11-0123abcd0123abcd"), sequence_name("MOT16-11")
    ('MOT16-11', 'MOT16-11')
    """
    return _HASH.sub("", video_id)


def plain_names(ids: Collection[str]) -> dict[str, str]:
    """Names of videos without the hash of their id, and the whole id where that is not unique.

    Names that differ in the case of letters only are the same on some disks; a name may also look
    like the id of another video.

    >>> plain_names(["door-0123456789abcdef", "hall-0123456789abcdef"]).values()
    dict_values(['door', 'hall'])
    >>> plain_names(["a-0123456789abcdef", "A-1123456789abcdef"]).values()
    dict_values(['a-0123456789abcdef', 'A-1123456789abcdef'])
    """
    found = {own: sequence_name(own) for own in ids}
    counts = Counter(name.casefold() for name in found.values())
    counts.update(own.casefold() for own, name in found.items() if own != name)
    return {own: name if counts[name.casefold()] == 1 else own for own, name in found.items()}


def listed(names: Sequence[str], most: int = 8) -> str:
    """The first names as they stand in a message, with `...` for those beyond.

    >>> listed(["a", "b"]), listed(["a", "b", "c"], most=2)
    ('a, b', 'a, b, ...')
    """
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
