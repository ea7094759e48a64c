"""Facts about a video in the metadata of `tracks/*.parquet` and `detections/*.parquet`.

No other module names these keys. A key that readers may ignore, such as `partial`, needs no new row
format; `pipelines.output.run_record.file_metadata` has the keys about the
whole run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import pyarrow.parquet as pq

from jde_ray.pipelines.structures import ChosenSize, Counts, Video, VideoInfo
from jde_ray.pipelines.wall_clock import from_text, to_text

FRAME_RATE = b"frames_per_second"


@dataclass(frozen=True)
class FileFacts:
    """Facts about a video in the metadata of its file.

    Properties read the metadata on access, since files of former versions lack some facts. A
    missing fact without a default raises KeyError; a number that cannot be parsed raises
    ValueError.

    Attributes:
        metadata: Keys and values from pyarrow, in bytes.
    """

    metadata: Mapping[bytes, bytes]

    @staticmethod
    def of(file: pq.FileMetaData) -> FileFacts:
        """The facts in the metadata of a file."""
        return FileFacts(file.metadata or {})

    @property
    def has_frame_rate(self) -> bool:
        """Whether the file states a frame rate; every file of a run does."""
        return FRAME_RATE in self.metadata

    @property
    def frames_per_second(self) -> float:
        """Nominal rate of the video."""
        return float(self.metadata[FRAME_RATE])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the frames in pixels."""
        return int(self.metadata[b"width"]), int(self.metadata[b"height"])

    @property
    def num_frames(self) -> int:
        """Frames that were processed."""
        return int(self.metadata[b"num_frames"])

    @property
    def num_detections(self) -> int:
        """Detections that were associated; 0 if the file does not say."""
        return int(self.metadata.get(b"num_detections", 0))

    @property
    def num_tracks(self) -> int | None:
        """Tracks in the file; None if it does not say."""
        number = self.metadata.get(b"num_tracks")
        return None if number is None else int(number)

    @property
    def video_version(self) -> str:
        """Version of the video's content; empty if the file does not say."""
        return self.metadata.get(b"video_version", b"").decode()

    @property
    def partial(self) -> str:
        """Damage before which the frames were kept, in one line; empty for a whole video."""
        return self.metadata.get(b"partial", b"").decode()

    @property
    def input_size(self) -> str:
        """Size of the network's input that was chosen for the video; empty if none was."""
        return self.metadata.get(b"input_size", b"").decode()

    @property
    def input_size_why(self) -> str:
        """Why it was chosen, for people; empty likewise."""
        return self.metadata.get(b"input_size_why", b"").decode()

    @property
    def camera(self) -> str | None:
        """Camera that recorded the video; None if unknown."""
        name = self.metadata.get(b"camera")
        return None if name is None else name.decode()

    @property
    def start(self) -> datetime | None:
        """When the recording began, in UTC; None if unknown."""
        text = self.metadata.get(b"start")
        return None if text is None else from_text(text.decode())

    @property
    def refined_of(self) -> str:
        """Fingerprint of the file whose rows were refined; empty if the rows are a run's own."""
        return self.metadata.get(b"refined_of", b"").decode()

    @property
    def video(self) -> Video | None:
        """The video of a file of `detections/`; None if it does not say."""
        text = self.metadata.get(b"source")
        if text is None:
            return None
        return replace(Video(**json.loads(text)), camera=self.camera, start=self.start)


def facts_of_video(
    video: Video,
    info: VideoInfo,
    counts: Counts,
    partial: str = "",
    chosen: ChosenSize | None = None,
) -> dict[str, str]:
    """Metadata of a video's files, read by `FileFacts`.

    A whole video has no key `partial`; unknown cameras and times have no key either, nor has a
    video for which no input size was chosen.
    """
    numbers = {
        "width": info.width,
        "height": info.height,
        "num_frames": counts.frames,
        "num_detections": counts.detections,
        "num_tracks": counts.tracks,
    }
    texts = {"camera": video.camera, "start": to_text(video.start), "partial": partial or None}
    if chosen is not None:
        texts |= {"input_size": str(chosen), "input_size_why": chosen.why}
    return {
        **{name: str(number) for name, number in numbers.items()},
        "video_version": video.source_version,
        FRAME_RATE.decode(): f"{info.frames_per_second:.10g}",
        **{name: text for name, text in texts.items() if text is not None},
    }


def fact_of_detections(video: Video) -> dict[str, str]:
    """Further metadata of detections: their video, so that tracks from them have the same id.

    Facts that change when the video's file is copied are left out.
    """
    names = [field.name for field in fields(video) if field.compare]
    return {"source": json.dumps({name: getattr(video, name) for name in names})}


def facts_of_refined(
    metadata: Mapping[bytes, bytes], num_tracks: int, settings: Mapping[str, Any], source: str
) -> dict[str, str]:
    """Metadata of a file of `tracks/` whose rows were refined.

    Args:
        metadata: Metadata of the original file.
        num_tracks: Remaining tracks; added only if the original file has this number.
        settings: Settings of the refinement.
        source: Fingerprint of the original file.
    """
    kept = {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in metadata.items()
        if key != b"ARROW:schema"
    }
    if "num_tracks" in kept:
        kept["num_tracks"] = str(num_tracks)
    return {**kept, "refined": json.dumps(settings), "refined_of": source}
