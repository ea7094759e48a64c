"""Events of a group of videos as one object, and the schema of `events.parquet`."""

from __future__ import annotations

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from jde_ray.models.counting.events import DIRECTIONS, Events
from jde_ray.models.counting.heat import CELLS_ACROSS, CELLS_DOWN
from jde_ray.models.counting.places import GROUND
from jde_ray.models.structures import IntArray
from jde_ray.pipelines.counting.heads import Head
from jde_ray.pipelines.formats.places_file import CameraPlaces

_TEXT = pa.dictionary(pa.int32(), pa.string())
TIME = pa.timestamp("us", tz="UTC")
EVENT_SCHEMA = pa.schema(
    [
        ("video_id", _TEXT),
        ("video", _TEXT),
        ("camera", _TEXT),
        ("place", _TEXT),
        ("direction", _TEXT),
        ("track_id", pa.int64()),
        ("frame", pa.int64()),
        ("time_s", pa.float64()),
        ("time", TIME),
        ("x", pa.float64()),
        ("y", pa.float64()),
        ("duration_s", pa.float64()),
        ("distance_m", pa.float64()),
        ("speed_mps", pa.float64()),
    ]
)


@dataclass(frozen=True)
class VideoFacts:
    """What was counted of a video, besides its events.

    Attributes:
        video_id: Its id.
        file: Address of its file of tracks.
        camera: Its camera.
        start_us: When it began, in microseconds since 1970 in UTC; None if unknown.
        length_s: Length in seconds.
        num_rows: Rows of its file.
        error: Why it was not counted; empty if it was.
    """

    video_id: str
    file: str
    camera: str
    start_us: int | None
    length_s: float
    num_rows: int
    error: str = ""


@dataclass(frozen=True)
class VideoPart:
    """A counted video: its events and their places; or the error that prevented it."""

    head: Head
    video: str = ""
    places: CameraPlaces | None = None
    events: Events | None = None
    length_s: float = 0.0
    error: str = ""

    def facts(self) -> VideoFacts:
        """What is kept besides the events."""
        head, origin = self.head, self.head.origin
        return VideoFacts(
            head.video_id,
            head.file,
            origin.camera,
            origin.start_us,
            self.length_s,
            head.num_rows,
            self.error,
        )


@dataclass(frozen=True)
class Part:
    """Events of a group of videos.

    Attributes:
        events: Rows of `EVENT_SCHEMA`, by video, then in the order of `Event`.
        videos: The videos in order.
        heat: Sightings by camera and cell of the picture.
    """

    events: pa.Table
    videos: Sequence[VideoFacts]
    heat: Mapping[str, IntArray]

    def to_bytes(self) -> bytes:
        """The part as a Parquet file."""
        metadata = {
            "videos": json.dumps([vars(one) for one in self.videos]),
            "heat": json.dumps({camera: _packed(cells) for camera, cells in self.heat.items()}),
        }
        memory = io.BytesIO()
        pq.write_table(self.events.replace_schema_metadata(metadata), memory, compression="zstd")
        return memory.getvalue()

    @staticmethod
    def from_bytes(content: bytes) -> Part:
        """Inverse of `to_bytes`.

        Raises:
            ValueError: If it is not a part.
        """
        try:
            events = pq.ParquetFile(pa.BufferReader(content)).read()
            metadata = events.schema.metadata
            videos = [VideoFacts(**one) for one in json.loads(metadata[b"videos"])]
            heat = {name: _unpacked(t) for name, t in json.loads(metadata[b"heat"]).items()}
        except (pa.ArrowException, KeyError, TypeError, zlib.error) as error:
            raise ValueError(f"not a part of a count ({type(error).__name__})") from None
        return Part(events.replace_schema_metadata().cast(EVENT_SCHEMA), videos, heat)


def _packed(cells: IntArray) -> str:
    content = zlib.compress(np.ascontiguousarray(cells, "<i8").tobytes())
    return base64.b64encode(content).decode()


def _unpacked(text: str) -> IntArray:
    content = zlib.decompress(base64.b64decode(text))
    return np.frombuffer(content, "<i8").reshape(CELLS_DOWN, CELLS_ACROSS)


def build_events(videos: Sequence[VideoPart]) -> pa.Table:
    """The events of videos as a table of `EVENT_SCHEMA`."""
    counted = [(one, one.events, one.places) for one in videos if one.events and one.places]
    if not counted:
        return EVENT_SCHEMA.empty_table()
    counts = [len(events) for _, events, _ in counted]
    columns = {
        name: np.concatenate([getattr(events, name) for _, events, _ in counted])
        for name in ("track_id", "frame", "time_s", "x", "y", "duration_s", "distance_m")
    }
    origins = [one.head.origin for one, _, _ in counted]
    # text columns: numbers into lists of words
    words: dict[str, NDArray[Any]] = {
        "place": np.concatenate([_places(events, own) for _, events, own in counted]),
        "direction": np.concatenate([_directions(events, own) for _, events, own in counted]),
    }
    own = np.repeat(np.arange(len(counted), dtype=np.int32), counts)
    arrays = {
        "video_id": _texts(own, [one.head.video_id for one, _, _ in counted]),
        "video": _texts(own, [one.video for one, _, _ in counted]),
        "camera": _texts(own, [origin.camera for origin in origins]),
    }
    for name, texts in words.items():
        different, number = np.unique(texts, return_inverse=True)
        arrays[name] = _texts(number.astype(np.int32), different.tolist())
    is_known = np.repeat([origin.start_us is not None for origin in origins], counts)
    start = np.repeat(np.array([origin.start_us or 0 for origin in origins], np.int64), counts)
    times = start + np.rint(1e6 * columns["time_s"]).astype(np.int64)
    arrays["time"] = pa.array(times, mask=~is_known).view(TIME)
    with np.errstate(divide="ignore", invalid="ignore"):
        speed = columns["distance_m"] / columns["duration_s"]
    columns["speed_mps"] = np.where(np.isfinite(speed), speed, np.nan)
    arrays |= {name: pa.array(column, from_pandas=True) for name, column in columns.items()}
    return pa.table([arrays[name] for name in EVENT_SCHEMA.names], schema=EVENT_SCHEMA)


def _texts(numbers: NDArray[np.int32], words: list[str]) -> pa.Array:
    """A dictionary column; words that are equal become one."""
    array = pa.DictionaryArray.from_arrays(pa.array(numbers), pa.array(words, pa.string()))
    if len(set(words)) < len(words):
        array = array.cast(pa.string()).dictionary_encode()
    return array


def _places(events: Events, own: CameraPlaces) -> NDArray[Any]:
    return np.array([*own.names, GROUND], object)[events.place]  # a walk's number is -1


def _directions(events: Events, own: CameraPlaces) -> NDArray[Any]:
    words = np.array([*own.directions, DIRECTIONS], object).reshape(-1, len(DIRECTIONS))
    return words[events.place, events.direction]
