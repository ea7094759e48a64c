"""`jde bench figure4`: the paper's Figure 4. Accuracy against time, by crowd size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from jde_ray.jobs.bench.machine import console, processor
from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.run_flags import FLAGS, choose
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.jobs.bench.paper.combinations import Combination, Embedder, Footage
    from jde_ray.jobs.bench.paper.comparison import Measured
    from jde_ray.jobs.console.options import Settings

FEW, MANY = "few people", "many people"
_STREETS = {"few": (6, 11), "many": (40, 12)}  # people at a time, and the seed
_VISIBLE = 0.25  # rendered people less visible than this count neither as hits nor as misses


_JOINT = replace(
    FLAGS["weights"], text="Joint network: name of a shipped model, or path.", metavar=None
)


@takes(flags={"weights": _JOINT, **choose("precision", "threads")})
def figure4(
    data: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="TREE",
            help=r"MOTChallenge sequences with ground truth, repeatable. "
            r"\[default: two rendered streets]",
        ),
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Settings for jde track whose weights are a separate detector and embedder; "
            "repeatable.",
        ),
    ] = None,
    *,
    flags: Given,
    crowd: Annotated[
        float, typer.Option(min=0, help="People per frame at which a sequence counts as crowded.")
    ] = 10.0,
    max_frames: Annotated[
        int | None,
        typer.Option(min=6, help=r"Frames per sequence. \[default: all; 60 of a rendered street]"),
    ] = None,
    clock: Annotated[
        Literal["wall", "cpu"],
        typer.Option(help="cpu counts processor time, for a busy machine; needs one thread."),
    ] = "wall",
    out: Annotated[Path, typer.Option(help="Folder for figure4.html and figure4.json.")] = Path(
        "runs/figure4"
    ),
) -> None:
    """Accuracy against time per frame, with joint and with separate embeddings (Figure 4)."""
    from jde_ray.jobs.bench.paper.comparison import check_clock, measure

    try:
        threads = flags.get("threads", ResourceConfig().torch_threads)
        check_clock(clock, threads)
        combinations = build_combinations(flags, config or [])
        footage = find_footage(data, out, max_frames)
        measured = [row for one in footage for row in measure(one, combinations, max_frames, clock)]
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    report = {
        "machine": processor(),
        "threads": threads,
        "clock": clock,
        "crowd": crowd,
        "precision": combinations[0].config.detection.precision,
        "rows": [row_of(one) for one in measured],
        "groups": group(measured, crowd),
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "figure4.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    (out / "figure4.html").write_text(draw(report), encoding="utf-8")
    console(140).print(build_table(report))
    for line in per_person(report):
        typer.echo(line)
    if not config:
        typer.echo("no --config: only the joint network was measured; docs/separate-networks.md "
                   "shows how to declare separate ones")  # fmt: skip
    typer.echo(f"drawn in {out / 'figure4.html'}")


def build_combinations(given: Given, files: Sequence[Path]) -> list[Combination]:
    """Combine the joint and every declared detector with each embedding and with none.

    Args:
        given: What was typed for the joint network; all others run on as many threads.
        files: Settings for `jde track`, whose weights are a separate detector and embedder.
    """
    from jde_ray.jobs.bench.paper.combinations import (
        Combination,
        build_embedder,
        build_finder,
        with_embedder,
    )
    from jde_ray.jobs.console.options import collect

    settings = resolve_settings(collect(given, None))
    weights, threads = settings.track.detection.weights, settings.resources.torch_threads
    joint = build_finder(Path(weights).stem, settings)
    finders = [joint]
    embedders: dict[str, Embedder] = {}
    combinations = [Combination(joint, None, blind, joint.config) for blind in (False, True)]
    for file in files:
        values = collect({"threads": threads}, file)
        settings = resolve_settings(values)
        finder = build_finder(Path(settings.track.detection.weights).stem, settings)
        if finder.name in [one.name for one in finders]:
            raise ValueError(f"config: two are named {finder.name}, expected different names")
        finders.append(finder)
        embedder = build_embedder(settings)
        if embedder is not None:
            known = embedders.setdefault(embedder.name, embedder)
            if not known.gives_the_same(embedder):
                raise ValueError(
                    f"config: two embedders are named {embedder.name} but differ in file or"
                    f" settings ({known.declared.file}, {embedder.declared.file}), expected"
                    " different names"
                )
            if known is embedder:  # otherwise it is combined with the joint network already
                combinations.append(with_embedder(joint, embedder))
            combinations.append(with_embedder(finder, embedder))
        elif settings.track.detection.weights != weights:
            combinations.append(Combination(finder, None, False, finder.config))
        combinations.append(Combination(finder, None, True, finder.config))
    return combinations


def resolve_settings(values: Any) -> Settings:
    """Check the weights and resolve the precision."""
    from jde_ray.jobs.console.settings import check_weights
    from jde_ray.pipelines.detection.settings import resolve_precision

    settings = check_weights(values)
    detection = resolve_precision(settings.track.detection, settings.resources.device)
    return replace(settings, track=replace(settings.track, detection=detection))


def find_footage(data: list[Path] | None, out: Path, max_frames: int | None) -> list[Footage]:
    """Find sequences with ground truth; without data, render streets below `out`."""
    from jde_ray.jobs.bench.paper.combinations import find_sequences
    from jde_ray.pipelines.evaluation.ground_truth import TruthRules

    if data:
        footage = [one for one in find_sequences(data) if one.truth is not None]
        if not footage:
            raise ValueError(f"data: no sequence with ground truth in {data[0]}")
        return footage
    render_streets(out / "streets", max_frames or 60)
    return find_sequences([out / "streets"], TruthRules(min_visibility=_VISIBLE))


def render_streets(folder: Path, num_frames: int) -> None:
    """Render two streets with different crowds, unless they exist in this length."""
    from jde_ray.models.synthetic.scene import StreetScene
    from jde_ray.pipelines.formats.mot import read_sequence_info
    from jde_ray.pipelines.video.synthetic import render_street

    for name, (people, seed) in _STREETS.items():
        about = folder / name / "seqinfo.ini"
        if about.exists() and read_sequence_info(about).num_frames == num_frames:
            continue
        about.unlink(missing_ok=True)
        scene = StreetScene(seed, num_people=people, num_frames=num_frames)
        render_street(scene, folder / "videos" / f"{name}.mp4", folder / name)


def row_of(one: Measured) -> dict[str, Any]:
    """One combination on one sequence as JSON; times are in milliseconds per frame."""
    ms = {stage: 1000 * seconds / one.frames for stage, seconds in one.seconds.items()}
    return {
        "sequence": one.sequence,
        "detector": one.detector,
        "embedding": one.embedding,
        "frames": one.frames,
        "people": one.people,
        "boxes": one.boxes / one.frames,
        "ms": ms,
        "total_ms": ms["detect"] + ms["embed"] + ms["associate"],
        "scores": {} if one.scores is None else one.scores.figures(),
    }


def group(measured: Sequence[Measured], crowd: float) -> list[dict[str, Any]]:
    """Rows as from `row_of`, over all sequences with few people and over all with many."""
    from jde_ray.models.metrics.tracking import SequenceScores

    grouped: dict[tuple[str, str, str], Measured] = {}
    frames: dict[tuple[str, str, str], float] = {}
    for one in measured:
        name = MANY if one.people >= crowd else FEW
        key = (name, one.detector, one.embedding)
        weight = one.people * one.frames
        before = grouped.get(key)
        if before is None:
            grouped[key], frames[key] = replace(one, sequence=name), weight
            continue
        frames[key] += weight
        grouped[key] = replace(
            before,
            frames=before.frames + one.frames,
            boxes=before.boxes + one.boxes,
            seconds={stage: before.seconds[stage] + s for stage, s in one.seconds.items()},
            scores=(before.scores or SequenceScores()) + (one.scores or SequenceScores()),
        )
    rows = [replace(one, people=frames[key] / one.frames) for key, one in grouped.items()]
    return [row_of(one) for one in sorted(rows, key=lambda one: one.sequence)]


def per_person(report: dict[str, Any]) -> list[str]:
    """One line per separate embedder: its cost per box."""
    costs: dict[str, list[float]] = {}
    for row in report["rows"]:
        if row["ms"]["embed"]:
            total = costs.setdefault(row["embedding"], [0.0, 0.0])
            total[0] += row["ms"]["embed"] * row["frames"]
            total[1] += row["boxes"] * row["frames"]
    return [
        f"{name}: {milliseconds / max(boxes, 1):.2f} ms per box; the joint embedding costs nothing"
        for name, (milliseconds, boxes) in costs.items()
    ]


def build_table(report: dict[str, Any]) -> Table:
    """Format the groups as a table, one row per combination."""
    table = Table(
        title=f"Joint and separate embeddings, {report['machine']}, {report['threads']} threads, "
        f"joint network in {report['precision']}",
        caption=f"ms per frame ({report['clock']} time), one frame at a time, all combinations in "
        "turn on each frame; without decoding and warm-up.",
    )
    table.add_column("people", no_wrap=True)
    for name in ("detector", "embedding"):
        table.add_column(name, no_wrap=True)
    for name in ("a frame", "boxes", "MOTA", "IDF1", "HOTA",
                 "detect", "embed", "assoc.", "ms"):  # fmt: skip
        table.add_column(name, justify="right", no_wrap=True)
    shown = ""
    for row in report["groups"]:
        if shown and row["sequence"] != shown:
            table.add_section()
        scores, ms = row["scores"], row["ms"]
        table.add_row(
            "" if row["sequence"] == shown else row["sequence"].removesuffix(" people"),
            row["detector"],
            row["embedding"],
            f"{row['people']:.1f}",
            f"{row['boxes']:.1f}",
            *(f"{scores[name]:.1f}" for name in ("MOTA", "IDF1", "HOTA")),
            *(f"{ms[name]:.1f}" for name in ("detect", "embed", "associate")),
            f"{row['total_ms']:.1f}",
        )
        shown = row["sequence"]
    return table


def draw(report: dict[str, Any]) -> str:
    """Draw MOTA over milliseconds as a page, with one chart for few people and one for many."""
    from jde_ray.pipelines.report.canvas import Axis
    from jde_ray.pipelines.report.charts import point_chart
    from jde_ray.pipelines.report.scores import Chart, score_page

    slowest = max(row["total_ms"] for row in report["groups"])
    step = next(s for s in (2, 5, 10, 20, 50, 100, 200, 500, 1000) if slowest <= 6 * s)
    ticks = tuple(float(step * k) for k in range(int(slowest // step) + 2))
    x = Axis("ms per frame: detect, embed, associate", 0, 1.05 * ticks[-1], ticks)
    lowest = min(0.0, *(row["scores"]["MOTA"] for row in report["groups"]))
    floor = 20 * (int(lowest // 20))
    y = Axis("MOTA", floor, 100, tuple(float(v) for v in range(floor, 101, 20)))
    charts, figures = [], {}
    for name in (FEW, MANY):
        rows = [row for row in report["groups"] if row["sequence"] == name]
        if not rows:
            continue
        points = {
            f"{row['detector']} + {row['embedding']}": (row["total_ms"], row["scores"]["MOTA"])
            for row in rows
        }
        caption = f"{rows[0]['people']:.1f} people per frame, {rows[0]['frames']} frames."
        charts.append(Chart(name.capitalize(), point_chart(points, x, y), caption))
        for row in rows:
            title = f"{row['detector']} + {row['embedding']}, {name}"
            chosen = {key: row["scores"][key] for key in ("MOTA", "IDF1", "HOTA")}
            figures[title] = chosen | {
                "boxes per frame": row["boxes"],
                "detect ms": row["ms"]["detect"],
                "embed ms": row["ms"]["embed"],
                "associate ms": row["ms"]["associate"],
                "ms per frame": row["total_ms"],
            }
    place = (
        f"{report['machine']}, {report['threads']} threads, joint network in "
        f"{report['precision']}; {report['clock']} time, one frame at a time, without decoding"
    )
    title = "Joint and separate embeddings"
    return score_page(title, place, figures, [], charts, subject="detector + embedding")
