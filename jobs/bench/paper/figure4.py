"""`jde bench figure4`: the paper's Figure 4. Accuracy against time, by crowd size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jde_ray.jobs.bench.clocks import Clock, check_clock
from jde_ray.jobs.bench.machine import console, processor
from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.run_flags import choose
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.jobs.bench.paper.combinations import Combination
    from jde_ray.jobs.bench.paper.named import Shared

_FORMER = typer.Option(hidden=True)


@takes(flags=choose("precision", "threads"))
def figure4(
    detector: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=WEIGHTS",
            help="A detector: a joint network (a shipped name or a weight file), or a YAML file "
            r"that declares a separate one; repeatable. \[default: small=small]",
        ),
    ] = None,
    embedder: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="A separate embedder, as for --reid: .onnx, .safetensors or YAML; repeatable.",
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TREE",
            help=r"MOTChallenge sequences with ground truth, repeatable. "
            r"\[default: two rendered streets]",
        ),
    ] = None,
    association: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="A setting of the one association of all combinations, such as mode=published or "
            "association=deepsort; repeatable.",
        ),
    ] = None,
    conf: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]SCORE",
            help="Confidence threshold of a detector, or of all others; repeatable.",
        ),
    ] = None,
    tuned: Annotated[
        bool,
        typer.Option(
            "--tuned",
            help="Choose the limit of a match by appearance per embedder, on these sequences.",
        ),
    ] = False,
    *,
    flags: Given,
    crowd: Annotated[
        float, typer.Option(min=0, help="People per frame at which a sequence counts as crowded.")
    ] = 10.0,
    max_frames: Annotated[
        int | None,
        typer.Option(min=6, help=r"Frames per sequence. \[default: all; 60 of a rendered street]"),
    ] = None,
    clock: Clock = "wall",
    out: Annotated[
        Path, typer.Option(help="Folder for figure4.html, figure4.png and figure4.json.")
    ] = Path("runs/figure4"),
    config: Annotated[str | None, _FORMER] = None,
    weights: Annotated[str | None, _FORMER] = None,
) -> None:
    """Accuracy against time per frame, with joint and with separate embeddings (Figure 4).

    Every detector runs with every embedder, and every joint network with its own embeddings. A
    detector's boxes of a frame are computed and timed once, and all embedders see the same crops.
    """
    for flag, value in (("config", config), ("weights", weights)):
        if value is not None:
            text = "expected --detector NAME=WEIGHTS and --embedder NAME=FILE"
            raise RunError(f"{flag}: got {value}, {text}", ExitCode.REFUSED)
    from jde_ray.jobs.bench.paper.comparison import measure
    from jde_ray.jobs.bench.paper.figure4_page import caption, draw_page, draw_picture
    from jde_ray.jobs.bench.paper.figure4_report import (
        build_table,
        choose_limits,
        group,
        limited,
        per_box,
        row_of,
    )
    from jde_ray.jobs.bench.paper.footage import find_footage
    from jde_ray.jobs.bench.paper.named import (
        Shared,
        parse_association,
        parse_conf,
        parse_named,
    )

    try:
        threads = flags.get("threads", ResourceConfig().torch_threads)
        check_clock(clock, threads)
        detectors = parse_named("detector", detector or ["small=small"])
        shared = Shared(
            parse_association(association or []),
            flags.get("precision", "auto"),
            threads,
            parse_conf(conf or [], list(detectors)),
        )
        embedders = parse_named("embedder", embedder or [])
        combinations = build_combinations(detectors, embedders, shared, tuned=tuned)
        footage = find_footage(data, out, max_frames)
        measured = [row for one in footage for row in measure(one, combinations, max_frames, clock)]
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    chosen = choose_limits(measured) if tuned else {}
    if tuned:
        measured = [one for one in measured if one.appearance_limit == chosen[limited(one)]]
    report = {
        "machine": processor(),
        "threads": threads,
        "clock": clock,
        "crowd": crowd,
        "precision": precision_of(combinations),
        "association": parse_named("association", association or []),
        "conf": shared.conf,
        "tuned": chosen,
        "rows": [row_of(one) for one in measured],
        "groups": group(measured, crowd),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "figure4.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / "figure4.html").write_text(draw_page(report), encoding="utf-8")
    (out / "figure4.png").write_bytes(draw_picture(report))
    console(150).print(build_table(report, caption(report)))
    for line in per_box(report):
        typer.echo(line)
    if not embedders:
        typer.echo("no --embedder: only the detectors' own embeddings were measured; "
                   "docs/separate-networks.md shows how to name others")  # fmt: skip
    typer.echo(f"drawn in {out / 'figure4.html'} and {out / 'figure4.png'}")


def build_combinations(
    detectors: dict[str, str], embedders: dict[str, str], shared: Shared, *, tuned: bool = False
) -> list[Combination]:
    """Load all networks and combine them.

    Args:
        detectors: Names and weights.
        embedders: Names and files.
        shared: What all of them have in common.
        tuned: Whether to try several limits of a match by appearance.

    Raises:
        ValueError: If a file cannot be used, or a detector lacks embeddings that `tuned` needs.
        RunError: If weights do not exist.
    """
    from jde_ray.jobs.bench.paper.named import (
        build_detectors,
        build_embedders,
        combine,
        with_limits,
    )

    opened = build_embedders(embedders, shared.threads)
    combinations = combine(build_detectors(detectors, shared), opened)
    return with_limits(combinations) if tuned else combinations


def precision_of(combinations: list[Combination]) -> str:
    """Precisions of the joint networks, `fp32` if there are none."""
    found = {
        one.finder.config.detection.precision for one in combinations if one.finder.is_joint
    } or {"fp32"}
    return ", ".join(sorted(found))
