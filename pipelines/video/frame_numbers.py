"""Recognise images that are frames of one video by the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath

_NUMBER = re.compile(r"[0-9]+")


def frame_order(path: PurePath) -> tuple[str, list[str], list[int], str]:
    """Key that sorts images by folder, and numbers in names as numbers."""
    return str(path.parent), _NUMBER.split(path.name), _numbers(path), path.name


def follow(paths: Sequence[PurePath], largest_gap: int) -> list[str]:
    """The run of frames that each image belongs to.

    An image continues the run of the previous one if it is in the same folder, its name differs
    only in one number, the same one throughout the run, and that number has grown by at most
    `largest_gap`. For example, `set00_V000_9.png` and `set00_V000_10.png` are frames of one video,
    `set00_V000_9.png` and `set00_V001_0.png` are not, nor are `s5.jpg` and `s870.jpg`.

    Args:
        paths: Images in the order of `frame_order`.
        largest_gap: Largest difference of two neighbours' numbers, at least 1.

    Returns:
        For each image, the name of the first image in its run.
    """
    runs: list[str] = []
    run, place = "", None
    for index, path in enumerate(paths):
        changed = _step(paths[index - 1], path, largest_gap) if index else None
        if changed is None or place not in (None, changed):
            run, place = str(path), None
        else:
            place = changed
        runs.append(run)
    return runs


def _step(first: PurePath, second: PurePath, largest_gap: int) -> int | None:
    """Index of the number that counts from one image to the next; None if they do not follow."""
    if (first.parent, _NUMBER.split(first.name)) != (second.parent, _NUMBER.split(second.name)):
        return None
    pairs = list(zip(_numbers(first), _numbers(second), strict=True))
    changed = [place for place, (before, after) in enumerate(pairs) if before != after]
    if len(changed) != 1:
        return None
    before, after = pairs[changed[0]]
    return changed[0] if 0 < after - before <= largest_gap else None


def _numbers(path: PurePath) -> list[int]:
    return [int(digits) for digits in _NUMBER.findall(path.name)]
