"""All images of a recipe: read, taught, and their identities numbered."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.formats.label_files import Problems
from jde_ray.pipelines.training.data import labelled_image
from jde_ray.pipelines.training.data import teachers as pseudo_labels
from jde_ray.pipelines.training.data.batches import TrainingSet
from jde_ray.pipelines.training.data.labelled_image import (
    LabelledImage,
    TrainingImage,
    with_unique_identities,
)
from jde_ray.pipelines.training.data.sources import Source, read_source
from jde_ray.pipelines.training.recipe import Recipe

SURE = 0.42  # score from which a teacher's box in an unlabelled frame is a person
ENOUGH_VECTORS = 4  # of a teacher for each dimension that they are projected on


@dataclass(frozen=True)
class TrainingImages:
    """What a recipe's sources hold.

    Attributes:
        images: Of all sources, in their order.
        num_identities: Classes of the identity loss, see `with_unique_identities`.
        problems: Rows and files that were left out.
    """

    images: list[TrainingImage]
    num_identities: int
    problems: Problems

    def build_set(self, recipe: Recipe, *, skip_bad: bool = False) -> TrainingSet:
        """The stream of batches that a recipe makes of them."""
        return TrainingSet(
            self.images,
            [source.weight for source in recipe.sources],
            recipe.crop_groups,
            size=recipe.config.size,
            aspects=recipe.aspects,
            batch=recipe.training.batch,
            augmentation=recipe.augmentation,
            collage_share=recipe.collage_share,
            sampling=recipe.sampling,
            seed=recipe.training.seed,
            skip_bad=skip_bad,
        )


def read_images(
    recipe: Recipe,
    root: Path,
    cache: Path | None,
    *,
    skip_bad: bool = False,
    show: Callable[[str], None] = lambda line: None,
) -> TrainingImages:
    """Read every source, add what teachers say, number the identities.

    Args:
        recipe: Says which.
        root: Folder that its paths lie under.
        cache: Folder for what teachers said, which takes minutes; None leaves the teachers out.
        skip_bad: Leave out rows and images that are wrong; otherwise they refuse everything.
        show: Takes a line a source.

    Raises:
        BadDataError: If rows are wrong, naming the first ones with file and line.
        ValueError: If a source or a teacher is missing.
    """
    problems = Problems()
    groups: list[list[TrainingImage]] = []
    for index, source in enumerate(recipe.sources):
        images = read_source(root, source, index, recipe.longest_side, problems)
        people = sum(int((~image.ignore).sum()) for image in images)
        show(f"{source.kind} {source.path}: {len(images)} images, {people} boxes")
        groups.append(images)
    if not skip_bad:
        problems.refuse()
    if cache is not None:
        groups = [
            _taught(recipe, source, group, root, cache)
            for source, group in zip(recipe.sources, groups, strict=True)
        ]
    fixed = [source.kind in ("boxes", "crops") for source in recipe.sources]
    projected = _projected(groups, fixed, recipe.config.embedding_dim)
    declared = [source.identities for source in recipe.sources]
    numbered, count = with_unique_identities(projected, declared)
    return TrainingImages(numbered, count, problems)


def _taught(
    recipe: Recipe, source: Source, images: list[TrainingImage], root: Path, cache: Path
) -> list[TrainingImage]:
    """The images with their teachers' boxes and vectors, read from `cache` where they are kept."""
    group = [image for image in images if isinstance(image, LabelledImage)]
    if len(group) < len(images):
        return images  # lists are read as they are drawn: no teacher sees them
    finds = bool(recipe.detector_teacher) and source.kind in ("boxes", "frames")
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
        group = [labelled_image.add_pseudo_labels(image, detector, sure) for image in group]
    if recipe.appearance_teacher:
        teacher = pseudo_labels.open_appearance(root / recipe.appearance_teacher)
        group = [labelled_image.teach_appearance(image, teacher) for image in group]
    _write_cache(path, group)
    return [*group]


_CACHED = ("tlbr", "identity", "ignore", "appearance")


def _fingerprint(group: list[LabelledImage], teachers: list[Path], kind: str) -> str:
    """Hash of all that the teachers' answers depend on: pixels, annotations, the teachers' files.

    By content: a corrected annotation, another picture or another teacher of the same name must not
    be answered from the cache.
    """
    seen = hashlib.sha256(f"1 {kind}".encode())
    for teacher in teachers:
        for file in (teacher, teacher.with_suffix(".bin")):  # of NanoDet: graph and weights
            content = file.read_bytes() if file.is_file() else b""
            seen.update(f"{file.name} {len(content)}".encode() + content)
    for image in group:
        seen.update(f"{image.image.shape} {len(image.tlbr)}".encode())
        for values in (image.image, image.tlbr, image.identity, image.ignore):
            seen.update(np.ascontiguousarray(values).data)
    return seen.hexdigest()[:32]


def _read_cache(path: Path, group: list[LabelledImage]) -> list[LabelledImage] | None:
    """The group as the teachers left it; None if that is not kept, or not whole."""
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
        os.replace(unfinished, path)  # whole or not at all
    except BaseException:
        Path(unfinished).unlink(missing_ok=True)
        raise


def _known_vectors(groups: list[list[TrainingImage]], width: int) -> FloatArray:
    """`(K, 512)` teacher vectors of all boxes that have one."""
    vectors = [image.appearance for group in groups for image in group if image.appearance.size]
    rows = np.concatenate(vectors) if vectors else np.zeros((0, width), np.float32)
    known: FloatArray = rows[np.abs(rows).sum(1) > 0]
    return known


def _projected(
    groups: list[list[TrainingImage]], fixed: list[bool], width: int
) -> list[list[TrainingImage]]:
    """Teacher vectors in the network's dimensions: centred, projected, normalised again.

    The directions follow from the `fixed` groups alone (people in many places), where they hold
    enough: so a training that goes on from another one's weights with other sequences, or
    without one of them, keeps the meaning of every dimension.
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
        if image.appearance.shape[1] != len(mean):  # nobody in it, or no teacher saw it
            return np.zeros((len(image.tlbr), width), np.float32)
        projected = (image.appearance - mean) @ directions
        projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
        is_known = np.abs(image.appearance).sum(1, keepdims=True) > 0
        vectors: FloatArray = (projected * is_known).astype(np.float32)
        return vectors

    return [[replace(i, appearance=project(i)) for i in group] for group in groups]
