"""A contact sheet of the sources: a few pictures of each with their boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.training.data.labelled_image import (
    LabelledImage,
    TrainingImage,
    read_image,
)
from jde_ray.pipelines.training.data_check.counts import is_blank
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.video.chunks import read_frames

COLUMNS = 5  # pictures of each source
CELL = (256, 192)
_TITLE = 18  # pixels above the pictures of a source
_KNOWN, _UNKNOWN, _IGNORED = (60, 220, 60), (255, 200, 0), (150, 150, 150)  # RGB


def draw_sheet(
    recipe: Recipe, root: Path, groups: Sequence[Sequence[TrainingImage]], path: Path
) -> None:
    """Draw and write the sheet.

    A row per source. Boxes of known people are green with their number, of unknown people yellow,
    ignored regions grey.

    Args:
        recipe: The recipe.
        root: Folder to which its paths are relative.
        groups: Images of each source; their pixels are read anew.
        path: PNG to write.

    Raises:
        OSError: If it cannot be written.
    """
    width, height = CELL
    rows = []
    for source, images in zip(recipe.sources, groups, strict=True):
        row = np.full((_TITLE + height, COLUMNS * width, 3), 255, np.uint8)
        title = f"{source.kind} {source.path}".encode("ascii", "replace").decode()
        cv2.putText(row, title, (3, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        for place, image in enumerate(_opened(root, source, images)):
            row[_TITLE:, place * width : (place + 1) * width] = _cell(image)
        rows.append(row)
    sheet = cv2.cvtColor(np.concatenate(rows), cv2.COLOR_RGB2BGR)
    path.write_bytes(cv2.imencode(".png", sheet)[1].tobytes())


def _opened(root: Path, source: Source, images: Sequence[TrainingImage]) -> Iterator[LabelledImage]:
    """A few images of a source, evenly over those with boxes, with their pixels."""
    if not images and source.kind == "frames":
        yield from _frames(root / source.path, source.every)
        return
    chosen = [image for image in images if len(image.ignore)] or list(images)
    for place in np.linspace(0, len(chosen) - 1, min(COLUMNS, len(chosen))).round().astype(int):
        image = chosen[place]
        try:
            opened = image.open()
            if is_blank(opened.image):
                pixels, _ = read_image(Path(opened.origin), max(opened.image.shape[:2]))
                opened = _with_pixels(opened, pixels)
        except ValueError:  # counted as a problem before, and damage inside shows as a white cell
            continue
        yield opened


def _with_pixels(image: LabelledImage, pixels: np.ndarray) -> LabelledImage:
    return LabelledImage(pixels, image.tlbr, image.identity, image.ignore, image.group)


def _frames(path: Path, every: int) -> Iterator[LabelledImage]:
    nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    number = 0
    try:
        for index, _, frame in read_frames(Video(str(path), path.stem)):
            if index % every == 0:
                yield LabelledImage(frame, *nobody, group=0)
                number += 1
            if number == COLUMNS:
                return
    except VideoError:
        return


def _cell(image: LabelledImage) -> np.ndarray:
    """The picture, as large as fits into a cell, with its boxes."""
    width, height = CELL
    scale = min(width / image.image.shape[1], height / image.image.shape[0])
    size = [max(1, round(side * scale)) for side in image.image.shape[1::-1]]
    cell = np.full((height, width, 3), 255, np.uint8)
    small = cv2.resize(image.image, size, interpolation=cv2.INTER_AREA)
    for box, who, is_ignored in zip(image.tlbr * scale, image.identity, image.ignore, strict=True):
        colour = _IGNORED if is_ignored else _KNOWN if who >= 0 else _UNKNOWN
        left, top, right, bottom = (int(v) for v in np.clip(box, -9999, 9999).round())
        cv2.rectangle(small, (left, top), (right, bottom), colour, 1)
        if who >= 0 and not is_ignored:
            place = (max(0, left), max(8, top - 2))
            cv2.putText(small, str(who), place, cv2.FONT_HERSHEY_PLAIN, 0.6, colour, 1)
    cell[: size[1], : size[0]] = small
    return cell
