"""`jde train`: learn boxes, scores and embeddings, jointly or apart. Also `python -m jobs.train`.

Reads a configuration such as `jobs/recipes/train_small.yaml`, checks the data below `--data`, and
trains in this process, or with `--num-trainers` on Ray. It computes nothing itself.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jde_ray.jobs.console.flags import Flag, Given, takes
from jde_ray.jobs.console.runner import main
from jde_ray.models.losses.config import EMBEDDING_LOSSES, WEIGHTINGS
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.training.network_names import KINDS
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.recipe_file import read_recipe
from jde_ray.pipelines.training.settings import TrainerConfig, TrainingConfig

if TYPE_CHECKING:
    from jde_ray.pipelines.config import Device
    from jde_ray.pipelines.training.data.batches import TrainingSet
    from jde_ray.pipelines.training.data.crop_batches import CropStream
    from jde_ray.pipelines.training.data.image_set import TrainingImages
    from jde_ray.pipelines.training.data.track_pieces import PieceStream
    from jde_ray.pipelines.training.run import TrainingRun

    Stream = TrainingSet | CropStream | PieceStream

Config = Annotated[Path, typer.Option(help="YAML like jobs/recipes/train_small.yaml.")]
Data = Annotated[
    Path, typer.Option(help="Folder to which the paths in the configuration are relative.")
]
Out = Annotated[
    str | None,
    typer.Option(help="Folder or s3:// prefix for weights, checkpoint and curves."),
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(
        metavar="NAME",
        help="Leave out the sources of this path, last part of a path, or scene, and all that share"
        " a scene with them; repeatable.",
    ),
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out and count wrong rows and images.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the data and print the plan, without training.")
]

# Flags that replace a value of the configuration; that value is their default.
CHANGES = {
    "network": Flag(
        config=Recipe,
        field="network",
        choices=tuple(name for kind in KINDS for name in kind.configurations),
        text="network to train; overrides the file, whose `kinds` may have settings for its kind",
        default="",
    ),
    "minutes": Flag(
        config=TrainingConfig, field="minutes", text="budget in minutes; overrides the file"
    ),
    "epochs": Flag(
        config=TrainingConfig, field="epochs", text="budget in epochs; overrides the file"
    ),
    "steps": Flag(config=TrainingConfig, field="steps", text="budget in steps; overrides the file"),
    "batch": Flag(
        config=TrainingConfig,
        field="batch",
        text="images, crops or pieces of a step, of all trainers together; overrides the file",
        default="",
    ),
    "seed": Flag(
        config=TrainingConfig,
        field="seed",
        text="seed of initial weights, order of images and augmentation; overrides the file",
        default="",
    ),
    "learning_rate": Flag(
        config=TrainingConfig,
        field="learning_rate",
        text="peak learning rate; overrides the file",
        default="",
    ),
    "loss_weighting": Flag(
        config=Recipe,
        field="weighting",
        text=" | ".join(WEIGHTINGS),
        default="",
        choices=tuple(WEIGHTINGS),
    ),
    "embedding_loss": Flag(
        config=Recipe,
        field="embedding_loss",
        text=" | ".join(EMBEDDING_LOSSES),
        default="",
        choices=tuple(EMBEDDING_LOSSES),
    ),
    "initial": Flag(
        config=Recipe,
        field="initial",
        text="weights to start from; overrides `initial` in the file",
        metavar="<path>",
    ),
}

# Flags that only the command line has.
TRAINERS = {
    "threads": Flag(config=TrainerConfig, field="threads", text="CPU threads per trainer", least=1),
    "workers": Flag(
        config=TrainerConfig, field="workers", text="processes that augment images", least=0
    ),
    "num_trainers": Flag(
        config=TrainerConfig,
        field="num_trainers",
        text="processes that train together (DDP), on Ray",
        least=1,
    ),
    "device": Flag(
        config=TrainerConfig, field="device", text="where the network runs", strict=True
    ),
    "address": Flag(
        config=TrainerConfig, field="address", text="Ray to run on, for --num-trainers"
    ),
    "max_failures": Flag(
        config=TrainerConfig,
        field="max_failures",
        text="How many trainer crashes to recover from.",
        least=0,
    ),
    "resume": Flag(
        config=TrainerConfig,
        field="resume",
        text="continue from OUT/latest.pt",
        metavar="<bool>",
        default="resume",
        switch=True,
    ),
}


@takes(changes=CHANGES, trainers=TRAINERS)
def train(
    config: Config,
    data: Data,
    out: Out = None,
    *,
    changes: Given,
    leave_out: LeaveOut = None,
    trainers: Given,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
) -> None:
    """Train a network; the result is OUT/weights.safetensors."""
    from jde_ray.pipelines.cluster import Interrupted, interruptible
    from jde_ray.pipelines.training.data.batches import share_of_batch
    from jde_ray.pipelines.training.run import TrainingRun

    processes = TrainerConfig(**trainers)
    num_trainers = processes.num_trainers
    try:
        with interruptible():
            recipe = change(read_recipe(config, changes.get("network")), changes).without(
                leave_out or ()
            )
            recipe.check_unseen()
            if out is None and not dry_run:
                raise ValueError("out: expected --out with a folder or s3:// prefix, or --dry-run")
            if recipe.names.learns_from == "pictures":
                share_of_batch(recipe.training.batch, num_trainers, recipe.sampling)
            elif processes.on_ray:
                text = f"got {num_trainers}, but {recipe.network} trains in this process"
                raise ValueError(f"num-trainers: {text}; expected 1, without --address")
            cache = None if dry_run else _labels_folder(out or "")
            images, stream = _read(recipe, data, cache, skip_bad=skip_bad)
            run = TrainingRun(
                recipe=recipe,
                root=data,
                out=out or "",
                **_counts(images, stream),
                steps_per_epoch=stream.steps_per_epoch,
                trainers=processes,
            )
            run.check()
            if dry_run:
                for line in _plan(run, images, stream):
                    _show(line)
                return
            _show(_amount(run, images))
            _start(run, stream)
    except Interrupted as signal:
        again = "the same command" + ("" if processes.resume else " without --no-resume")
        place = f" from {out}" if out else ""
        raise RunError(f"interrupted; run {again} to continue{place}", signal.exit_code) from None
    except FloatingPointError as error:
        raise RunError(str(error), ExitCode.INTERNAL) from error
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    _show(f"wrote {out}/weights.safetensors; {out}/curves.png shows the training")


def _show(line: str) -> None:
    print(line, flush=True)


def change(recipe: Recipe, given: Given) -> Recipe:
    """Replace values of a recipe by those typed on the command line.

    Args:
        recipe: Recipe from the file.
        given: Values by the names of `CHANGES`; `initial` is relative to the working directory, not
            to the data root.

    Raises:
        ValueError: If a value is wrong.
    """
    values = {CHANGES[name].field: value for name, value in given.items()}
    plain, budgets = ["learning_rate", "batch", "seed"], ["minutes", "epochs", "steps"]
    training = {name: values.pop(name) for name in plain if name in values}
    if values.keys() & {*budgets}:  # one budget replaces any other
        training |= {name: values.pop(name, None) for name in budgets}
    if "initial" in values:
        values["initial"] = str(Path(values["initial"]).resolve())
    return replace(recipe, training=replace(recipe.training, **training), **values)


def _amount(run: TrainingRun, images: TrainingImages | None) -> str:
    if images is None:
        return f"{run.num_boxes} boxes of tracks"
    amount = f"{len(images.images)} images, {images.num_people} people"
    if not run.recipe.names.learns_identities:
        return amount
    return f"{amount}, {run.num_identities} identities (people that the embedding tells apart)"


def _read(
    recipe: Recipe, data: Path, cache: Path | None, *, skip_bad: bool
) -> tuple[TrainingImages | None, Stream]:
    """The pictures of a recipe, none for a network of tracks, and the stream of its batches."""
    from jde_ray.pipelines.formats.label_files import LabelErrors
    from jde_ray.pipelines.training.data.crop_batches import build_crop_stream
    from jde_ray.pipelines.training.data.image_set import read_images
    from jde_ray.pipelines.training.data.track_pieces import read_piece_stream

    images, problems = None, LabelErrors()
    if recipe.names.from_tracks:
        stream: Stream = read_piece_stream(recipe, data, problems, skip_bad=skip_bad)
    else:
        images = read_images(recipe, data, cache, skip_bad=skip_bad, show=_show)
        problems = images.problems
    if problems.found:
        _show(f"left out: {problems.summary()}")
    if images is not None:
        if recipe.names.from_crops:
            stream = build_crop_stream(images.images, recipe)
        else:
            stream = images.build_set(recipe, skip_bad=skip_bad)
    return images, stream


def _counts(images: TrainingImages | None, stream: Stream) -> dict[str, int]:
    """Identities and boxes that are learned from."""
    from jde_ray.pipelines.training.data.crop_batches import CropStream
    from jde_ray.pipelines.training.data.track_pieces import PieceStream

    if isinstance(stream, PieceStream):
        return {"num_identities": 0, "num_boxes": stream.num_boxes}
    assert images is not None  # noqa: S101 - read for all other streams
    if isinstance(stream, CropStream):
        return {"num_identities": stream.num_identities, "num_boxes": len(stream.table)}
    return {"num_identities": images.num_identities, "num_boxes": images.num_people}


def _plan(run: TrainingRun, images: TrainingImages | None, stream: Stream) -> list[str]:
    from jde_ray.pipelines.training.data.crop_batches import CropStream
    from jde_ray.pipelines.training.data.track_pieces import PieceStream
    from jde_ray.pipelines.training.dry_run import describe_crops, describe_pieces, describe_plan

    trainers = run.trainers
    if isinstance(stream, PieceStream):
        return describe_pieces(run.recipe, stream)
    assert images is not None  # noqa: S101 - read for all other streams
    if isinstance(stream, CropStream):
        return describe_crops(run.recipe, images, stream, trainers.device)
    return describe_plan(run.recipe, images, trainers.num_trainers, trainers.device)


def _start(run: TrainingRun, images: Stream) -> None:
    from jde_ray.pipelines.training.data.batches import TrainingSet

    if run.trainers.on_ray and isinstance(images, TrainingSet):
        from jde_ray.pipelines.training.ray_train import train_on_ray

        train_on_ray(run, images, show=_show)
    else:
        from jde_ray.pipelines.training.trainer import train_here

        train_here(run, images, device=_device(run.trainers.device), show=_show)


def _labels_folder(out: str) -> Path:
    """Folder for the teachers' labels: in OUT if that is a folder, else in the user's cache."""
    if "://" not in out:
        return Path(out) / "labels"
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(caches or Path("~/.cache").expanduser()) / "jde-ray" / "labels"
    except RuntimeError:  # the user has no home folder
        return Path(tempfile.mkdtemp(prefix="jde-labels-"))


def _device(wanted: Device) -> str:
    from jde_ray.pipelines.detection.devices import check_gpu, torch_device

    check_gpu(wanted)
    return torch_device(wanted)


if __name__ == "__main__":
    main(train, "train")
