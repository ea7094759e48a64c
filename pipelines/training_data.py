"""Labelled images for training: sources on disk, teachers' additions, augmentation, batches."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from models.boxes import iou_matrix
from models.jde.assignment import Labels
from models.letterbox import PAD_VALUE
from models.structures import FloatArray, IntArray
from pipelines.pseudo_labels import AppearanceTeacher, PersonDetector

Image = NDArray[np.uint8]
IGNORED_CLASSES = (2, 7, 8, 12)  # MOT16/17: on a vehicle, static, distractor, reflection


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
        kind: `sequence` (MOT layout), `boxes`, `backgrounds`, `crops` or `frames` (unlabelled).
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
            relevant = person | np.isin(mine[:, 7], IGNORED_CLASSES) | (mine[:, 7] == 1)
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


def read_source(root: Path, source: Source, group: int, longest_side: int) -> list[LabelledImage]:
    """All images of one source.

    Raises:
        ValueError: If the kind is unknown or nothing is found, naming the path.
    """
    path = root / source.path
    if source.kind == "sequence":
        images = read_sequence(path, source.every, group, longest_side)
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


def teach_appearance(image: LabelledImage, teacher: AppearanceTeacher) -> LabelledImage:
    """Give every person the teacher's `(512,)` vector."""
    vectors = teacher.embed(image.image, image.tlbr)
    vectors[image.ignore] = 0
    return replace(image, appearance=vectors)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes; sizes are those of a batch, drawn anew for each."""

    mosaic: float = 0.5
    scale: tuple[float, float] = (0.45, 1.6)  # over the scale that covers the canvas
    aspect: float = 0.1
    hue: float = 0.015
    saturation: float = 0.5
    value: float = 0.35
    rotation_degrees: float = 3.0
    min_height_px: float = 9.0
    min_visible: float = 0.35


def _jitter_colour(image: Image, augmentation: Augmentation, rng: np.random.Generator) -> Image:
    gains = 1 + rng.uniform(-1, 1, 3) * (
        augmentation.hue,
        augmentation.saturation,
        augmentation.value,
    )
    ramp = np.arange(256)
    hue = ((ramp * gains[0]) % 180).astype(np.uint8)
    saturation, value = (np.clip(ramp * gain, 0, 255).astype(np.uint8) for gain in gains[1:])
    channels = cv2.split(cv2.cvtColor(image, cv2.COLOR_RGB2HSV))
    tables = (hue, saturation, value)
    merged = cv2.merge([cv2.LUT(c, t) for c, t in zip(channels, tables, strict=True)])
    out = cv2.cvtColor(merged, cv2.COLOR_HSV2RGB)
    if rng.random() < 0.1:
        out = cv2.GaussianBlur(out, (3, 3), 0)
    return np.asarray(out, np.uint8)


def _warp(
    labelled: LabelledImage,
    width: int,
    height: int,
    augmentation: Augmentation,
    rng: np.random.Generator,
) -> tuple[Image, FloatArray]:
    """The image on a canvas under a random scale, aspect, rotation, shift and flip."""
    image = labelled.image
    cover = max(width / image.shape[1], height / image.shape[0])
    scale = cover * np.exp(rng.uniform(*np.log(augmentation.scale)))
    aspect = np.exp(rng.uniform(-augmentation.aspect, augmentation.aspect))
    if labelled.squashed:
        aspect *= rng.uniform(1.0, 1.5)
    scale_x = scale * np.sqrt(aspect) * (-1 if rng.random() < 0.5 else 1)
    scale_y = scale / np.sqrt(aspect)
    angle = np.deg2rad(rng.uniform(-1, 1) * augmentation.rotation_degrees)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = rotation @ np.diag([scale_x, scale_y])
    centre = np.array([image.shape[1], image.shape[0]]) / 2
    room = np.abs([image.shape[1] * scale_x - width, image.shape[0] * scale_y - height])
    target = np.array([width, height]) / 2 + rng.uniform(-0.5, 0.5, 2) * room
    matrix = np.column_stack([linear, target - linear @ centre])
    smooth = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    if scale < 0.5:  # warpAffine aliases when it shrinks a lot: shrink first
        small = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=smooth)
        warped = cv2.warpAffine(
            small,
            matrix @ np.diag([2.0, 2.0, 1.0]),
            (width, height),
            borderValue=(PAD_VALUE,) * 3,
        )
    else:
        warped = cv2.warpAffine(image, matrix, (width, height), borderValue=(PAD_VALUE,) * 3)
    middle = (labelled.tlbr[:, :2] + labelled.tlbr[:, 2:]) / 2
    middle = middle @ linear.T + matrix[:, 2]
    half = (labelled.tlbr[:, 2:] - labelled.tlbr[:, :2]) / 2 * np.abs([scale_x, scale_y])
    tlbr = np.concatenate([middle - half, middle + half], 1)
    return np.asarray(warped, np.uint8), tlbr.astype(np.float32)


@dataclass(frozen=True)
class Example:
    """One augmented image of a batch; fields as in `LabelledImage`."""

    image: Image
    tlbr: FloatArray
    identity: IntArray
    ignore: NDArray[np.bool_]
    appearance: FloatArray
    learns_detection: bool


def _clipped(
    example: Example, left: int, top: int, right: int, bottom: int, augmentation: Augmentation
) -> Example:
    """Boxes cut at the window; small rests are ignored, what is outside goes."""
    before = (example.tlbr[:, 2:] - example.tlbr[:, :2]).prod(1)
    tlbr = example.tlbr.copy()
    tlbr[:, 0::2] = tlbr[:, 0::2].clip(left, right)
    tlbr[:, 1::2] = tlbr[:, 1::2].clip(top, bottom)
    size = tlbr[:, 2:] - tlbr[:, :2]
    inside = (size > 1).all(1)
    share = size.prod(1) / np.maximum(before, 1e-6)
    weak = (share < augmentation.min_visible) | (size[:, 1] < augmentation.min_height_px)
    return replace(
        example,
        tlbr=tlbr[inside],
        identity=example.identity[inside],
        ignore=(example.ignore | weak)[inside],
        appearance=example.appearance[inside],
    )


class TrainingSet(torch.utils.data.IterableDataset[list[Example]]):
    """An endless stream of augmented batches, drawn by source weight.

    Args:
        images: All labelled images; those of `crops` groups teach appearance only.
        weights: One a group.
        crop_groups: Groups whose images are cut-out people.
        size: Width and height of the largest batch; every second batch is 3/4 of it.
        batch: Images in a batch.
        augmentation: Ranges.
        collage_share: Share of the images that are collages of crops.
        seed: Of worker 0.
    """

    def __init__(
        self,
        images: list[LabelledImage],
        weights: list[float],
        crop_groups: set[int],
        *,
        size: tuple[int, int],
        batch: int,
        augmentation: Augmentation,
        collage_share: float,
        seed: int,
    ) -> None:
        self.scenes = [image for image in images if image.group not in crop_groups]
        crops: dict[int, list[LabelledImage]] = {}
        for image in images:
            if image.group in crop_groups:
                crops.setdefault(int(image.identity[0]), []).append(image)
        self.people = list(crops.values())
        sizes = np.bincount([image.group for image in self.scenes], minlength=len(weights))
        shares = np.array([weights[i.group] / sizes[i.group] for i in self.scenes])
        self.cumulative = np.cumsum(shares / shares.sum())
        self.size, self.batch, self.augmentation = size, batch, augmentation
        self.collage_share = collage_share if self.people else 0.0
        self.seed = seed

    def __iter__(self) -> Iterator[list[Example]]:
        worker: Any = torch.utils.data.get_worker_info()
        rng = np.random.default_rng((self.seed, worker.id if worker else 0))
        cv2.setNumThreads(1)
        while True:
            shrink = 1.0 if rng.random() < 0.5 else 0.78
            width, height = (max(32, round(side * shrink / 32) * 32) for side in self.size)
            yield [self.example(width, height, rng) for _ in range(self.batch)]

    def _draw(self, rng: np.random.Generator) -> LabelledImage:
        row = int(np.searchsorted(self.cumulative, rng.random()))
        return self.scenes[min(row, len(self.scenes) - 1)]

    def example(self, width: int, height: int, rng: np.random.Generator) -> Example:
        """One augmented image of `(height, width)`: a scene, a mosaic or a collage."""
        kind = rng.random()
        if kind < self.collage_share:
            return self._collage(width, height, rng)
        if kind < self.collage_share + self.augmentation.mosaic * (1 - self.collage_share):
            return self._mosaic(width, height, rng)
        return self._scene(self._draw(rng), width, height, rng)

    def _scene(
        self, labelled: LabelledImage, width: int, height: int, rng: np.random.Generator
    ) -> Example:
        image, tlbr = _warp(labelled, width, height, self.augmentation, rng)
        example = Example(
            _jitter_colour(image, self.augmentation, rng),
            tlbr,
            labelled.identity,
            labelled.ignore,
            labelled.appearance,
            True,
        )
        return _clipped(example, 0, 0, width, height, self.augmentation)

    def _mosaic(self, width: int, height: int, rng: np.random.Generator) -> Example:
        x = int(rng.uniform(0.3, 0.7) * width)
        y = int(rng.uniform(0.3, 0.7) * height)
        parts = []
        canvas = np.empty((height, width, 3), np.uint8)
        for left, top, right, bottom in (
            (0, 0, x, y),
            (x, 0, width, y),
            (0, y, x, height),
            (x, y, width, height),
        ):
            part = self._scene(self._draw(rng), right - left, bottom - top, rng)
            canvas[top:bottom, left:right] = part.image
            shift = np.array([left, top, left, top], np.float32)
            parts.append(replace(part, tlbr=part.tlbr + shift))
        return Example(
            canvas,
            np.concatenate([p.tlbr for p in parts]),
            np.concatenate([p.identity for p in parts]),
            np.concatenate([p.ignore for p in parts]),
            np.concatenate([p.appearance for p in parts]),
            True,
        )

    def _collage(self, width: int, height: int, rng: np.random.Generator) -> Example:
        """A grid of cut-out people, two pictures of each: appearance only."""
        tall = int(np.exp(rng.uniform(np.log(48), np.log(height / 1.6))))
        wide = max(16, int(tall * rng.uniform(0.4, 0.55)))
        columns, rows = width // wide, height // tall
        places = [(c * wide, r * tall) for r in range(rows) for c in range(columns)]
        rng.shuffle(places)
        canvas = np.full((height, width, 3), PAD_VALUE, np.uint8)
        tlbr, identity, appearance = [], [], []
        for left, top in places[:40]:
            person = self.people[rng.integers(len(self.people))]
            crop = person[rng.integers(len(person))]
            picture = crop.image[:, ::-1] if rng.random() < 0.5 else crop.image
            picture = cv2.resize(picture, (wide, tall), interpolation=cv2.INTER_AREA)
            canvas[top : top + tall, left : left + wide] = _jitter_colour(
                picture, self.augmentation, rng
            )
            tlbr.append((left, top, left + wide, top + tall))
            identity.append(int(crop.identity[0]))
            appearance.append(crop.appearance[0])
        return Example(
            canvas,
            np.array(tlbr, np.float32),
            np.array(identity),
            np.zeros(len(tlbr), bool),
            np.array(appearance, np.float32),
            False,
        )


def collate(examples: list[Example]) -> tuple[torch.Tensor, Labels]:
    """Images `(B, H, W, 3)` uint8 and the labels of a batch."""
    counts = [len(e.tlbr) for e in examples]
    return torch.from_numpy(np.stack([e.image for e in examples])), Labels(
        image=torch.from_numpy(np.repeat(np.arange(len(examples)), counts)),
        tlbr=torch.from_numpy(np.concatenate([e.tlbr for e in examples])).float(),
        identity=torch.from_numpy(np.concatenate([e.identity for e in examples])).long(),
        ignore=torch.from_numpy(np.concatenate([e.ignore for e in examples])),
        appearance=torch.from_numpy(np.concatenate([e.appearance for e in examples])).float(),
        learns_detection=torch.tensor([e.learns_detection for e in examples]),
    )
