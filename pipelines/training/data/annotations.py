"""Reads training images that were annotated in CVAT, or are listed in a COCO file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.formats.exchange.annotated import AnnotatedVideo, Picture
from jde_ray.pipelines.formats.exchange.coco_reader import read_coco
from jde_ray.pipelines.formats.exchange.cvat_reader import read_cvat
from jde_ray.pipelines.formats.label_files import LabelErrors, check_identity, outside
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.training.data.labelled_image import (
    LabelledImage,
    ListedImage,
    TrainingImage,
    shrink,
)
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.video.chunks import read_frames
from jde_ray.pipelines.video.image_folder import list_images


def read_coco_source(
    path: Path, source: Source, group: int, longest_side: int, problems: LabelErrors
) -> list[ListedImage]:
    """The pictures of a COCO file, also those without people; crowds are ignored regions.

    A picture lies beside the file or its folder, or in `images/` there. Boxes without an id have
    the identity -1, unknown.
    """
    videos = _read_videos(path, problems)
    numbers: dict[tuple[int, int], int] = {}
    images: list[ListedImage] = []
    for place, video in enumerate(videos):
        found = [(one, _find(path, one)) for one in video.pictures[:: source.every]]
        for picture, file in found:
            if file is None:
                problems.add(path, None, "missing image", f"there is no {picture.file}")
        there = [(picture, file) for picture, file in found if file is not None]
        runs = source.runs([file for _, file in there])
        labels = _Labels(path, video, source.identities, problems)
        for (picture, file), run in zip(there, runs, strict=True):
            size = (picture.width, picture.height)
            if min(size) <= 0:
                problems.add(path, None, "image", f"{picture.file} has no width and height")
                continue
            tlbr, identity, ignore = labels.of(picture.frame, size)
            if len(videos) > 1:  # in every video a number means another person
                identity = _renumbered(identity, place, numbers)
            shares = (tlbr / np.array([*size, *size])).astype(np.float32)
            images.append(
                ListedImage(file, shares, identity, ignore, group, longest_side, sequence=run)
            )
    return images


def _read_videos(path: Path, problems: LabelErrors) -> list[AnnotatedVideo]:
    try:
        return read_coco(path, lambda kind, detail: problems.add(path, None, kind, detail))
    except ValueError as error:
        problems.add(path, None, "unreadable file", str(error))
        return []


def _find(path: Path, picture: Picture) -> Path | None:
    """The file of a picture of a COCO file; None if there is none."""
    for folder in (path.parent, path.parent.parent):
        for place in (folder / picture.file, folder / "images" / picture.file):
            if picture.file and _is_file(place):
                return place
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # an impossible name
        return False


def _renumbered(
    identity: IntArray, place: int, numbers: dict[tuple[int, int], int]
) -> NDArray[np.int64]:
    found = [
        numbers.setdefault((place, number), len(numbers)) if number >= 0 else -1
        for number in identity.tolist()
    ]
    return np.array(found, np.int64)


def read_cvat_source(
    path: Path, source: Source, group: int, longest_side: int, problems: LabelErrors
) -> Sequence[TrainingImage]:
    """The frames of a video that was annotated in CVAT.

    They are `images/frame_000000.*` beside the XML file, as CVAT exports them, else the video that
    the file names, or one of the same name as the file, beside it.
    """
    try:
        found = read_cvat(path, lambda kind, detail: problems.add(path, None, kind, detail))
    except ValueError as error:
        problems.add(path, None, "unreadable file", str(error))
        return []
    labels = _Labels(path, found.video, source.identities, problems)
    folder = path.parent / "images"
    if folder.is_dir():
        size = next(((p.width, p.height) for p in found.video.pictures), (0.0, 0.0))
        return _of_folder(folder, labels, size, source, group, longest_side)
    names = (Path(found.source).name, *(f"{path.stem}{suffix}" for suffix in (".mp4", ".mkv")))
    video = next(
        (path.parent / name for name in names if name and _is_file(path.parent / name)), None
    )
    if video is None:
        wanted = f"there is no images/ and no {names[0] or names[1]} beside it"
        problems.add(path, None, "missing image", wanted)
        return []
    return _of_video(video, labels, source, group, longest_side, problems)


def _of_folder(
    folder: Path,
    labels: _Labels,
    size: tuple[float, float],
    source: Source,
    group: int,
    longest_side: int,
) -> list[TrainingImage]:
    paths = [
        path for path in list_images(str(folder)) if path.stem.removeprefix("frame_").isdecimal()
    ]
    paths = paths[:: source.every]
    images: list[TrainingImage] = []
    for path, run in zip(paths, source.runs(paths), strict=True):
        frame = int(path.stem.removeprefix("frame_"))
        tlbr, identity, ignore = labels.of(frame, size)
        shares = (tlbr / np.array([*size, *size])).astype(np.float32) if len(tlbr) else tlbr
        images.append(
            ListedImage(path, shares, identity, ignore, group, longest_side, sequence=run)
        )
    return images


def _of_video(
    path: Path,
    labels: _Labels,
    source: Source,
    group: int,
    longest_side: int,
    problems: LabelErrors,
) -> list[TrainingImage]:
    """Every n-th frame of a video file; frames before an error are kept."""
    images: list[TrainingImage] = []
    run = str(path) if source.is_video else ""
    try:
        for index, _, frame in read_frames(Video(str(path), path.stem)):
            if index % source.every == 0:
                height, width = frame.shape[:2]
                tlbr, identity, ignore = labels.of(index, (width, height))
                image, scale = shrink(np.ascontiguousarray(frame), longest_side)
                images.append(
                    LabelledImage(
                        image,
                        (tlbr * scale).astype(np.float32),
                        identity,
                        ignore,
                        group,
                        origin=f"{path} frame {index}",
                        sequence=run,
                    )
                )
    except VideoError as error:
        problems.add(path, None, "unreadable video", str(error))
    return images


class _Labels:
    """The people of a video by frame, checked while they are read.

    Args:
        path: File of the annotations, for messages.
        video: Its boxes.
        limit: Number of identities that the source declares; None for no limit.
        problems: Collects what is wrong.
    """

    def __init__(
        self, path: Path, video: AnnotatedVideo, limit: int | None, problems: LabelErrors
    ) -> None:
        self._path, self._limit, self._problems = path, limit, problems
        kept = video.is_person | video.is_ignored
        rows, ignored = video.rows[kept], video.is_ignored[kept]
        order = np.argsort(rows.frame, kind="stable")
        self._rows, self._ignored = rows[order], ignored[order]

    def of(
        self, frame: int, size: tuple[float, float]
    ) -> tuple[FloatArray, NDArray[np.int64], NDArray[np.bool_]]:
        """`(G, 4)` corners in pixels, identities and ignored regions of a frame of this size."""
        first, last = np.searchsorted(self._rows.frame, [frame, frame + 1])
        rows, ignored = self._rows[slice(first, last)], self._ignored[first:last]
        identity = rows.track_id.astype(np.int64)
        kept = np.ones(len(rows), bool)
        for place, box in enumerate(rows.tlbr.tolist()):
            if wrong := outside(box, *size):
                detail = f"frame {frame} (from 0): {wrong}"
                self._problems.add(self._path, None, "box outside the image", detail)
                kept[place] = False
            elif wrong := check_identity(float(identity[place]), self._limit):
                self._problems.add(self._path, None, "identity", f"frame {frame} (from 0): {wrong}")
                identity[place] = -1
        return rows.tlbr[kept].astype(np.float32), identity[kept], ignored[kept]
