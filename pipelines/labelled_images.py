"""Labelled images on disk, and what teachers add to them."""

from __future__ import annotations

import csv
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from models.boxes import iou_matrix
from models.structures import FloatArray, IntArray
from models.synthetic.render import render
from models.synthetic.scene import StreetScene
from pipelines.mot_format import DISTRACTORS
from pipelines.pseudo_labels import AppearanceEmbedder, PersonDetector

Image = NDArray[np.uint8]


@dataclass(frozen=True)
class LabelledImage:
    """One image and its people.

    Attributes:
        image: `(H, W, 3)` uint8 RGB.
        tlbr: `(G, 4)` float32 corners in its pixels.
        identity: `(G,)` int64, unique over the whole training set, -1 for unknown.
        ignore: `(G,)` bool, neither person nor background.
        group: Index of its source; sources are drawn by weight.
        squashed: Whether the image was stretched to a square, so that its people are too thin.
        appearance: `(G, D)` float32 teacher vectors, zeros where there is none.
    """

    image: Image
    tlbr: FloatArray
    identity: IntArray
    ignore: NDArray[np.bool_]
    group: int
    squashed: bool = False
    appearance: FloatArray = field(default_factory=lambda: np.zeros((0, 0), np.float32))


@dataclass(frozen=True, kw_only=True)
class Source:
    """One entry of the list `sources` in a training configuration.

    Attributes:
        kind: `sequence` (MOT layout), `boxes`, `backgrounds`, `crops`, `frames` (unlabelled) or
            `synthetic` (rendered; then `path` is the number of scenes).
        path: Below the data root.
        weight: Share of the images drawn, relative to the other sources.
        every: Take every n-th frame.
        squashed: See `LabelledImage`.
    """

    kind: str
    path: str
    weight: float = 1.0
    every: int = 1
    squashed: bool = False


