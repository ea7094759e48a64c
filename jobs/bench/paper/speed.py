"""`jde bench speed`: the speeds of the paper's Table 3: detector, association and whole system."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from jde_ray.jobs.bench.clocks import Clock, check_clock
from jde_ray.jobs.bench.machine import console, processor
from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.options import ConfigFile
from jde_ray.jobs.console.run_flags import choose
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.jobs.bench.paper.comparison import Measured

RATES = ("FPSD", "FPSE", "FPSA", "FPS", "FPS_decoded")  # the last one includes decoding
_SCORES = ("MOTA", "IDF1", "HOTA", "MT", "PT", "ML", "IDs")


NETWORK_FLAGS = choose("weights", "precision", "threads")


@takes(flags=NETWORK_FLAGS)
def speed(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="SOURCE",
            help="Videos or MOTChallenge sequences; those with ground truth are also scored. "
            r"\[default: two rendered streets]",
        ),
    ] = None,
    config: ConfigFile = None,
    *,
    flags: Given,
    max_frames: Annotated[int | None, typer.Option(min=6, help="Frames per source.")] = None,
    clock: Clock = "wall",
    out: Annotated[Path, typer.Option(help="Folder for speed.json.")] = Path("runs/speed"),
) -> None:
    """Frames per second of detector, embedder, association and all, in the columns of Table 3.

    FPSD is the detector alone, FPSE crops and embeddings (of separate networks), FPSA the
    association, FPS all of them without decoding, as in the paper.
    """
    report = measure_speed(sources, flags, config, max_frames, out, clock)
    out.mkdir(parents=True, exist_ok=True)
    (out / "speed.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    console().print(build_table(report))
    typer.echo(f"written to {out / 'speed.json'}, which jde bench table3 reads")


def measure_speed(
    sources: Sequence[Path] | None,
    given: Given,
    config: Path | None,
    max_frames: int | None,
    out: Path,
    clock: str = "wall",
) -> dict[str, Any]:
    """Measure the contents of `speed.json`: the machine, one row per source, and the overall row.

    Args:
        sources: Videos or sequences, None for two rendered streets.
        given: Typed values by the names of `NETWORK_FLAGS`.
        config: Settings file as for `jde track`, None for the defaults.
        max_frames: Most frames per source, None for all.
        out: Folder that streets are rendered into.
        clock: `wall`, or `cpu` for processor time.

    Raises:
        RunError: If a source or the weights cannot be used.
    """
    from jde_ray.jobs.bench.paper.combinations import (
        Combination,
        build_finder,
        declared_embedder,
        resolve_settings,
    )
    from jde_ray.jobs.bench.paper.comparison import measure
    from jde_ray.jobs.bench.paper.footage import find_footage, find_sequences
    from jde_ray.jobs.bench.paper.systems import System, trained_on
    from jde_ray.jobs.console.options import collect

    try:
        settings = resolve_settings(collect(given, config))
        threads = settings.resources.torch_threads
        check_clock(clock, threads)
        finder = build_finder(Path(settings.track.detection.weights).stem, settings)
        combination = Combination(finder, declared_embedder(settings), finder.config)
        footage = find_sequences(sources) if sources else find_footage(None, out, max_frames)
        rows = [row for one in footage for row in measure(one, [combination], max_frames, clock)]
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    detection = settings.track.detection
    boxes, identities = trained_on(System(name="measured", detector=detection.weights))
    return {
        "machine": processor(),
        "threads": threads,
        "clock": clock,
        "weights": Path(detection.weights).name,
        "weights_sha256": detection.weights_sha256,
        "precision": detection.precision,
        "embedding": combination.embedding,
        "boxes": boxes,
        "identities": identities,
        "rows": [row_of(one.sequence, [one]) for one in rows],
        "overall": row_of("all", rows),
    }


def row_of(name: str, measured: Sequence[Measured]) -> dict[str, Any]:
    """Speeds over all of `measured`, and scores over those of it that have truth."""
    from jde_ray.jobs.bench.paper.comparison import STAGES
    from jde_ray.models.metrics.tracking import SequenceScores

    frames = sum(one.frames for one in measured)
    seconds = {stage: sum(one.seconds[stage] for one in measured) for stage in STAGES}
    scored = [one.scores for one in measured if one.scores is not None]
    figures = sum(scored, SequenceScores()).figures() if scored else {}
    return {
        "source": name,
        "frames": frames,
        "boxes": sum(one.boxes for one in measured) / frames,
        "seconds": seconds,
        **rates(frames, seconds),
        "scored": [one.sequence for one in measured if one.scores is not None],
        "scores": {key: figures[key] for key in _SCORES if key in figures},
    }


def rates(frames: int, seconds: Mapping[str, float]) -> dict[str, float | None]:
    """Frames per second by column of Table 3, None for a part that there is not.

    Args:
        frames: Number of frames.
        seconds: Time of all of them by stage.
    """
    parts = dict(zip(("FPSD", "FPSE", "FPSA"), ("detect", "embed", "associate"), strict=True))
    alone = {name: frames / seconds[of] if seconds[of] else None for name, of in parts.items()}
    together = whole_rate([rate for rate in alone.values() if rate is not None])
    return {**alone, "FPS": together, "FPS_decoded": frames / sum(seconds.values())}


def whole_rate(rates: Sequence[float]) -> float:
    """Frames per second of parts that run one after the other, as the paper has them.

    >>> round(whole_rate([34.3, 81.0]), 1), round(whole_rate([24.5, 81.5]), 1)
    (24.1, 18.8)
    """
    return 1 / sum(1 / rate for rate in rates)


def rate_text(rate: float | None) -> str:
    """A rate as tables show it; a dash for None."""
    return "-" if rate is None else f"{rate:.1f}"


def build_table(report: dict[str, Any]) -> Table:
    """Format the report as a table: one line per source, and one over all."""
    table = Table(
        title=f"{report['weights']}, {report['precision']}, {report['machine']}, "
        f"{report['threads']} threads",
        caption=f"Frames per second ({report['clock']} time), one frame at a time, one part after "
        "the other, without warm-up. FPSD: detector or joint network alone. FPSE: crops and "
        "embeddings of a separate embedder. FPSA: association alone. FPS: these together, as in "
        "the paper; the next column with decoding. A run on many cores is faster: "
        "docs/measurements/performance.md.",
    )
    table.add_column("source", no_wrap=True)
    for name in ("frames", "boxes/frame", *RATES[:-1], "decoded", "MOTA"):
        table.add_column(name, justify="right")
    rows = report["rows"] if len(report["rows"]) == 1 else [*report["rows"], report["overall"]]
    for row in rows:
        table.add_row(
            row["source"],
            str(row["frames"]),
            f"{row['boxes']:.1f}",
            *(rate_text(row[name]) for name in RATES),
            f"{row['scores']['MOTA']:.1f}" if row["scores"] else "-",
        )
    return table
