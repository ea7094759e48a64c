"""`jde bench embedders`: re-identification networks side by side, at the boxes of ground truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from jde_ray.jobs.bench.machine import AsJson
from jde_ray.pipelines.errors import ExitCode, RunError


def embedders(
    networks: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME|FILE",
            show_default=False,
            help="Embedders, as --reid of jde track takes them.",
        ),
    ],
    data: Annotated[
        list[Path],
        typer.Option(help="MOTChallenge sequence (img1/, gt/gt.txt); repeatable."),
    ],
    every: Annotated[int, typer.Option(min=1, help="Take every n-th frame.")] = 1,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    as_json: AsJson = False,
) -> None:
    """TPR by the frames between two sightings: who knows people again after a gap."""
    from jde_ray.jobs.console.score_tables import print_table
    from jde_ray.pipelines.detection.weights import load_reid, reid_name
    from jde_ray.pipelines.evaluation.embedder_gaps import compare_embedders, embed_truth

    try:
        names = [reid_name(network) for network in networks]
        _check_names(names, "network")
        _check_names([folder.name for folder in data], "data")
        opened = {
            name: load_reid(network, threads) for name, network in zip(names, networks, strict=True)
        }
        known = {folder.name: embed_truth(folder, opened, every) for folder in data}
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    table = compare_embedders(known)
    if as_json:
        typer.echo(json.dumps(table.plain(), indent=2))
        return
    print_table(table)


def _check_names(names: list[str], what: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{what}: got {name} twice, expected different names")
