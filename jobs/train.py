"""`jde train`: learn boxes, scores and embeddings jointly from labelled and unlabelled images.

The first slice of training: one process on the CPU, the small network's losses. It reads a
configuration such as `jobs/train_small.yaml` and the data root that its paths lie under.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jobs._run import main

if TYPE_CHECKING:
    from pipelines.labelled_images import LabelledImage, Source


def train(
    config: Annotated[Path, typer.Option(help="YAML like jobs/train_small.yaml")],
    data: Annotated[Path, typer.Option(help="folder that the configuration's paths lie under")],
    out: Annotated[Path, typer.Option(help="folder for weights, checkpoint and curves")],
    minutes: Annotated[float | None, typer.Option(help="time budget instead of the file's")] = None,
    threads: Annotated[int, typer.Option(help="torch threads")] = 1,
    workers: Annotated[int, typer.Option(help="processes that augment")] = 1,
    resume: Annotated[bool, typer.Option(help="go on from OUT/latest.pt")] = True,
) -> None:
    """Train a network; OUT/weights.safetensors is the result."""
    import cv2
    import numpy as np
    import torch
    import yaml

    from models.jde.config import CONFIGURATIONS
    from models.jde.network import JDE
    from pipelines.augmentation import Augmentation
    from pipelines.labelled_images import Source
    from pipelines.training import TrainingConfig, describe, fit, initialise_backbone
    from pipelines.training_data import TrainingSet, collate

    torch.set_num_threads(threads)
    cv2.setNumThreads(0)  # a forked worker would wait for OpenCV's threads for ever
    settings = yaml.safe_load(config.read_text())
    sources = [Source(**entry) for entry in settings["sources"]]
    out.mkdir(parents=True, exist_ok=True)
    images, num_identities = _prepare(settings, sources, data, out / "labels")
    people = sum(int((~image.ignore).sum()) for image in images)
    network = CONFIGURATIONS[settings["network"]]
    torch.manual_seed(0)
    model = JDE(network)
    if settings.get("initial"):
        initialise_backbone(model, data / settings["initial"])
    print(describe(network, model), flush=True)
    print(f"{len(images)} images, {people} people, {num_identities} identities", flush=True)
    budget = TrainingConfig(**settings["training"])
    if minutes is not None:
        budget = replace(budget, minutes=minutes)
    stream = TrainingSet(
        images,
        [source.weight for source in sources],
        {i for i, source in enumerate(sources) if source.kind == "crops"},
        size=network.size,
        aspects=settings.get("aspects", ()),
        batch=budget.batch,
        augmentation=Augmentation(**settings.get("augmentation", {})),
        collage_share=settings["collage_share"],
        seed=int(np.random.SeedSequence().entropy % 2**31) if resume else budget.seed,  # type: ignore[operator]
    )
    loader = torch.utils.data.DataLoader(
        stream,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        collate_fn=collate,
    )
    notes = {
        "licence": settings.get("licence", "unstated"),
        "sources": ", ".join(s.path or s.kind for s in sources),
    }
    fit(model, num_identities, iter(loader), budget, out, notes=notes, resume=resume)
    print(f"wrote {out / 'weights.safetensors'}", flush=True)


def _prepare(
    settings: dict[str, Any], sources: list[Source], root: Path, cache: Path
) -> tuple[list[LabelledImage], int]:
    """Read all images, add what the teachers say (kept in `cache`), number the identities."""
    from pipelines.labelled_images import read_source, with_unique_identities

    groups = []
    for index, source in enumerate(sources):
        group = read_source(root, source, index, settings["longest_side"])
        described = json.dumps([repr(source), settings["longest_side"]])
        key = hashlib.sha256(described.encode()).hexdigest()[:12]
        groups.append(_taught(settings, source, group, root, cache / f"{key}.npz"))
        print(f"{source.kind} {source.path}: {len(group)} images", flush=True)
    vectors = _projected(groups, settings)
    return with_unique_identities(vectors)


def _taught(
    settings: dict[str, Any], source: Source, group: list[LabelledImage], root: Path, cache: Path
) -> list[LabelledImage]:
    import numpy as np

    from pipelines import labelled_images, pseudo_labels

    if cache.is_file():
        with np.load(cache) as saved:
            splits = np.cumsum(saved["counts"])[:-1]
            names = ("tlbr", "identity", "ignore", "appearance")
            parts = [np.split(saved[name], splits) for name in names]
        return [
            replace(image, **dict(zip(names, values, strict=True)))
            for image, *values in zip(group, *parts, strict=True)
        ]
    if settings.get("detector_teacher") and source.kind in ("boxes", "frames"):
        detector = pseudo_labels.open_detector(root / settings["detector_teacher"])
        sure = 0.42 if source.kind == "frames" else 1.0
        group = [labelled_images.add_pseudo_labels(image, detector, sure) for image in group]
    if settings.get("appearance_teacher"):
        teacher = pseudo_labels.open_appearance(root / settings["appearance_teacher"])
        group = [labelled_images.teach_appearance(image, teacher) for image in group]
    cache.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        cache,
        counts=[len(image.tlbr) for image in group],
        tlbr=np.concatenate([image.tlbr for image in group]),
        identity=np.concatenate([image.identity for image in group]),
        ignore=np.concatenate([image.ignore for image in group]),
        appearance=np.concatenate([image.appearance for image in group]),
    )
    return group


def _projected(
    groups: list[list[LabelledImage]], settings: dict[str, Any]
) -> list[list[LabelledImage]]:
    """Teacher vectors in the network's dimensions: centred, projected, normalised again."""
    import numpy as np

    from models.jde.config import CONFIGURATIONS
    from pipelines.pseudo_labels import principal_directions

    width = CONFIGURATIONS[settings["network"]].embedding_dim
    vectors = np.concatenate([image.appearance for group in groups for image in group])
    known = np.abs(vectors).sum(1) > 0
    if not known.any():
        empty = np.zeros((0, width), np.float32)
        return [
            [replace(i, appearance=np.repeat(empty, len(i.tlbr), 0)) for i in g] for g in groups
        ]
    mean, directions = principal_directions(vectors[known], width)

    def project(rows: Any) -> Any:
        projected = (rows - mean) @ directions
        projected /= np.maximum(np.linalg.norm(projected, axis=1, keepdims=True), 1e-12)
        return (projected * (np.abs(rows).sum(1, keepdims=True) > 0)).astype(np.float32)

    return [[replace(i, appearance=project(i.appearance)) for i in group] for group in groups]


if __name__ == "__main__":
    main(train, "train")
