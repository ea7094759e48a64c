"""Reads CVAT for video 1.1 as ground truth: tracks, interpolated between their keyframes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from xml.parsers import expat

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.formats.exchange.annotated import (
    AnnotatedVideo,
    Picture,
    Refuse,
    people_among,
)
from jde_ray.pipelines.formats.limits import MOST_PIXELS

_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_SHAPES = frozenset({"polygon", "polyline", "points", "mask", "cuboid", "ellipse", "skeleton"})


@dataclass(frozen=True)
class CvatVideo:
    """What an XML file says.

    Attributes:
        source: Name of the video file; empty if it does not say.
        video: Its boxes; `pictures` has those with boxes.
    """

    source: str
    video: AnnotatedVideo


def read_cvat(path: Path, refuse: Refuse) -> CvatVideo:
    """The tracks of an XML file, with a box in every frame between two keyframes.

    Args:
        path: The XML file, `annotations.xml` in what CVAT exports.
        refuse: Called with every error; a lenient caller collects them, and such boxes are left
            out.

    Raises:
        ValueError: If it is not such a file, in one line.
    """
    reader = _Reader(path, refuse)
    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.text
    parser.EntityDeclHandler = reader.entity
    try:
        with path.open("rb") as file:
            parser.ParseFile(file)
    except (expat.ExpatError, OSError) as error:
        raise ValueError(f"{path}: not a readable XML file ({error})") from error
    if not reader.is_cvat:
        raise ValueError(f"{path}: got other XML, expected CVAT for video 1.1")
    return CvatVideo(reader.source.strip(), reader.build())


@dataclass
class _Key:
    """A keyframe: corners, and whether the person is outside from here on."""

    frame: int
    corners: tuple[float, ...]
    is_outside: bool


@dataclass
class _Track:
    track_id: int
    label: str
    keys: list[_Key] = field(default_factory=list)


class _Reader:
    """Collects tracks while the parser reads.

    Args:
        path: For messages.
        refuse: Called with every error.
    """

    def __init__(self, path: Path, refuse: Refuse) -> None:
        self._path, self._refuse = path, refuse
        self._inside: list[str] = []
        self._tracks: list[_Track] = []
        self._size = [0.0, 0.0]
        self._texts: list[str] = []  # of the elements in `_inside`
        self.source, self.is_cvat = "", False
        self._labels: set[str] = set()

    def entity(self, *declaration: object) -> None:
        """Refuse entities, with which a small file becomes a large one."""
        raise ValueError(f"{self._path}: it declares entities, which no CVAT file does")

    def start(self, tag: str, values: Mapping[str, str]) -> None:
        """An element begins."""
        self._inside.append(tag)
        self._texts.append("")
        if len(self._inside) == 1:
            self.is_cvat = tag == "annotations"
        elif tag == "image" and len(self._inside) == 2:
            raise ValueError(
                f"{self._path}: got CVAT for images, expected CVAT for video 1.1, which has tracks"
            )
        elif tag == "track":
            number = self._number(values, "id", f"track {len(self._tracks)}")
            self._tracks.append(_Track(number, values.get("label", "")))
        elif tag == "box" and self._inside[-2:-1] == ["track"]:
            self._add_box(values)
        elif tag in _SHAPES and self._inside[-2:-1] == ["track"]:
            self._refuse("shape", f"track {self._tracks[-1].track_id}: got {tag}, expected box")

    def end(self, tag: str) -> None:
        """An element ends."""
        self._inside.pop()
        text, parent = self._texts.pop().strip(), self._inside[-1:]
        if parent == ["original_size"] and tag in ("width", "height"):
            if text.isascii() and text.isdecimal() and len(text) < 10:
                self._size[tag == "height"] = float(text)
            else:
                self._refuse("size", f"got {tag} {text[:40]!r}, expected a number")
        elif tag == "source" and "track" not in self._inside:
            self.source = text
        elif tag == "name" and parent == ["label"]:
            self._labels.add(text)

    def text(self, data: str) -> None:
        """Text of the innermost element."""
        if self._inside[-1] in ("width", "height", "source", "name"):
            self._texts[-1] += data

    def _number(self, values: Mapping[str, str], name: str, where: str) -> int:
        text = values.get(name, "")
        if text.isascii() and text.isdecimal() and len(text) < 11 and int(text) < 2**31:
            return int(text)
        self._refuse(name, f"{where}: got {name} {text[:40]!r}, expected a whole number from 0")
        return -1

    def _add_box(self, values: Mapping[str, str]) -> None:
        track = self._tracks[-1]
        where = f"track {track.track_id}"
        frame = self._number(values, "frame", where)
        try:
            corners = tuple(float(values[name]) for name in _CORNERS)
            angle = float(values.get("rotation", 0))
        except (KeyError, ValueError):
            corners, angle = (), math.nan
        is_near = all(abs(corner) < MOST_PIXELS for corner in corners)
        if angle or not is_near or corners[2] < corners[0] or corners[3] < corners[1]:
            names = (*_CORNERS, "rotation")
            got = ", ".join(f"{n}={' '.join(str(values.get(n)).split())[:20]}" for n in names)
            self._refuse("box", f"{where}, frame {frame}: got {got}, expected an upright box")
        elif frame >= 0:
            track.keys.append(_Key(frame, corners, values.get("outside") == "1"))

    def build(self) -> AnnotatedVideo:
        """The boxes of all tracks in all frames."""
        people = people_among(self._labels | {track.label for track in self._tracks})
        frames: list[int] = []
        ids: list[int] = []
        corners: list[tuple[float, ...]] = []
        is_person: list[bool] = []
        for track in self._tracks:
            seen = _every_frame(track, self._refuse)
            frames += seen
            corners += seen.values()
            ids += [track.track_id] * len(seen)
            is_person += [track.label in people] * len(seen)
        rows = BoxRows(
            np.array(frames, np.int64),
            np.array(ids, np.int64),
            np.array(corners, np.float64).reshape(-1, 4),
        )
        pictures = [Picture(frame, "", *self._size) for frame in sorted(set(frames))]
        nothing = np.zeros(len(rows), bool)
        return AnnotatedVideo("", pictures, rows, np.array(is_person, bool), nothing)


def _every_frame(track: _Track, refuse: Refuse) -> dict[int, tuple[float, ...]]:
    """Corners by frame: of the keyframes, and between two of them on straight lines."""
    seen: dict[int, tuple[float, ...]] = {}
    keys = sorted(track.keys, key=lambda key: key.frame)
    for key, follows in zip_longest(keys, keys[1:]):
        if follows is not None and follows.frame == key.frame:
            refuse("box", f"track {track.track_id}: got two boxes in frame {key.frame}")
            continue
        if key.is_outside:
            continue
        seen[key.frame] = key.corners
        if follows is None:
            continue
        steps = follows.frame - key.frame
        if steps > 1_000_000:
            refuse("box", f"track {track.track_id}: got {steps} frames between two boxes")
            continue
        # before the person leaves the box stays where it was
        ends = key.corners if follows.is_outside else follows.corners
        for step in range(1, steps):
            seen[key.frame + step] = tuple(
                a + (b - a) * step / steps for a, b in zip(key.corners, ends, strict=True)
            )
    return seen
