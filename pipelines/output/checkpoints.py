"""Checkpoints of long videos in OUT, from which any node can resume after an actor was lost.

    checkpoints/<video_id>/<token>/<frame>/tracks.parquet       rows since the last checkpoint
                                          /detections.parquet   with --save-detections
                                          /state.npz            the tracker, written last

Each attempt has its own token, so that two attempts never write the same object. A state names
the files of rows that belong to it, including those of the attempt that it resumed. Checkpoints
are optional: if one cannot be read, the video starts at frame 0.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import TrackerState
from jde_ray.pipelines.output.layout import CHECKPOINTS_PREFIX
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.structures import Counts, Video, VideoInfo
from jde_ray.pipelines.wall_clock import to_text

_STATE = "state.npz"
_FORMAT = 1
_TRACKER = "tracker."  # prefix of the names of the tracker's arrays
# outputs that do not change a checkpoint
_WHATEVER = ("save_video", "save_crops", "crops_per_track", "blur", "keep_partial", "refine")


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """State of a video's association between two chunks.

    Attributes:
        belongs: Video, its version, configuration and outputs, which must be equal to resume.
        next_frame: Source frame that follows.
        next_chunk: Chunk that follows.
        chunk_frames: Frames per chunk.
        info: Size and rate of the video.
        embedding_dim: Width of the detector's embeddings.
        counts: Counts of the frames so far.
        seconds: Time spent so far.
        track_ids: `(n,)` int64 ids that have rows.
        parts: Keys of the rows so far: for each checkpoint in order, a mapping of kind to key.
        tracker: State of the tracker.
        has_quality: Whether the detections have a quality.
    """

    belongs: dict[str, Any]
    next_frame: int
    next_chunk: int
    chunk_frames: int
    info: VideoInfo
    embedding_dim: int
    counts: Counts
    seconds: float
    track_ids: NDArray[np.int64]
    parts: list[dict[str, str]]
    tracker: TrackerState
    has_quality: bool = False

    def dump(self) -> bytes:
        """Bytes of an npz file without pickled objects."""
        plain = ("belongs", "next_frame", "next_chunk", "chunk_frames", "embedding_dim", "seconds")
        header = {name: getattr(self, name) for name in (*plain, "parts", "has_quality")}
        header |= {"format": _FORMAT, "info": vars(self.info), "counts": asdict(self.counts)}
        arrays: dict[str, Any] = {"header": np.array(json.dumps(header))}
        arrays["track_ids"] = self.track_ids
        arrays |= {f"{_TRACKER}{name}": array for name, array in self.tracker.items()}
        file = io.BytesIO()
        np.savez(file, **arrays)
        return file.getvalue()

    @staticmethod
    def load(content: bytes) -> Checkpoint:
        """Inverse of `dump`.

        Raises:
            ValueError: If the content is damaged or has another format.
        """
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            header = json.loads(str(arrays.pop("header")))
            if header.pop("format") != _FORMAT:
                raise ValueError("its format is another one")
            header["info"] = VideoInfo(**header["info"])
            header["counts"] = Counts(**header["counts"])
            track_ids = arrays.pop("track_ids")
            tracker = {name.removeprefix(_TRACKER): array for name, array in arrays.items()}
            found = Checkpoint(track_ids=track_ids, tracker=tracker, **header)
            found._check()
        except Exception as error:
            text = " ".join(f"{type(error).__name__}: {error}".split())
            raise ValueError(f"checkpoint: {text}") from error
        return found

    def _check(self) -> None:
        """Refuse values of wrong types, which npz and JSON do not check."""
        numbers = ("next_frame", "next_chunk", "chunk_frames", "embedding_dim")
        counted = [getattr(self, name) for name in numbers]
        counted += [value for name, value in asdict(self.counts).items() if name != "dropped"]
        if not all(type(value) is int and value >= 0 for value in counted):
            raise ValueError(f"got {counted}, expected numbers from 0")
        if not (isinstance(self.belongs, dict) and isinstance(self.counts.dropped, dict)):
            raise TypeError("belongs, dropped: expected mappings")
        rates = (self.info.width, self.info.height, self.info.frames_per_second, self.seconds)
        if not all(isinstance(value, int | float) and value >= 0 for value in rates):
            raise ValueError(f"got {rates}, expected numbers from 0")
        if not isinstance(self.has_quality, bool):
            raise TypeError(f"has_quality: got {self.has_quality!r}, expected true or false")
        if not isinstance(self.info.start_us, int | None):
            raise TypeError(f"start_us: got {self.info.start_us!r}, expected a number")
        keys = [key for part in self.parts for pair in part.items() for key in pair]
        if not all(isinstance(key, str) for key in keys):
            raise TypeError("parts: expected mappings of kind to key")


def belonging(video: Video, config_hash: str, outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Values that must be equal in a checkpoint and in the run that resumes it."""
    return {
        "video": video.uri,
        "version": video.version,
        "camera": video.camera,
        "start": to_text(video.start),
        "config_hash": config_hash,
        "outputs": {name: value for name, value in outputs.items() if name not in _WHATEVER},
    }


def part_key(video_id: str, token: str, frame: int, kind: str) -> str:
    """Key of an attempt's rows of one kind in a checkpoint."""
    return f"{CHECKPOINTS_PREFIX}{video_id}/{token}/{frame:012d}/{kind}.parquet"


def save(store: ObjectStore, video_id: str, token: str, checkpoint: Checkpoint) -> str:
    """Store the state and return its key; its rows must be stored already."""
    key = f"{CHECKPOINTS_PREFIX}{video_id}/{token}/{checkpoint.next_frame:012d}/{_STATE}"
    store.put(key, checkpoint.dump())
    return key


def put_parts(
    store: ObjectStore, video_id: str, token: str, frame: int, files: Mapping[str, Path]
) -> dict[str, str]:
    """Store the rows since the last checkpoint and return their keys by kind."""
    keys = {kind: part_key(video_id, token, frame, kind) for kind in files}
    for kind, path in files.items():
        store.put(keys[kind], path)
    return keys


def find_states(store: ObjectStore) -> dict[str, list[str]]:
    """Keys of the states of every video that has any, the most advanced first."""
    found: dict[str, list[tuple[str, str]]] = {}
    for key in store.list(CHECKPOINTS_PREFIX):
        place = key.removeprefix(CHECKPOINTS_PREFIX).split("/")
        if len(place) == 4 and place[3] == _STATE:  # ignore other objects
            found.setdefault(place[0], []).append((place[2], key))
    return {video: [key for _, key in sorted(keys)[::-1]] for video, keys in found.items()}


def find_videos(store: ObjectStore) -> set[str]:
    """Ids of the videos that have any object below `checkpoints/`."""
    return {
        key.removeprefix(CHECKPOINTS_PREFIX).partition("/")[0]
        for key in store.list(CHECKPOINTS_PREFIX)
    }


def clear(store: ObjectStore, video_id: str) -> None:
    """Remove all checkpoints of a video, of all attempts, and their unfinished uploads."""
    for key in list(store.list(f"{CHECKPOINTS_PREFIX}{video_id}/")):
        store.delete(key)
    store.abort_uploads(f"{CHECKPOINTS_PREFIX}{video_id}/")
