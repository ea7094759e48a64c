"""The file of places that `jde count --config` reads (docs/counting.md)."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from jde_ray.models.counting.events import DIRECTIONS, TO_LEFT, TO_RIGHT
from jde_ray.models.counting.places import GROUND, Ground, Line, Places, Point, Zone
from jde_ray.models.settings_file import read_yaml
from jde_ray.pipelines.names import listed

logger = logging.getLogger(__name__)

Units = Literal["shares", "pixels"]

_KINDS = ("line", "zone", "ground")
_KEYS = {
    "line": ("name", "camera", "line", "margin", "to_right", "to_left"),
    "zone": ("name", "camera", "zone"),
    "ground": ("camera", "ground"),
}


@dataclass(frozen=True)
class Entry:
    """One entry of the file.

    Attributes:
        cameras: Names or patterns of its cameras.
        place: The place, in the units of the file.
        ways: What to call `to_right` and `to_left` of a line.
    """

    cameras: tuple[str, ...]
    place: Line | Zone | Ground
    ways: tuple[str, str] = (DIRECTIONS[TO_RIGHT], DIRECTIONS[TO_LEFT])

    def matches(self, camera: str) -> bool:
        """Whether it applies to a camera."""
        return any(_is_of(camera, one) for one in self.cameras)


@dataclass(frozen=True)
class CameraPlaces:
    """The places of one camera.

    Attributes:
        places: Places in pixels.
        names: Their names, in the order of `places.names`.
        directions: For each place, what to call each of `DIRECTIONS`.
    """

    places: Places
    directions: tuple[tuple[str, ...], ...]

    @property
    def names(self) -> list[str]:
        """Names of lines, then of zones."""
        return self.places.names


@dataclass(frozen=True)
class PlacesFile:
    """All places of all cameras.

    Attributes:
        units: Whether coordinates are shares of the picture or pixels.
        entries: The entries in order.
    """

    units: Units
    entries: tuple[Entry, ...]

    def smaller_than_a_pixel(self) -> list[str]:
        """Names of places in pixels that nobody's feet will meet; none of those in shares."""
        if self.units == "shares":
            return []
        return [_label(one.place) for one in self.entries if _extent(one.place) <= 1]

    def needs_size(self, camera: str) -> bool:
        """Whether a camera's places are unknown without the size of its picture."""
        return self.units == "shares" and any(entry.matches(camera) for entry in self.entries)

    def of_camera(self, camera: str, size: tuple[int, int] | None) -> CameraPlaces:
        """The places of a camera in pixels.

        Args:
            camera: Name of the camera.
            size: Width and height of its picture; None if unknown.

        Raises:
            ValueError: If two places have one name, one is outside the picture, or shares are given
                and the size is unknown.
        """
        own = [entry for entry in self.entries if entry.matches(camera)]
        lines = [entry for entry in own if isinstance(entry.place, Line)]
        grounds = [entry.place for entry in own if isinstance(entry.place, Ground)]
        if len(grounds) > 1:
            raise ValueError(f"{GROUND}: camera {camera} has {len(grounds)}, expected one")
        try:
            places = Places(
                tuple(entry.place for entry in lines if isinstance(entry.place, Line)),
                tuple(entry.place for entry in own if isinstance(entry.place, Zone)),
                grounds[0] if grounds else None,
            )
            if size is None:
                if self.needs_size(camera):
                    raise ValueError("the size of the picture is unknown; give places in pixels")
            elif self.units == "shares":
                places = places.scaled(*size)
            else:
                places.check_inside(*size)
            places = replace(places, size=size)
        except ValueError as error:
            raise ValueError(f"{error} (camera {camera})") from None
        usual = tuple(DIRECTIONS)
        of_lines = tuple((*entry.ways, *usual[2:]) for entry in lines)
        return CameraPlaces(places, (*of_lines, *(usual,) * len(places.zones)))

    def check_cameras(self, cameras: Collection[str]) -> None:
        """Refuse names and patterns that no camera has.

        Raises:
            ValueError: If there is one, naming the cameras.
        """
        for entry in self.entries:
            for pattern in entry.cameras:
                if not any(_is_of(camera, pattern) for camera in cameras):
                    nearest = get_close_matches(pattern, cameras, 1)
                    hint = f"; did you mean {nearest[0]}?" if nearest else ""
                    raise ValueError(
                        f"{_label(entry.place)}: no video is of camera {pattern!r}, "
                        f"there are {listed(sorted(cameras))}{hint}"
                    )


