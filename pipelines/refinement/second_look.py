"""A second look at finished tracks: a few crops of each, read from the video again.

A re-identification network looks at the cleanest sighting of each glimpse of a track
(`models.tracking.postprocessing.glimpses`), in the pixels of the source. What it says stands for
the whole glimpse, beside the vectors that the run kept of every row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.models.tracking.postprocessing.glimpses import cleanest_sightings, take_glimpses
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories
from jde_ray.pipelines.detection.second_look import joined
from jde_ray.pipelines.detection.weights import load_reid
from jde_ray.pipelines.errors import RunError, VideoError
from jde_ray.pipelines.names import safe_name, sequence_name
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.chunks import read_some_frames

if TYPE_CHECKING:
    from jde_ray.models.sde.network import AppearanceEmbedder

_OWN_SHARE = 0.6  # a mean over many sightings of its own counts for more than one beside one crop


@dataclass(frozen=True)
class SecondLook:
    """How to look at finished tracks again.

    Attributes:
        reid: Path of the re-identification network, an ONNX file or the YAML file that declares it.
        videos: Videos by the safe form of their names; None to find each where its run found it.
        threads: CPU threads of the network.
    """

    reid: str
    videos: dict[str, list[Video]] | None = None
    threads: int = 1

    @staticmethod
    def at(reid: str, frames: list[str] | None = None, threads: int = 1) -> SecondLook:
        """A second look at the videos behind `frames`, found by name.

        Raises:
            RunError: If there is no video.
        """
        if not frames:
            return SecondLook(reid, None, threads)
        named: dict[str, list[Video]] = {}
        for video in find_videos(frames).videos:
            named.setdefault(safe_name(video.name), []).append(video)
        return SecondLook(reid, named, threads)

    def video_of(self, path: Path, uri: str) -> Video:
        """The video of a file of tracks.

        Args:
            path: The file of tracks, whose name is that of the video or its id.
            uri: Where the run found the video; empty if the file does not say.

        Raises:
            ValueError: If there is none, or several have its name.
        """
        if self.videos is not None:
            names = dict.fromkeys((path.stem, sequence_name(path.stem)))
            found = next((self.videos[name] for name in names if name in self.videos), [])
            if len(found) != 1:
                places = " and ".join(video.uri for video in found[:2]) or "none"
                raise ValueError(f"frames: got {places} of {path.stem}, expected one video")
            return found[0]
        if not uri:
            raise ValueError(f"reid: {path} does not name its video, expected --frames SOURCE")
        try:
            return find_videos([uri]).videos[0]
        except (RunError, OSError) as error:
            raise ValueError(
                f"reid: {path.stem}: {error}; name the videos with --frames SOURCE"
            ) from error

    def load(self) -> AppearanceEmbedder:
        """The network.

        Raises:
            ValueError: If it cannot be used.
        """
        return load_reid(self.reid, self.threads)


class Vectors:
    """Embeddings of all rows of a file, as an array `(N, D1 + D2)` that is put together when read.

    Args:
        own: `(N, D1)` vectors of the run; None if it kept none.
        looks: `(m, D2)` vectors of the glimpses.
        glimpse: `(N,)` glimpse of each row.
    """

    def __init__(self, own: FloatArray | None, looks: FloatArray, glimpse: IntArray) -> None:
        self._own, self._looks, self._glimpse = own, looks, glimpse
        width = looks.shape[1] + (0 if own is None else own.shape[1])
        self.shape = (len(glimpse), width)

    def __getitem__(self, rows: NDArray[Any]) -> FloatArray:
        second = np.asarray(self._looks[self._glimpse[rows]], np.float32)
        if self._own is None:
            return second
        return joined(_unit(np.asarray(self._own[rows], np.float32)), second, _OWN_SHARE)


def look_at(
    tracks: Trajectories,
    video: Video,
    embedder: AppearanceEmbedder,
    folder: Path,
    *,
    stride: int = 1,
    size: tuple[int, int] | None = None,
    own: FloatArray | None = None,
) -> tuple[Vectors, int]:
    """Look at the cleanest sighting of each glimpse.

    Args:
        tracks: Tracks of the video, with all rows of their file.
        video: The video.
        embedder: The re-identification network.
        folder: Local folder for a file that is mapped into memory.
        stride: Every n-th frame was tracked.
        size: Width and height of the frames that the boxes refer to; None: those of the video.
        own: `(N, D1)` vectors that the run kept, by `tracks.source`; None for none.

    Returns:
        Vectors by `tracks.source`, and the number of crops.

    Raises:
        ValueError: If the video cannot be read, or lacks a frame of the tracks.
    """
    glimpses = take_glimpses(tracks, stride=stride)
    glimpse = np.empty(len(tracks), np.int64)
    glimpse[tracks.source] = np.repeat(np.arange(len(glimpses)), glimpses.end - glimpses.start)
    rows = cleanest_sightings(tracks, stride)
    shape = (max(1, len(rows)), embedder.width)
    looks = np.memmap(folder / "looks", np.float16, "w+", shape=shape)[: len(rows)]
    left: dict[int, list[int]] = {}  # by frame
    for place, frame in enumerate(tracks.frame[rows].tolist()):
        left.setdefault(frame, []).append(place)
    try:
        for number, picture in read_some_frames(video, set(left)):
            some = left.pop(number)
            tlbr = tracks.tlbr[rows[some]]
            if size is not None:
                height, width = picture.shape[:2]
                tlbr = tlbr * np.array([width / size[0], height / size[1]] * 2)
            looks[some] = embedder.embed(picture, tlbr)
    except VideoError as error:
        raise ValueError(f"{video.uri}: {error}") from error
    if left:
        raise ValueError(
            f"{video.uri}: it has no frame {min(left)}, expected the video of these tracks"
        )
    return Vectors(own, looks, glimpse), len(rows)


def _unit(vectors: FloatArray) -> FloatArray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: FloatArray = vectors / np.maximum(length, 1e-12)
    return result
