"""Counts files in searched folders that are not used as sources, for a line in the log."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from jde_ray.pipelines.names import VIDEO_SUFFIXES

PICTURE, FOLDER_LINK, DRAWN = "picture", "link to a folder", "drawn video of a run"

# media that users may expect to be tracked; text, sound and the like are not reported
_PICTURES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".heic"})
_VIDEOS = frozenset(
    {".gif", ".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".f4v", ".ogv", ".vob", ".mxf", ".3g2"}
    | {".divx", ".rm", ".rmvb", ".h264", ".h265", ".264", ".265", ".hevc", ".dav", ".y4m", ".mjpg"}
)
_SEVERAL = {FOLDER_LINK: "links to folders", DRAWN: "drawn videos of a run"}
_HINTS = {
    PICTURE: "a folder of pictures is a video if you name it",
    FOLDER_LINK: "the folder behind a link is searched if you name it",
}


@dataclass(frozen=True)
class PassedOver:
    """Number of files of one kind in one folder that were not used."""

    kind: str
    folder: str
    count: int = 1


def media_kind(name: str) -> str | None:
    """Kind of a file or key that is not an accepted video, by its name; None if not reported."""
    suffix = os.path.splitext(name)[1].lower()
    if name.rpartition("/")[2].startswith("."):
        return None
    if suffix in _PICTURES:
        return PICTURE
    return f"{suffix} file" if suffix in _VIDEOS - VIDEO_SUFFIXES else None


def describe(found: Iterable[PassedOver]) -> str:
    """One line with the numbers by kind, and how to track them; empty if there are none.

    >>> describe([PassedOver("picture", "a", 70), PassedOver(".gif file", "a")])
    'passed over: 70 pictures, 1 .gif file (a folder of pictures is a video if you name it)'
    """
    counts: dict[str, int] = {}
    for one in set(found):  # a folder may have been searched twice
        counts[one.kind] = counts.get(one.kind, 0) + one.count
    if not counts:
        return ""
    kinds = sorted(counts, key=lambda kind: (-counts[kind], kind))
    several = {kind: _SEVERAL.get(kind, f"{kind}s") for kind in kinds}
    parts = (f"{counts[k]} {k if counts[k] == 1 else several[k]}" for k in kinds)
    hints = "; ".join(hint for kind, hint in _HINTS.items() if kind in counts)
    return f"passed over: {', '.join(parts)}" + (f" ({hints})" if hints else "")
