"""Count the images, boxes and identities of every source of a recipe, and find what is wrong.

Sources are read by the code that reads them for training, but of a picture only the header, so that
54,000 of them take minutes and no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from jde_ray.pipelines.data_sets.published import TABLE_1, PublishedCounts
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.formats.label_files import (
    GROUP,
    LabelErrors,
    read_csv_rows,
    read_mot_rows,
)
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.training.data.labelled_image import (
    Image,
    ListedImage,
    TrainingImage,
    with_unique_identities,
)
from jde_ray.pipelines.training.data.sources import read_source
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.video.chunks import read_frames
from jde_ray.pipelines.video.exif import orientation_of
from jde_ray.pipelines.video.frame import check_size
from jde_ray.pipelines.video.image_headers import reaches_its_end, read_header

_ON_ITS_SIDE = 5  # orientations from here on exchange width and height


@dataclass(frozen=True)
class Counts:
    """Images, boxes of people, ignored boxes, different known people."""

    images: int = 0
    boxes: int = 0
    ignored: int = 0
    identities: int = 0


@dataclass(frozen=True)
class SourceCounts:
    """What a source holds.

    Attributes:
        kind: Kind of the source.
        path: Its path in the recipe.
        labelled: The whole source, as its labels say: people who are hidden or lie outside the
            picture count, too. `ignored` is 0.
        used: What training takes: every n-th image; hidden people are ignored regions.
        every: Every how many images it takes one.
        declared: `identities` in the recipe; None for none.
        num_numbers: One more than the largest number of a person in the whole source, as the
            published code counts identities.
        published: Column of the paper's Table 1, if it is one of its sets.
    """

    kind: str
    path: str
    labelled: Counts
    used: Counts
    every: int
    declared: int | None
    num_numbers: int
    published: PublishedCounts | None


@dataclass(frozen=True)
class Checked:
    """What was found in all sources.

    Attributes:
        sources: Counts of each source, in the order of the recipe.
        images: Images that training takes, of each source. Pixels of those in memory are blank; a
            video without labels has none.
        num_classes: Classes of the identity loss.
        problems: Wrong rows and files.
    """

    sources: tuple[SourceCounts, ...]
    images: tuple[tuple[TrainingImage, ...], ...]
    num_classes: int
    problems: LabelErrors

    @property
    def num_published(self) -> int:
        """Identities as the published code counts them: largest number + 1 of each set, and 1."""
        return sum(one.num_numbers for one in self.sources) + 1


def check_sources(
    recipe: Recipe, root: Path, turns: Callable[[Sequence[Source]], Iterable[Source]] = iter
) -> Checked:
    """Read all sources of a recipe.

    Args:
        recipe: The recipe.
        root: Folder to which its paths are relative.
        turns: Yields the sources one after the other, and may report progress.
    """
    problems = LabelErrors()
    counts: list[SourceCounts] = []
    groups: list[tuple[TrainingImage, ...]] = []
    for group, source in enumerate(turns(recipe.sources)):
        count, images = _check(root, source, group, recipe.longest_side, problems)
        counts.append(count)
        groups.append(tuple(images))
    declared = [source.identities for source in recipe.sources]
    _, num_classes = with_unique_identities(groups, declared)
    return Checked(tuple(counts), tuple(groups), num_classes, problems)


def blank_image(path: Path, longest_side: int) -> tuple[Image, float]:
    """An image without its pixels, of the size that training gives it, and the scale.

    The array takes no memory. All of the file is read, but not decoded.

    Raises:
        ValueError: If the file is missing, no image, truncated or too large.
    """
    try:
        data = path.read_bytes()
        header = read_header(data)
        if header is None or header.kind == "webp":
            raise ValueError("no JPEG, PNG or BMP" if data else "0 bytes")
        check_size(header.width, header.height)
        if not reaches_its_end(data):
            raise ValueError("it ends too early")
    except OSError as error:
        raise ValueError(f"{error.strerror}") from error
    except VideoError as error:
        raise ValueError(error.detail) from error
    size = (header.height, header.width)
    height, width = size[::-1] if orientation_of(data) >= _ON_ITS_SIDE else size
    scale = min(1.0, longest_side / max(height, width))
    shape = (max(1, round(height * scale)), max(1, round(width * scale)), 3)
    return np.broadcast_to(np.zeros((1, 1, 1), np.uint8), shape), scale


def is_blank(image: Image) -> bool:
    """Whether an image is one of `blank_image`."""
    return image.strides[0] == 0


def _check(
    root: Path, source: Source, group: int, longest_side: int, problems: LabelErrors
) -> tuple[SourceCounts, Sequence[TrainingImage]]:
    before = len(problems.found)
    if source.kind == "frames" and (root / source.path).is_file():
        whole, used = _count_frames(root / source.path, source.every, problems)
        return _counted(source, whole, used, 0), ()
    images = _read(root, replace(source, every=1), group, longest_side, problems)
    for image in images:
        if isinstance(image, ListedImage):
            _look(image.path, longest_side, problems)
    if not images and len(problems.found) == before:
        problems.add(root / source.path, None, "missing source", "no image found")
    taken = images
    if source.every > 1:  # the same problems again
        taken = _read(root, source, group, longest_side, LabelErrors())
    labelled, numbers = _labelled(root / source.path, source, images)
    return _counted(source, labelled, _count(taken), max(numbers, default=-1) + 1), taken


def _counted(source: Source, labelled: Counts, used: Counts, num_numbers: int) -> SourceCounts:
    published = TABLE_1.get(source.name) if source.kind == "list" else None
    return SourceCounts(
        source.kind,
        source.path,
        labelled,
        used,
        source.every,
        source.identities,
        num_numbers,
        published,
    )


def _read(
    root: Path, source: Source, group: int, longest_side: int, problems: LabelErrors
) -> list[TrainingImage]:
    try:
        return read_source(root, source, group, longest_side, problems, load=blank_image)
    except (ValueError, OSError):  # no image; what is wrong is among the problems
        return []


def _look(path: Path, longest_side: int, problems: LabelErrors) -> None:
    try:
        blank_image(path, longest_side)
    except ValueError as error:
        problems.add(path, None, "unreadable image", str(error))


def _count_frames(path: Path, every: int, problems: LabelErrors) -> tuple[Counts, Counts]:
    """Frames of a video without labels, which is decoded, one frame at a time."""
    number = 0
    try:
        for index, _, _ in read_frames(Video(str(path), path.stem)):
            number = index + 1
    except VideoError as error:
        problems.add(path, None, "unreadable video", str(error))
    return Counts(images=number), Counts(images=-(-number // every))


def _count(images: Sequence[TrainingImage]) -> Counts:
    ignored = sum(int(image.ignore.sum()) for image in images)
    boxes = sum(len(image.ignore) for image in images) - ignored
    return Counts(len(images), boxes, ignored, len(_numbers(images)))


def _numbers(images: Sequence[TrainingImage]) -> set[int]:
    return {int(who) for one in images for who in one.identity[~one.ignore] if who >= 0}


def _labelled(
    path: Path, source: Source, images: Sequence[TrainingImage]
) -> tuple[Counts, set[int]]:
    """People by the labels of a whole source, whatever of them training takes, and their numbers.

    Images that cannot be read do not count.
    """
    unheard = LabelErrors()
    if source.kind == "sequence":
        rows = read_mot_rows(path / "gt" / "gt.txt", unheard, source.identities)
        people = rows[(rows[:, 6] > 0) & (rows[:, 7] == 1)][:, 1]
    elif source.kind in ("boxes", "crops", "backgrounds"):
        by_image = read_csv_rows(path / f"{path.name}.csv", unheard, source.identities)
        rows = np.array([v for own in by_image.values() for _, v in own]).reshape(-1, 5)
        people = rows[rows[:, 4] != GROUP][:, 4]
    else:
        found = _count(images)
        return replace(found, ignored=0), _numbers(images)
    numbers = {int(who) for who in people if who >= 0}
    return Counts(len(images), len(people), 0, len(numbers)), numbers
