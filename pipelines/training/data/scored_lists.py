"""Labelled pictures as something that a network is scored on: lists, `boxes`, COCO and CVAT."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.detection.known_boxes import LabelledFrames
from jde_ray.pipelines.evaluation.network_scores import ScoredFrames
from jde_ray.pipelines.formats.label_files import LabelErrors
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.training.data.labelled_image import ListedImage
from jde_ray.pipelines.training.data.sources import read_source
from jde_ray.pipelines.training.source import Source

_LONGEST_SIDE = 1 << 20  # pictures are scored in the size that they have


def read_scored(root: Path, source: Source) -> ScoredFrames:
    """All pictures of a source with their labels, those without people too.

    Identities are the source's own, so people of two sources are never the same. Ignored regions
    are distractors: what is found there is neither right nor wrong.

    Args:
        root: Folder to which the paths of the source and of its list are relative.
        source: A `list`, `boxes`, `coco`, or `cvat` with its frames as pictures.

    Raises:
        ValueError: If it holds no picture, or frames of a video file.
        BadDataError: If labels are wrong, naming the first ones with file and line.
    """
    name = source.path
    if source.kind == "cvat" and not ((root / name).parent / "images").is_dir():
        wanted = "expected images/ beside it, or its video scored with --gt"
        raise ValueError(f"labels: {name} annotates a video file; {wanted}")
    problems = LabelErrors()
    try:
        images = read_source(root, source, 0, _LONGEST_SIDE, problems, in_memory=False)
    except ValueError:
        problems.refuse("labels", advice="")
        raise
    problems.refuse("labels", advice="")
    listed = [image for image in images if isinstance(image, ListedImage)]
    counts = [len(image.tlbr) for image in listed]
    rows = BoxRows(
        np.repeat(np.arange(len(listed)), counts),
        np.concatenate([np.zeros(0, np.int64), *(image.identity for image in listed)]),
        np.concatenate([np.zeros((0, 4)), *(image.tlbr for image in listed)]),
    )
    ignored = np.concatenate([np.zeros(0, bool), *(image.ignore for image in listed)])
    people = rows[np.flatnonzero(~ignored)]
    truth = GroundTruth(people, np.ones(len(people)), rows[ignored], BoxRows.empty())
    pictures = tuple(str(image.path) for image in listed)
    return ScoredFrames(LabelledFrames(source.name, people, pictures=pictures), truth)
