"""Short names for results that are scored side by side."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePath

_SUFFIXES = (".parquet", ".txt")
_USUAL_FOLDERS = ("tracks", "data")  # they hold the files of every result


def name_results(places: Sequence[str]) -> dict[str, str]:
    """Name places by the shortest part of their paths that tells them apart.

    The end that all paths share, `tracks`, `data` and the suffix of a file are left out. Paths that
    still end alike get as many of the folders above as needed.

    Args:
        places: Paths, or `s3://bucket/prefix`.

    Returns:
        Places by name, in the same order.

    Raises:
        ValueError: If a place is given twice.

    >>> name_results(["runs/a/tracks", "runs/b/tracks"])
    {'a': 'runs/a/tracks', 'b': 'runs/b/tracks'}
    >>> list(name_results(["x/sort", "y/sort", "y/jde"]))
    ['x/sort', 'y/sort', 'jde']
    """
    parts = [_parts(place) for place in places]
    for number, place in enumerate(places):
        if parts[number] in parts[:number]:
            raise ValueError(f"tracks: got {place} twice, expected different results")
    if len(places) > 1:
        while len({one[-1] for one in parts}) == 1 and min(map(len, parts)) > 1:
            parts = [one[:-1] for one in parts]
    shown = [one[:-1] if one[-1] in _USUAL_FOLDERS and one[1:] else one for one in parts]
    parts = shown if len(set(shown)) == len(parts) else parts
    lengths = [1] * len(parts)
    while True:
        names = ["/".join(own[-n:]) for own, n in zip(parts, lengths, strict=True)]
        counts = Counter(names)
        longer = [
            min(n + (counts[name] > 1), len(own))
            for own, n, name in zip(parts, lengths, names, strict=True)
        ]
        if longer == lengths:
            break
        lengths = longer
    short = [_without_suffix(name) for name in names]
    return dict(zip(short if len(set(short)) == len(short) else names, places, strict=True))


def _parts(place: str) -> tuple[str, ...]:
    if "://" in place:
        return tuple(part for part in place.split("/") if part)
    parts = PurePath(os.path.abspath(place)).parts
    return parts[1:] or parts


def _without_suffix(name: str) -> str:
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return name