def read_places(path: Path) -> PlacesFile:
    """Read a file of places; a line in the log names those that are smaller than a pixel.

    Raises:
        ValueError: If it cannot be read, or a place cannot be; in one line.
    """
    values = read_yaml(path)
    try:
        file = parse_places(values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if small := file.smaller_than_a_pixel():
        logger.warning(
            "%s: %s %s smaller than a pixel; did you mean `units: shares`?",
            path, listed(small, most=3), "is" if len(small) == 1 else "are",
        )  # fmt: skip
    return file


def parse_places(values: Any) -> PlacesFile:
    """The places of a file's plain values.

    Raises:
        ValueError: If something in it is unknown or cannot be.
    """
    if not isinstance(values, dict) or not isinstance(values.get("places"), list):
        raise ValueError("expected a list `places`, each with a line, a zone or a ground")
    _refuse_unknown("the file", values, ("units", "places"))
    units = values.get("units", "pixels")
    if units not in ("pixels", "shares"):
        raise ValueError(f"units: got {units!r}, expected pixels or shares")
    entries = tuple(_entry(number, one) for number, one in enumerate(values["places"], 1))
    if not entries:
        raise ValueError("places: got an empty list, expected lines, zones or grounds")
    if units == "shares":
        for entry in entries:
            _as_places(entry.place).check_inside(1, 1)
    elif "units" not in values and all(_is_within_one(entry.place) for entry in entries):
        raise ValueError(
            "units: all points lie within 0 and 1; add `units: shares`, or `units: pixels` if the "
            "places are that small"
        )
    _refuse_twins(entries)
    return PlacesFile(units, entries)


def _is_within_one(place: Line | Zone | Ground) -> bool:
    try:
        _as_places(place).check_inside(1, 1)
    except ValueError:
        return False
    return True


def _entry(number: int, values: Any) -> Entry:
    where = f"place {number}"
    if not isinstance(values, dict):
        raise ValueError(f"{where}: got {values!r}, expected keys such as name and line")
    kinds = [kind for kind in _KINDS if kind in values]
    if not kinds:
        _refuse_unknown(where, values, sorted({key for keys in _KEYS.values() for key in keys}))
    if len(kinds) != 1:
        got = " and ".join(kinds) or "neither"
        raise ValueError(f"{where}: got {got}, expected one of line, zone, ground")
    (kind,) = kinds
    name = values.get("name", "") if kind != "ground" else GROUND
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise ValueError(f"{where}: name: got {name!r}, expected a text")
    if kind != "ground" and name == GROUND:
        raise ValueError(f"{where}: name: {GROUND} is the name of the ground, choose another")
    where = name if kind != "ground" else where
    _refuse_unknown(where, values, _KEYS[kind])
    cameras = _cameras(where, values.get("camera", "*"))
    if kind == "ground":
        return Entry(cameras, _ground(where, values[kind]))
    points = _points(where, values[kind])
    if kind == "zone":
        return Entry(cameras, Zone(name, points))
    if len(points) != 2:
        got = f"{len(points)} point{'s' if len(points) != 1 else ''}"
        raise ValueError(f"{where}: line: got {got}, expected 2")
    margin = values.get("margin", Line.margin)
    if isinstance(margin, bool) or not isinstance(margin, int | float):
        raise ValueError(f"{where}: margin: got {margin!r}, expected a number")
    return Entry(cameras, Line(name, *points, margin), _ways(where, values))


def _ways(where: str, values: Mapping[str, Any]) -> tuple[str, str]:
    right, left = (values.get(way, way) for way in (DIRECTIONS[TO_RIGHT], DIRECTIONS[TO_LEFT]))
    for way in (right, left):
        if not isinstance(way, str) or not way.strip() or not way.isprintable():
            raise ValueError(f"{where}: got {way!r} for a direction, expected a text")
    if right == left:
        raise ValueError(f"{where}: both directions are called {right}")
    return right, left


def _cameras(where: str, value: Any) -> tuple[str, ...]:
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"{where}: camera: got {value!r}, expected a name, a pattern or a list")
    return tuple(names)


def _ground(where: str, values: Any) -> Ground:
    if not isinstance(values, dict):
        raise ValueError(f"{where}: ground: got {values!r}, expected image and metres")
    _refuse_unknown(where, values, ("image", "metres"))
    image, metres = (_points(where, values.get(name, [])) for name in ("image", "metres"))
    return Ground(image, metres)


def _points(where: str, values: Any) -> tuple[Point, ...]:
    if not isinstance(values, list):
        raise ValueError(f"{where}: got {values!r}, expected a list of points [x, y]")
    points = []
    for one in values:
        numbers = one if isinstance(one, list) else []
        if len(numbers) != 2 or not all(_is_number(number) for number in numbers):
            raise ValueError(f"{where}: got {one!r}, expected a point [x, y]")
        points.append((float(numbers[0]), float(numbers[1])))
    return tuple(points)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9


def _refuse_unknown(where: str, values: Mapping[Any, Any], accepted: Collection[str]) -> None:
    for key in values:
        if key not in accepted:
            nearest = get_close_matches(str(key), accepted, 1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ValueError(f"{where}: got {key!r}, expected {', '.join(accepted)}{hint}")


def _refuse_twins(entries: tuple[Entry, ...]) -> None:
    seen: set[tuple[str, str]] = set()
    for entry in entries:
        for camera in entry.cameras:
            twin = (_label(entry.place), camera)
            if twin in seen:
                raise ValueError(f"{twin[0]}: two places of camera {camera} have this name")
            seen.add(twin)


def _is_of(camera: str, pattern: str) -> bool:
    """Whether a camera has this name, which may hold characters of patterns, or fits it."""
    return camera == pattern or fnmatchcase(camera, pattern)


def _label(place: Line | Zone | Ground) -> str:
    return GROUND if isinstance(place, Ground) else place.name


def _extent(place: Line | Zone | Ground) -> float:
    """Width or height of a place, whichever is larger."""
    points = place.image if isinstance(place, Ground) else place.points
    across, down = ([point[i] for point in points] for i in (0, 1))
    return max(max(across) - min(across), max(down) - min(down))


def _as_places(place: Line | Zone | Ground) -> Places:
    if isinstance(place, Ground):
        return Places(ground=place)
    return Places((place,)) if isinstance(place, Line) else Places(zones=(place,))
