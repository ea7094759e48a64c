"""`jde train`: learn boxes, scores and embeddings jointly. Also `python -m jobs.train`.

Reads a configuration such as `jobs/recipes/train_small.yaml`, checks the data below `--data`, and
trains: in this process, or with `--num-trainers` on Ray. Nothing is computed here.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.pipelines.training.recipe import Recipe

Config = Annotated[Path, typer.Option(help="YAML like jobs/recipes/train_small.yaml.")]
Data = Annotated[
    Path, typer.Option(help="Folder to which the paths in the configuration are relative.")
]
Out = Annotated[
    str | None,
    typer.Option(help="Folder or s3:// prefix for weights, checkpoint and curves."),
]
Weighting = Annotated[
    str | None, typer.Option(help="uncertainty | uniform | fixed | loss_norm | mgda.")
]
EmbeddingLoss = Annotated[str | None, typer.Option(help="cross_entropy | triplet | upper_bound.")]
Workers = Annotated[int, typer.Option(min=0, help="Processes that augment images.")]
NumTrainers = Annotated[
    int, typer.Option(min=1, help="Processes that train together (DDP), on Ray.")
]
MaxFailures = Annotated[int, typer.Option(min=0, help="How many trainer crashes to recover from.")]
Initial = Annotated[
    Path | None, typer.Option(help="Weights to start from; overrides `initial` in the file.")
]
LeaveOut = Annotated[
    list[str] | None, typer.Option(help="Path of a source to leave out; repeatable.")
]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", help="Leave out and count wrong rows and images.")
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Check the data and print the plan, without training.")
]


def train(
    config: Config,
    data: Data,
    out: Out = None,
    minutes: Annotated[
        float | None, typer.Option(help="Budget in minutes; overrides the file.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(help="Budget in epochs; overrides the file.")
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Peak learning rate; overrides the file.")
    ] = None,
    loss_weighting: Weighting = None,
    embedding_loss: EmbeddingLoss = None,
    initial: Initial = None,
    leave_out: LeaveOut = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads per trainer.")] = 1,
    workers: Workers = 1,
    num_trainers: NumTrainers = 1,
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="Device that the network runs on.")
    ] = "auto",
    address: Annotated[str, typer.Option(help="Ray to run on: local, auto, HOST:PORT.")] = "local",
    max_failures: MaxFailures = 3,
    resume: Annotated[bool, typer.Option(help="Continue from OUT/latest.pt.")] = True,
    skip_bad: SkipBad = False,
    dry_run: DryRun = False,
) -> None:
    """Train a network; the result is OUT/weights.safetensors."""
    from jde_ray.pipelines.cluster import Interrupted, interruptible
    from jde_ray.pipelines.training.data.batches import share_of_batch
    from jde_ray.pipelines.training.data.image_set import read_images
    from jde_ray.pipelines.training.dry_run import describe_plan
    from jde_ray.pipelines.training.run import TrainingRun, train_here

    try:
        with interruptible():
            recipe = _read(
                config, minutes, epochs, learning_rate, loss_weighting, embedding_loss, initial
            )
            recipe = recipe.without(leave_out or ())
            if out is None and not dry_run:
                raise ValueError("out: expected --out with a folder or s3:// prefix, or --dry-run")
            share_of_batch(recipe.training.batch, num_trainers, recipe.sampling)
            cache = None if dry_run else _labels_folder(out or "")
            images = read_images(recipe, data, cache, skip_bad=skip_bad, show=_show)
            if images.problems.found:
                _show(f"left out: {images.problems.summary()}")
            stream = images.build_set(recipe, skip_bad=skip_bad)
            run = TrainingRun(
                recipe=recipe,
                root=data,
                out=out or "",
                num_identities=images.num_identities,
                steps_per_epoch=stream.steps_per_epoch,
                threads=threads,
                resume=resume,
            )
            run.check()
            if dry_run:
                for line in describe_plan(recipe, images, num_trainers, device):
                    _show(line)
                return
            people = sum(int((~image.ignore).sum()) for image in images.images)
            known = f"{images.num_identities} identities"
            _show(f"{len(images.images)} images, {people} people, {known}")
            if num_trainers > 1 or address != "local":
                from jde_ray.pipelines.training.ray_train import train_on_ray

                train_on_ray(
                    run,
                    stream,
                    num_trainers,
                    workers=max(1, workers),
                    device=device,
                    max_failures=max_failures,
                    address=address,
                    show=_show,
                )
            else:
                train_here(run, stream, workers=workers, device=_device(device), show=_show)
    except Interrupted as signal:
        again = "the same command" + ("" if resume else " without --no-resume")
        place = f" from {out}" if out else ""
        raise RunError(f"interrupted; run {again} to continue{place}", signal.exit_code) from None
    except FloatingPointError as error:
        raise RunError(str(error), ExitCode.INTERNAL) from error
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    _show(f"wrote {out}/weights.safetensors")


def _show(line: str) -> None:
    print(line, flush=True)


def _read(
    config: Path,
    minutes: float | None,
    epochs: int | None,
    learning_rate: float | None,
    loss_weighting: str | None,
    embedding_loss: str | None,
    initial: Path | None,
) -> Recipe:
    """The file's recipe, with what was typed instead."""
    from jde_ray.pipelines.training.recipe import read_recipe

    recipe = read_recipe(config)
    changes: dict[str, Any] = {}
    if minutes is not None or epochs is not None:
        changes["training"] = replace(recipe.training, minutes=minutes, epochs=epochs)
    if learning_rate is not None:
        training = changes.get("training", recipe.training)
        changes["training"] = replace(training, learning_rate=learning_rate)
    if loss_weighting is not None:
        changes["weighting"] = loss_weighting
    if embedding_loss is not None:
        changes["embedding_loss"] = embedding_loss
    if initial is not None:
        changes["initial"] = str(initial.resolve())  # where it was typed, not below --data
    return replace(recipe, **changes)


def _labels_folder(out: str) -> Path:
    """Folder for the teachers' labels: in OUT if that is a folder, else in the user's cache."""
    if "://" not in out:
        return Path(out) / "labels"
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(caches or Path("~/.cache").expanduser()) / "jde-ray" / "labels"
    except RuntimeError:  # a user without a home
        return Path(tempfile.mkdtemp(prefix="jde-labels-"))


def _device(wanted: str) -> str:
    import torch

    has_gpu = torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise ValueError("device: got cuda, but this machine has no GPU; use cpu")
    return "cuda" if has_gpu and wanted != "cpu" else "cpu"


if __name__ == "__main__":
    main(train, "train")
