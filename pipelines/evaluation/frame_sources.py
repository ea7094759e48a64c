"""Finds the frames of sequences, and reads some of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.names import safe_name, sequence_name
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video import chunks
from jde_ray.pipelines.video.frame import Image


def find_frames(place: Path) -> dict[str, Path]:
    """Videos and image folders below `place`, by name, sorted.

    Raises:
        ValueError: If two have the same name.
        RunError: If there are none.
    """
    found: dict[str, Path] = {}
    for video in find_videos([str(place)])[0]:
        if video.name in found:
            raise ValueError(f"frames: {found[video.name]} and {video.uri} are both {video.name}")
        found[video.name] = Path(video.uri)
    return dict(sorted(found.items()))


def frames_of(pairing: Pairing, named: Mapping[str, Path] | None = None) -> Path | None:
    """Video or image folder of a sequence.

    Args:
        pairing: The sequence.
        named: Result of `find_frames`; None to look beside the ground truth, in `img1/` of a
            MOTChallenge sequence.

    Returns:
        None if there is none.
    """
    if named is not None:
        forms = {form: path for name, path in named.items() for form in (safe_name(name), name)}
        return forms.get(pairing.name, forms.get(sequence_name(pairing.name)))
    if pairing.truth is None or pairing.truth.parent.name != "gt":
        return None
    folder = pairing.truth.parent.resolve().parent
    return folder if (folder / "img1").is_dir() else None


def read_some_frames(place: Path, wanted: Collection[int]) -> Iterator[tuple[int, Image]]:
    """Frames with these numbers (from 0), in ascending order; those beyond the end are missing.

    Args:
        place: A video file or an image folder.
        wanted: Numbers of the frames.

    Yields:
        Number and upright RGB `(H, W, 3)` uint8 in source pixels.

    Raises:
        ValueError: If the frames cannot be read, in one line.
    """
    try:
        yield from chunks.read_some_frames(video_at(place), wanted)
    except VideoError as error:
        raise ValueError(f"{place}: {error}") from error


def video_at(place: Path) -> Video:
    """The video of a file or an image folder."""
    return Video(str(place), place.stem, is_image_folder=place.is_dir())
