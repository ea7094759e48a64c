"""`counts.parquet`: events of all videos of a camera by place, direction and bucket of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import tzinfo
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from jde_ray.models.counting.events import DIRECTIONS, ENTER, LEAVE, WALK
from jde_ray.models.counting.places import GROUND
from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.counting.buckets import By, Spans, bucket_edges, count_in, mean_in
from jde_ray.pipelines.counting.parts import TIME, VideoFacts
from jde_ray.pipelines.formats.places_file import CameraPlaces

Kind = Literal["crossing", "enter", "leave", "inside", "walk"]
INSIDE: Kind = "inside"  # people who were in a zone at any time of the bucket
_TEXT = pa.dictionary(pa.int32(), pa.string())
COUNT_SCHEMA = pa.schema(
    [
        ("camera", _TEXT),
        ("place", _TEXT),
        ("direction", _TEXT),
        ("begin", TIME),
        ("begin_s", pa.float64()),
        ("count", pa.int64()),
        ("people", pa.float64()),
        ("most_people", pa.int64()),
        ("mean_duration_s", pa.float64()),
        ("mean_distance_m", pa.float64()),
        ("recorded_s", pa.float64()),
    ]
)
_USED = ("camera", "place", "direction", "time_s", "time", "duration_s", "distance_m")


@dataclass(frozen=True)
class Series:
    """Counts of one place and direction over the buckets of its camera.

    Attributes:
        camera: The camera.
        place: Name of the place.
        direction: Name of the direction; of a line whatever the user calls it, also `inside`.
        kind: What is counted.
        has_clock: Whether `begin` is a time in UTC; otherwise it counts from a video's start.
        begin: `(k,)` microseconds at which the buckets begin.
        recorded_s: `(k,)` seconds of each bucket that were recorded.
        count: `(k,)` events.
        people: `(k,)` mean number of people inside; NaN if it does not apply.
        most_people: `(k,)` largest number of people inside at once; -1 if it does not apply.
        mean_duration_s: `(k,)` mean length of the visits or walks that ended; NaN for none.
        mean_distance_m: `(k,)` mean length of the walks that ended; NaN for none.
    """

    camera: str
    place: str
    direction: str
    kind: Kind
    has_clock: bool
    begin: IntArray
    recorded_s: FloatArray
    count: IntArray
    people: FloatArray
    most_people: IntArray
    mean_duration_s: FloatArray
    mean_distance_m: FloatArray

    @property
    def is_gap(self) -> NDArray[np.bool_]:
        """`(k,)` buckets of which nothing was recorded."""
        is_gap: NDArray[np.bool_] = (self.recorded_s <= 0) & (self.count == 0)
        return is_gap


@dataclass(frozen=True)
class Overlap:
    """Recordings of one camera that cover the same time: people in both count twice."""

    camera: str
    seconds: float


def build_series(
    events: pa.Table,
    videos: Sequence[VideoFacts],
    places: Mapping[str, CameraPlaces],
    by: By,
    zone: tzinfo,
) -> tuple[list[Series], list[Overlap]]:
    """Counts of all cameras.

    Args:
        events: Rows of `EVENT_SCHEMA`.
        videos: Videos that were counted.
        places: Places by camera.
        by: Length of a bucket.
        zone: Hours and days begin in this time zone.

    Raises:
        ValueError: If a camera has too many buckets.
    """
    columns = _columns(events)
    series: list[Series] = []
    overlaps = []
    for camera in sorted({one.camera for one in videos}):
        own = [one for one in videos if one.camera == camera]
        of_camera = columns.of("camera", camera)
        for has_clock in (True, False):
            recorded = _recorded([one for one in own if (one.start_us is not None) == has_clock])
            if not len(recorded.begin):
                continue
            if has_clock and recorded.overlap() >= 1_000_000:
                overlaps.append(Overlap(camera, recorded.overlap() / 1e6))
            try:
                edges = bucket_edges(recorded, by, zone if has_clock else None)
            except ValueError as error:
                raise ValueError(f"{error} (camera {camera})") from None
            covered = (recorded.merged() if has_clock else recorded).seconds_in(edges)
            rows = of_camera.with_clock(has_clock)
            for place, direction, kind, values in _values(rows, places[camera], edges, covered):
                series.append(
                    Series(camera, place, direction, kind, has_clock, edges[:-1], covered, **values)
                )
    return series, overlaps


@dataclass(frozen=True)
class _Columns:
    """Events as columns; texts as numbers into their `words`."""

    numbers: Mapping[str, IntArray]
    words: Mapping[str, list[str]]
    time_us: IntArray
    has_clock: NDArray[np.bool_]
    duration_us: IntArray
    duration_s: FloatArray
    distance_m: FloatArray

    def pick(self, rows: NDArray[np.bool_]) -> _Columns:
        return _Columns(
            {name: own[rows] for name, own in self.numbers.items()},
            self.words,
            *(
                getattr(self, name)[rows]
                for name in ("time_us", "has_clock", "duration_us", "duration_s", "distance_m")
            ),
        )

    def of(self, name: str, word: str) -> _Columns:
        if word not in self.words[name]:
            return self.pick(np.zeros(len(self.time_us), np.bool_))
        return self.pick(self.numbers[name] == self.words[name].index(word))

    def with_clock(self, has_clock: bool) -> _Columns:
        return self.pick(self.has_clock == has_clock)


def _columns(events: pa.Table) -> _Columns:
    table = events.select(list(_USED)).unify_dictionaries().combine_chunks()
    numbers, words = {}, {}
    for name in ("camera", "place", "direction"):
        chunks = table.column(name).chunks
        words[name] = chunks[0].dictionary.to_pylist() if chunks else []
        numbers[name] = np.concatenate(
            [np.zeros(0, np.int64), *(chunk.indices.to_numpy() for chunk in chunks)]
        ).astype(np.int64)
    seconds = table.column("time_s").to_numpy()
    clock = table.column("time").cast(pa.int64())
    has_clock = clock.is_valid().to_numpy()
    since_start = np.rint(1e6 * seconds).astype(np.int64)
    time_us = np.where(has_clock, clock.fill_null(0).to_numpy(), since_start)
    duration, distance = (
        table.column(name).fill_null(np.nan).to_numpy() for name in ("duration_s", "distance_m")
    )
    duration_us = np.rint(1e6 * np.nan_to_num(duration)).astype(np.int64)
    return _Columns(numbers, words, time_us, has_clock, duration_us, duration, distance)


def _recorded(videos: Sequence[VideoFacts]) -> Spans:
    begin = np.array([one.start_us or 0 for one in videos], np.int64)
    length = np.array([round(1e6 * one.length_s) for one in videos], np.int64)
    return Spans(begin, begin + length)


def _values(
    rows: _Columns, places: CameraPlaces, edges: IntArray, covered_s: FloatArray
) -> Iterator[tuple[str, str, Kind, dict[str, Any]]]:
    """Place, direction, kind and counts of each series of a camera."""
    nothing = np.full(len(covered_s), np.nan)
    blank = {
        "people": nothing,
        "most_people": np.full(len(covered_s), -1),
        "mean_duration_s": nothing,
        "mean_distance_m": nothing,
    }
    named = list(zip(places.names, places.directions, strict=True))
    for number, (name, ways) in enumerate(named):
        of_place = rows.of("place", name)
        if number < len(places.places.lines):
            for way in ways[:ENTER]:
                times = of_place.of("direction", way).time_us
                yield name, way, "crossing", {**blank, "count": count_in(times, edges)}
            continue
        enter, leave = of_place.of("direction", ways[ENTER]), of_place.of("direction", ways[LEAVE])
        stay_s = mean_in(leave.duration_s, leave.time_us, edges)
        yield name, ways[ENTER], "enter", {**blank, "count": count_in(enter.time_us, edges)}
        yield name, ways[LEAVE], "leave", {
            **blank, "count": count_in(leave.time_us, edges), "mean_duration_s": stay_s
        }  # fmt: skip
        visits = Spans(leave.time_us - leave.duration_us, leave.time_us)
        with np.errstate(divide="ignore", invalid="ignore"):
            people = np.where(covered_s > 0, visits.seconds_in(edges) / covered_s, np.nan)
        yield name, INSIDE, INSIDE, {
            **blank,
            "count": visits.number_in(edges),
            "people": people,
            "most_people": visits.most_in(edges),
        }  # fmt: skip
    if places.places.ground is not None:
        walks = rows.of("place", GROUND)
        yield GROUND, DIRECTIONS[WALK], "walk", {
            **blank,
            "count": count_in(walks.time_us, edges),
            "mean_duration_s": mean_in(walks.duration_s, walks.time_us, edges),
            "mean_distance_m": mean_in(walks.distance_m, walks.time_us, edges),
        }  # fmt: skip


def counts_table(series: Sequence[Series]) -> pa.Table:
    """Rows of `COUNT_SCHEMA`; where nothing was recorded, counts are null."""
    if not series:
        return COUNT_SCHEMA.empty_table()
    counts = [len(one.begin) for one in series]

    def joined(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(one, name) for one in series])

    def texts(name: str) -> pa.Array:
        repeated = np.repeat(np.arange(len(series), dtype=np.int32), counts)
        words = [str(getattr(one, name)) for one in series]
        array = pa.DictionaryArray.from_arrays(pa.array(repeated), pa.array(words))
        return array.cast(pa.string()).dictionary_encode()

    is_gap, begin = joined("is_gap"), joined("begin")
    has_clock = np.repeat([one.has_clock for one in series], counts)
    most = joined("most_people")
    arrays = {name: texts(name) for name in ("camera", "place", "direction")}
    arrays |= {
        "begin": pa.array(begin, mask=~has_clock).view(TIME),
        "begin_s": pa.array(begin / 1e6, mask=has_clock),
        "count": pa.array(joined("count"), mask=is_gap),
        "most_people": pa.array(most, mask=is_gap | (most < 0)),
        "recorded_s": pa.array(joined("recorded_s")),
    }
    for name in ("people", "mean_duration_s", "mean_distance_m"):
        values = joined(name)
        arrays[name] = pa.array(values, mask=is_gap | ~np.isfinite(values))
    return pa.table([arrays[name] for name in COUNT_SCHEMA.names], schema=COUNT_SCHEMA)