def _read(path: Path, longest_side: int) -> tuple[Image, float]:
    """RGB image with its longest side at most `longest_side`, and the scale applied."""
    loaded = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if loaded is None:
        raise ValueError(f"training image: {path} is missing or no image")
    scale = min(1.0, longest_side / max(loaded.shape[:2]))
    if scale < 1:
        size = (round(loaded.shape[1] * scale), round(loaded.shape[0] * scale))
        loaded = cv2.resize(loaded, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(loaded[:, :, ::-1]), scale


def read_sequence(folder: Path, every: int, group: int, longest_side: int) -> list[LabelledImage]:
    """Every n-th frame of a MOT sequence with its ground truth.

    Pedestrians below visibility .2 and the benchmark's distractor classes are ignored regions.
    Identities are the file's; the caller makes them unique.
    """
    rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", ndmin=2)
    classes = rows.shape[1] == 9
    images = []
    for path in sorted((folder / "img1").glob("*.jpg"))[::every]:
        mine = rows[rows[:, 0] == int(path.stem)]
        if classes:
            person = (mine[:, 6] > 0) & (mine[:, 7] == 1) & (mine[:, 8] >= 0.2)
            relevant = person | np.isin(mine[:, 7], DISTRACTORS) | (mine[:, 7] == 1)
        else:
            person, relevant = mine[:, 6] > 0, np.ones(len(mine), bool)
        mine, person = mine[relevant], person[relevant]
        image, scale = _read(path, longest_side)
        tlbr = np.concatenate([mine[:, 2:4] - 1, mine[:, 2:4] - 1 + mine[:, 4:6]], 1) * scale
        images.append(
            LabelledImage(
                image, tlbr.astype(np.float32), mine[:, 1].astype(np.int64), ~person, group
            )
        )
    return images


def read_boxes(folder: Path, source: Source, group: int, longest_side: int) -> list[LabelledImage]:
    """A folder of images with one CSV `image,x1,y1,x2,y2,id`; images without rows are negatives."""
    by_image: dict[str, list[list[float]]] = {}
    with (folder / f"{folder.name}.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            values = [float(row[key]) for key in ("x1", "y1", "x2", "y2", "id")]
            by_image.setdefault(row["image"], []).append(values)
    images = []
    for path in sorted((folder / "images").glob("*.jpg")):
        image, scale = _read(path, longest_side)
        table = np.array(by_image.get(path.name, []), np.float64).reshape(-1, 5)
        images.append(
            LabelledImage(
                image,
                (table[:, :4] * scale).astype(np.float32),
                table[:, 4].astype(np.int64),
                np.zeros(len(table), bool),
                group,
                source.squashed,
            )
        )
    return images


def read_video(path: Path, every: int, group: int, longest_side: int) -> list[LabelledImage]:
    """Every n-th frame of an unlabelled video file, or every image of a folder."""
    if path.is_dir():
        frames = [_read(p, longest_side)[0] for p in sorted((path / "images").glob("*.jpg"))]
    else:
        frames = []
        capture = cv2.VideoCapture(str(path))
        index = 0
        while True:
            good, frame = capture.read()
            if not good:
                break
            if index % every == 0:
                scale = min(1.0, longest_side / max(frame.shape[:2]))
                frame = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
                frames.append(np.ascontiguousarray(frame[:, :, ::-1]))
            index += 1
    nobody = (np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool))
    return [LabelledImage(frame, *nobody, group) for frame in frames]


def render_scenes(num_scenes: int, group: int) -> list[LabelledImage]:
    """Four moments of each of `num_scenes` synthetic streets, seconds apart.

    The seeds begin at 10,000, so that no scene of the demo or the tests is among them.
    """
    images = []
    for number in range(num_scenes):
        scene = StreetScene(
            seed=10_000 + number, width=832, height=468, frames_per_second=0.4, num_frames=4
        )
        for image, truth in render(scene):
            hidden = truth.visibility < 0.2
            identity = truth.track_id + 1000 * number
            images.append(LabelledImage(image, truth.tlbr, identity, hidden, group))
    return images


def read_source(root: Path, source: Source, group: int, longest_side: int) -> list[LabelledImage]:
    """All images of one source.

    Raises:
        ValueError: If the kind is unknown or nothing is found, naming the path.
    """
    path = root / source.path
    if source.kind == "sequence":
        images = read_sequence(path, source.every, group, longest_side)
    elif source.kind == "synthetic":
        images = render_scenes(int(source.path), group)
    elif source.kind == "frames":
        images = read_video(path, source.every, group, longest_side)
    elif source.kind in ("boxes", "backgrounds", "crops"):
        images = read_boxes(path, source, group, longest_side)
    else:
        raise ValueError(f"source kind: got {source.kind!r}")
    if not images:
        raise ValueError(f"source {source.path}: no image found in {path}")
    return images


def with_unique_identities(
    groups: list[list[LabelledImage]],
) -> tuple[list[LabelledImage], int]:
    """Number identities 0, 1, ... over all sources; a number means one person in one source."""
    known: dict[tuple[int, int], int] = {}
    images = []
    for image in (image for group in groups for image in group):
        identity = [
            known.setdefault((image.group, int(i)), len(known)) if i >= 0 and not ignored else -1
            for i, ignored in zip(image.identity, image.ignore, strict=True)
        ]
        images.append(replace(image, identity=np.array(identity, np.int64)))
    return images, len(known)


def add_pseudo_labels(image: LabelledImage, detector: PersonDetector, sure: float) -> LabelledImage:
    """Add what a detector sees: people where nothing is labelled, ignored where it is unsure.

    Args:
        image: Labelled by hand or not at all.
        detector: The teacher.
        sure: Score above which a detection becomes a person; 1 makes all of them ignored.
    """
    tlbr, scores = detector.detect(image.image, 0.2)
    if len(image.tlbr):
        new = iou_matrix(tlbr, image.tlbr).max(1) < 0.3
        tlbr, scores = tlbr[new], scores[new]
    if not len(tlbr):
        return image
    return replace(
        image,
        tlbr=np.concatenate([image.tlbr, tlbr]),
        identity=np.concatenate([image.identity, np.full(len(tlbr), -1)]),
        ignore=np.concatenate([image.ignore, scores < sure]),
    )


def teach_appearance(image: LabelledImage, teacher: AppearanceEmbedder) -> LabelledImage:
    """Give every person the teacher's `(512,)` vector."""
    vectors = teacher.embed(image.image, image.tlbr)
    vectors[image.ignore] = 0
    return replace(image, appearance=vectors)
