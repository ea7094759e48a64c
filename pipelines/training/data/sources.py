"""Reads training images: sequences, tables of boxes, lists, videos, rendered scenes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from jde_ray.models.structures import FloatArray
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.formats.label_files import (
    GROUP,
    LabelErrors,
    label_path,
    outside,
    read_csv_rows,
    read_jde_rows,
    read_lines,
    read_mot_rows,
)
from jde_ray.pipelines.formats.mot import DISTRACTORS
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.training.data.annotations import read_coco_source, read_cvat_source
from jde_ray.pipelines.training.data.labelled_image import (
    Image,
    LabelledImage,
    ListedImage,
    TrainingImage,
    read_image,
    shrink,
)
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.video.chunks import read_frames
from jde_ray.pipelines.video.frame_numbers import frame_order
from jde_ray.pipelines.video.image_folder import list_images

Load = Callable[[Path, int], tuple[Image, float]]  # as `labelled_image.read_image`


def read_source(
    root: Path,
    source: Source,
    group: int,
    longest_side: int,
    problems: LabelErrors | None = None,
    load: Load = read_image,
    *,
    in_memory: bool = True,
) -> list[TrainingImage]:
    """All images of one source.

    Args:
        root: Folder to which its path is relative.
        source: Kind, path and options of the source.
        group: Index of the source in the recipe.
        longest_side: Limit in pixels; larger images are shrunk to it.
        problems: Collects the errors of rows that are left out; None refuses the source instead.
        load: Reads the images that are kept in memory, with the errors of `read_image`.
        in_memory: Keep the pictures of `boxes` and its like in memory; otherwise they are read
            again when they are used, as those of a `list` always are.

    Raises:
        ValueError: If nothing is found, naming the path.
        BadDataError: If rows are wrong and `problems` is None.
    """
    found = LabelErrors() if problems is None else problems
    path = root / source.path
    images: list[TrainingImage] = []
    if source.kind == "sequence":
        images += _read_sequence(path, source, group, longest_side, found, load)
    elif source.kind == "synthetic":
        images += render_scenes(int(source.path), group)
    elif source.kind == "frames":
        images += _read_video(path, source.every, group, longest_side, found, load)
    elif source.kind == "coco":
        images += read_coco_source(path, source, group, longest_side, found)
    elif source.kind == "cvat":
        images += read_cvat_source(path, source, group, longest_side, found)
    elif source.kind == "list":
        images += _read_list(root, source, group, longest_side, found)
    else:
        boxes = _read_boxes(path, source, group, longest_side, found, load)
        images += boxes if in_memory else (_on_disk(one, longest_side) for one in boxes)
    if problems is None:
        found.refuse()
    if not images:
        what = f" ({found.summary()})" if found.found else ""
        raise ValueError(f"source {source.path}: no image found in {path}{what}")
    return images


def _read_sequence(
    folder: Path,
    source: Source,
    group: int,
    longest_side: int,
    problems: LabelErrors,
    load: Load,
) -> list[LabelledImage]:
    """Every n-th frame of a MOT sequence with its ground truth.

    Pedestrians below visibility .2 and the benchmark's distractor classes are ignored regions.
    Identities are the file's; the caller makes them unique.
    """
    truth = folder / "gt" / "gt.txt"
    if not truth.is_file():
        problems.add(truth, None, "missing file", "expected a sequence with gt/gt.txt")
        return []
    rows = read_mot_rows(truth, problems, source.identities)
    paths = []
    for path in list_images(str(folder)):
        if path.stem.isdecimal():
            paths.append(path)
        else:
            problems.add(path, None, "image name", "expected the number of the frame: 000001.jpg")
    numbers = {int(path.stem) for path in paths}
    for frame in sorted({int(f) for f in rows[:, 0]} - numbers):
        line = int(rows[rows[:, 0] == frame][0, 9])
        problems.add(truth, line, "missing image", f"frame {frame} has no img1/{frame:06d}.jpg")
    images = []
    paths = paths[:: source.every]
    for path, run in zip(paths, source.runs(paths), strict=True):
        mine = rows[rows[:, 0] == int(path.stem)]
        is_person = (mine[:, 6] > 0) & (mine[:, 7] == 1)
        mine = mine[is_person | np.isin(mine[:, 7], (1, *DISTRACTORS))]
        loaded = _loaded(path, longest_side, problems, load)
        if loaded is None:
            continue
        image, scale = loaded
        mine = _inside(mine, image, scale, truth, problems)
        person = (mine[:, 6] > 0) & (mine[:, 7] == 1) & (mine[:, 8] >= 0.2)
        tlbr = np.concatenate([mine[:, 2:4] - 1, mine[:, 2:4] - 1 + mine[:, 4:6]], 1) * scale
        images.append(
            LabelledImage(
                image,
                tlbr.astype(np.float32),
                mine[:, 1].astype(np.int64),
                ~person,
                group,
                origin=str(path),
                sequence=run,
            )
        )
    return images


def _loaded(
    path: Path, longest_side: int, problems: LabelErrors, load: Load
) -> tuple[Image, float] | None:
    """An image and the scale applied; None if it cannot be read, which is noted."""
    try:
        return load(path, longest_side)
    except ValueError as error:
        problems.add(path, None, "unreadable image", str(error))
        return None


def _inside(
    rows: FloatArray, image: Image, scale: float, truth: Path, problems: LabelErrors
) -> FloatArray:
    """Rows of a frame whose box overlaps the image."""
    height, width = (side / scale for side in image.shape[:2])
    kept = []
    for row in rows:
        left, top = row[2] - 1, row[3] - 1
        wrong = outside((left, top, left + row[4], top + row[5]), width, height)
        counts = row[6] > 0 and row[7] == 1 and row[8] > 0  # boxes of hidden people are not checked
        if wrong and counts:
            problems.add(truth, int(row[9]), "box outside the image", wrong)
        kept.append(wrong is None)
    return rows[np.array(kept, bool)] if len(rows) else rows


def _on_disk(image: LabelledImage, longest_side: int) -> ListedImage:
    height, width = image.image.shape[:2]
    return ListedImage(
        Path(image.origin),
        (image.tlbr / np.array([width, height] * 2)).astype(np.float32),
        image.identity,
        image.ignore,
        image.group,
        longest_side,
        sequence=image.sequence,
    )


def _read_boxes(
    folder: Path,
    source: Source,
    group: int,
    longest_side: int,
    problems: LabelErrors,
    load: Load,
) -> Iterator[LabelledImage]:
    """A folder of images with one CSV `image,x1,y1,x2,y2,id`; images without rows are negatives."""
    table = folder / f"{folder.name}.csv"
    if not table.is_file():
        problems.add(table, None, "missing file", "expected FOLDER/images and FOLDER/FOLDER.csv")
        return
    by_image = read_csv_rows(table, problems, source.identities)
    paths = sorted((folder / "images").glob("*.jpg"))
    for name in sorted(set(by_image) - {path.name for path in paths}):
        problems.add(table, by_image[name][0][0], "missing image", f"there is no images/{name}")
    for path in paths[:: source.every]:
        loaded = _loaded(path, longest_side, problems, load)
        if loaded is None:
            continue
        image, scale = loaded
        height, width = (side / scale for side in image.shape[:2])
        kept = []
        for line, values in by_image.get(path.name, []):
            wrong = outside(values[:4], width, height)
            if wrong:
                problems.add(table, line, "box outside the image", wrong)
            else:
                kept.append(values)
        if source.kind == "crops" and not kept:
            continue  # a crop without a person teaches nothing
        rows = np.array(kept, np.float64).reshape(-1, 5)
        is_group = rows[:, 4] == GROUP
        yield LabelledImage(
            image,
            (rows[:, :4] * scale).astype(np.float32),
            rows[:, 4].astype(np.int64),
            is_group,
            group,
            source.squashed,
            origin=str(path),
        )


def _read_list(
    root: Path, source: Source, group: int, longest_side: int, problems: LabelErrors
) -> list[ListedImage]:
    """Images in a list of the unified JDE format, which has a path below `root` on each line."""
    listed = root / source.path
    if not listed.is_file():
        problems.add(listed, None, "missing file", "expected a list of images below --data")
        return []
    entries = [(root / name, line) for line, name in read_lines(listed, problems)]
    if source.is_video:
        entries.sort(key=lambda entry: frame_order(entry[0]))
    entries = entries[:: source.every]
    images = []
    for (path, line), run in zip(entries, source.runs([p for p, _ in entries]), strict=True):
        labels = label_path(path)
        if not _is_file(path):
            problems.add(listed, line, "missing image", f"there is no {path}")
            continue
        if not _is_file(labels):
            wanted = f"there is no {labels} (an empty file means no people)"
            problems.add(listed, line, "missing label file", wanted)
            continue
        rows = read_jde_rows(labels, problems, source.identities)
        images.append(
            ListedImage(
                path,
                rows[:, :4].astype(np.float32),
                rows[:, 4].astype(np.int64),
                np.zeros(len(rows), bool),
                group,
                longest_side,
                sequence=run,
            )
        )
    return images


def _is_file(path: Path) -> bool:
    """Whether a path is a file; False for impossible file names."""
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long, or with a NUL byte
        return False


def _read_video(
    path: Path, every: int, group: int, longest_side: int, problems: LabelErrors, load: Load
) -> list[LabelledImage]:
    """Every n-th frame of an unlabelled video file, or every image of a folder.

    Videos are decoded as for tracking: only allowed containers and codecs, upright, limited in
    size. Frames before an error are kept.
    """

    def unlabelled(image: Image, origin: str) -> LabelledImage:
        nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
        return LabelledImage(image, *nobody, group=group, origin=origin)

    if path.is_dir():
        paths = sorted((path / "images").glob("*.jpg"))
        found = ((p, _loaded(p, longest_side, problems, load)) for p in paths)
        return [unlabelled(loaded[0], str(p)) for p, loaded in found if loaded is not None]
    images: list[LabelledImage] = []
    if not _is_file(path):
        return images
    try:
        for index, _, frame in read_frames(Video(str(path), path.stem)):
            if index % every == 0:
                image, _ = shrink(np.ascontiguousarray(frame), longest_side)
                images.append(unlabelled(image, f"{path} frame {index}"))
    except VideoError as error:
        problems.add(path, None, "unreadable video", str(error))
    return images


def render_scenes(num_scenes: int, group: int) -> list[LabelledImage]:
    """Four frames of each of `num_scenes` synthetic streets, seconds apart.

    Seeds start at 10,000, so that no scene of the demo or the tests is used.
    """
    images = []
    for number in range(num_scenes):
        scene = StreetScene(
            seed=10_000 + number, width=832, height=468, frames_per_second=0.4, num_frames=4
        )
        for moment, (image, truth) in enumerate(render(scene)):
            hidden = truth.visibility < 0.2
            identity = truth.track_id + 1000 * number
            origin = f"synthetic scene {10_000 + number} frame {moment}"
            images.append(
                LabelledImage(
                    image,
                    truth.tlbr,
                    identity,
                    hidden,
                    group,
                    origin=origin,
                    sequence=f"synthetic {number}",
                )
            )
    return images
