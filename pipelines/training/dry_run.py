"""The plan of a training and the memory it needs, without training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from jde_ray.models.reid.config import TASKS, own_weights
from jde_ray.pipelines.config import Device
from jde_ray.pipelines.detection.precision import precision_on, warn_of_emulation
from jde_ray.pipelines.training.data.crop_batches import CropStream
from jde_ray.pipelines.training.data.image_set import TrainingImages
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.data.track_pieces import PieceStream
from jde_ray.pipelines.training.kinds.registry import build_network, describe, kind_of
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.settings import TrainingConfig


@dataclass(frozen=True)
class MemoryEstimate:
    """Memory of one trainer in bytes, measured with tensors on the meta device.

    Attributes:
        images: Images kept in memory.
        weights: Parameters, gradients, optimiser state and moving average.
        activations: Tensors that the forward pass keeps for the backward pass of one batch.
    """

    images: int
    weights: int
    activations: int


def estimate_memory(
    recipe: Recipe, images: TrainingImages, num_trainers: int, precision: str
) -> MemoryEstimate:
    """Estimate the memory of a trainer; weights include the classifier of the identities."""
    with torch.device("meta"):
        model = build_network(recipe).train()
    model = model.to("meta")  # moves a backbone's constants, which are created on the CPU
    parameters = sum(p.numel() for p in model.parameters())
    if recipe.names.learns_identities and recipe.embedding_loss == "cross_entropy":
        parameters += model.config.embedding_dim * max(1, images.num_identities)
    copies = 3 + (2 if recipe.training.optimiser == "adamw" else 1)
    saved: dict[int, Any] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        saved[tensor.untyped_storage()._cdata] = tensor  # count each storage once
        return tensor

    batch = max(1, recipe.training.batch // num_trainers)
    width, height = recipe.input_size
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        kind_of(model).run_maps(model, torch.zeros(1, 3, height, width, device="meta"))
    kept = sum(t.untyped_storage().nbytes() for t in saved.values())
    of_weights = sum(p.numel() * p.element_size() for p in model.parameters())
    activations = max(0, kept - of_weights)
    half = 2 if precision == "bf16" else 1
    in_memory = sum(i.image.nbytes for i in images.images if isinstance(i, LabelledImage))
    return MemoryEstimate(in_memory, 4 * copies * parameters, batch * activations // half)


def describe_plan(
    recipe: Recipe, images: TrainingImages, num_trainers: int, device: Device = "cpu"
) -> list[str]:
    """Lines that describe images, boxes, identities, steps and memory."""
    training, found = recipe.training, images.images
    ignored = sum(int(image.ignore.sum()) for image in found)
    known = sum(int((image.identity >= 0).sum()) for image in found)
    stream = images.build_set(recipe)
    precision = precision_on(device, training.precision)
    warn_of_emulation(precision, device)
    memory = estimate_memory(recipe, images, num_trainers, precision)
    lines = [
        describe(build_network(recipe)),
        f"images      {len(found)} from {len(recipe.sources)} sources, "
        f"{len(stream.scenes)} of them whole scenes",
        f"boxes       {images.num_people} people ({known} with an identity), {ignored} ignored",
        f"identities  {_identities(recipe, images)}",
    ]
    cut_out = len(found) - len(stream.scenes)
    if cut_out and not recipe.collage_share:
        lines.append(f"crops       {cut_out}, from which {recipe.network} learns nothing")
    if images.problems.found:
        lines.append(f"left out    {images.problems.summary()}")
    per_epoch = stream.steps_per_epoch
    lines += [
        f"steps       {_steps(training, per_epoch)}; an epoch has {per_epoch}, a step "
        f"{training.batch} images "
        f"on {num_trainers} trainer{'s' if num_trainers > 1 else ''}",
        f"rate        up to {training.learning_rate:g}, {training.optimiser}, {training.schedule}, "
        f"{precision}",
        f"losses      {_losses(recipe)}",
        f"memory      {_mib(memory.weights)} weights, gradients and optimiser; about "
        f"{_mib(memory.activations)} activations; {_mib(memory.images)} images",
    ]
    if recipe.detector_teacher or recipe.appearance_teacher:
        lines.append("teachers    not asked yet: their boxes in unlabelled frames will be added")
    return lines


def _identities(recipe: Recipe, images: TrainingImages) -> str:
    if recipe.names.learns_identities:
        return str(images.num_identities)
    return f"{images.num_identities}, which {recipe.network} does not tell apart"


def _losses(recipe: Recipe) -> str:
    if recipe.names.learns_identities:
        return f"embedding {recipe.embedding_loss}, weighting {recipe.weighting}"
    return "proposals, scores and boxes alike"


def describe_crops(
    recipe: Recipe, images: TrainingImages, stream: CropStream, device: Device = "cpu"
) -> list[str]:
    """Lines that describe crops, identities, steps and memory of a re-identification network."""
    training, table, config = recipe.training, stream.table, recipe.crops
    precision = precision_on(device, training.precision)
    warn_of_emulation(precision, device)
    losses = config.losses or own_weights(recipe.reid_config)
    factors = ", ".join(f"{n} {getattr(losses, n):g}" for n in TASKS if getattr(losses, n))
    num_unknown = len(stream.unknown)
    by_source = sum(len(people) for people in stream.groups)
    lines = [
        describe(build_network(recipe)),
        f"crops       {len(table)} of {len(images.images)} images from {len(recipe.sources)} "
        f"sources, {num_unknown} of them of unknown people",
        f"identities  {by_source} in {len(stream.groups)} sources",
    ]
    if images.problems.found:
        lines.append(f"left out    {images.problems.summary()}")
    per_epoch = stream.steps_per_epoch
    lines += [
        f"steps       {_steps(training, per_epoch)}; an epoch has {per_epoch}, "
        f"a step {stream.num_people} people x "
        f"{config.sightings} crops and {stream.num_unknown} unknown ones",
        f"rate        up to {training.learning_rate:g}, {training.optimiser}, {training.schedule}, "
        f"{precision}",
        f"losses      {factors}",
        f"memory      {_mib(table.pixels.nbytes)} crops",
    ]
    if recipe.appearance_teacher:
        lines.append("teachers    not asked yet; unknown people will be counted then")
    return lines


def describe_pieces(recipe: Recipe, stream: PieceStream) -> list[str]:
    """Lines that describe tracks and steps of a motion network."""
    training, (least, _) = recipe.training, recipe.pieces.length
    detected = sum(int(path.detected.sum()) for path in stream.paths)
    model = build_network(recipe)
    stream.prepare(model)
    lines = [
        describe(model),
        f"tracks      {len(stream.paths)} from {len(recipe.sources)} sources, {stream.num_boxes} "
        f"boxes ({detected} of detections)",
        f"steps       {_steps(training, stream.steps_per_epoch)}; an epoch has "
        f"{stream.steps_per_epoch}, a step {training.batch} pieces of {least} to "
        f"{stream.longest} frames",
        f"rate        up to {training.learning_rate:g}, {training.optimiser}, {training.schedule}",
    ]
    if (projection := stream.projection) is not None:
        number = sum(int(path.is_seen.sum()) for path in stream.paths)
        lines.append(
            f"embeddings  {number} of {projection.embedder}, {projection.width} numbers as "
            f"{projection.num_components}"
        )
    return lines


def _steps(training: TrainingConfig, per_epoch: int) -> str:
    if training.minutes is not None:
        return f"as many as fit into {training.minutes:g} minutes"
    if training.epochs is not None:
        return f"{training.epochs * per_epoch} in {training.epochs} epochs"
    return str(training.steps)


def _mib(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
