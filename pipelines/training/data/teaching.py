"""Adds the labels of teachers: boxes of unlabelled people, and appearance vectors."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.sde.colours import SETTINGS
from jde_ray.models.sde.network import AppearanceEmbedder
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.training.data import teachers as pseudo_labels
from jde_ray.pipelines.training.data.labelled_image import LabelledImage, TrainingImage
from jde_ray.pipelines.training.data.teachers import DetectorTeacher, is_colours
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.source import Source

SURE = 0.42  # lowest score at which a teacher's box in an unlabelled frame counts as a person
ENOUGH_VECTORS = 4  # teacher vectors needed per dimension of the projection
_CACHED = ("tlbr", "identity", "ignore", "appearance")


def add_pseudo_labels(
    image: LabelledImage, detector: DetectorTeacher, sure: float
) -> LabelledImage:
    """Add a detector's boxes that are not labelled: people, or ignored regions if it is unsure.

    Args:
        image: Image with manual labels or without labels.
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


def add_teacher_labels(
    recipe: Recipe, source: Source, images: list[TrainingImage], root: Path, cache: Path
) -> list[TrainingImage]:
    """The images with their teachers' boxes and vectors, read from `cache` if it holds them."""
    group = [image for image in images if isinstance(image, LabelledImage)]
    if len(group) < len(images):
        return images  # images of lists are read when they are drawn, so no teacher sees them
    finds = bool(recipe.detector_teacher) and (
        source.kind in ("boxes", "frames") or source.partly_labelled
    )
    if not finds and not recipe.appearance_teacher:
        return images
    teachers = [root / t for t in (recipe.detector_teacher if finds else None,) if t]
    teachers += [root / t for t in (recipe.appearance_teacher,) if t]
    path = cache / f"{_fingerprint(group, teachers, source.kind)}.npz"
    kept = _read_cache(path, group)
    if kept is not None:
        return [*kept]
    if finds:
        assert recipe.detector_teacher is not None  # noqa: S101 - part of `finds`
        detector = pseudo_labels.open_detector(root / recipe.detector_teacher)
        sure = SURE if source.kind == "frames" else 1.0
        group = [add_pseudo_labels(image, detector, sure) for image in group]
    if recipe.appearance_teacher:
        teacher = pseudo_labels.open_appearance(root / recipe.appearance_teacher)
        group = [teach_appearance(image, teacher) for image in group]
    _write_cache(path, group)
    return [*group]


def _fingerprint(group: list[LabelledImage], teachers: list[Path], kind: str) -> str:
    """Hash of everything that the teachers' labels depend on: pixels, annotations, teachers' files.

    It covers their content, so that the cache is not used for a corrected annotation, or for
    another picture or teacher with the same name.
    """
    seen = hashlib.sha256(f"1 {kind}".encode())
    for teacher in teachers:
        for file in (teacher, teacher.with_suffix(".bin")):  # NanoDet has a graph and weights
            content = file.read_bytes() if file.is_file() else b""
            if is_colours(file):
                content = repr(SETTINGS).encode()
            seen.update(f"{file.name} {len(content)}".encode() + content)
    for image in group:
        seen.update(f"{image.image.shape} {len(image.tlbr)}".encode())
        for values in (image.image, image.tlbr, image.identity, image.ignore):
            seen.update(np.ascontiguousarray(values).data)
    return seen.hexdigest()[:32]


def _read_cache(path: Path, group: list[LabelledImage]) -> list[LabelledImage] | None:
    """The group with the teachers' labels; None if the cache does not hold all of them."""
    try:
        with np.load(path) as saved:
            splits = np.cumsum(saved["counts"])[:-1]
            parts: list[Any] = [np.split(saved[name], splits) for name in _CACHED]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile):
        return None
    return [
        replace(image, **dict(zip(_CACHED, values, strict=True)))
        for image, *values in zip(group, *parts, strict=True)
    ]


def _write_cache(path: Path, group: list[LabelledImage]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {
        name: np.concatenate([getattr(i, name) for i in group]) for name in _CACHED
    }
    descriptor, unfinished = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as file:
            np.savez(file, counts=[len(image.tlbr) for image in group], **arrays)
        os.replace(unfinished, path)  # atomic
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _known_vectors(groups: list[list[TrainingImage]], width: int) -> FloatArray:
    """`(K, 512)` teacher vectors of all boxes that have one."""
    vectors = [image.appearance for group in groups for image in group if image.appearance.size]
    rows = np.concatenate(vectors) if vectors else np.zeros((0, width), np.float32)
    known: FloatArray = rows[np.abs(rows).sum(1) > 0]
    return known


def project_appearance(
    groups: list[list[TrainingImage]], fixed: list[bool], width: int
) -> list[list[TrainingImage]]:
    """Teacher vectors in the network's dimensions: centred, projected, normalised again.

    The directions are computed only from the `fixed` groups (people in many places), if these hold
    enough vectors. A training that starts from another one's weights, with other sequences or
    without one of them, therefore keeps the meaning of every dimension.
    """
    alone = [group for group, is_fixed in zip(groups, fixed, strict=True) if is_fixed]
    rows = _known_vectors(alone, width)
    if len(rows) < ENOUGH_VECTORS * width:
        rows = _known_vectors(groups, width)
    if not len(rows):
        return [
            [replace(i, appearance=np.zeros((len(i.tlbr), width), np.float32)) for i in group]
            for group in groups
        ]
    mean, directions = pseudo_labels.principal_directions(rows, width)

    def project(image: TrainingImage) -> FloatArray:
        if image.appearance.shape[1] != len(mean):  # without people, or not seen by a teacher
            return np.zeros((len(image.tlbr), width), np.float32)
        projected = (image.appearance - mean) @ directions
        projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
        is_known = np.abs(image.appearance).sum(1, keepdims=True) > 0
        vectors: FloatArray = (projected * is_known).astype(np.float32)
        return vectors

    return [[replace(i, appearance=project(i)) for i in group] for group in groups]
