"""`jde eval`: score the tracks of a run against ground truth."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs._run import main

if TYPE_CHECKING:
    from pipelines.evaluation import SequenceScores


def evaluate(
    tracks: Annotated[Path, typer.Argument(help="OUT of a run, or a folder of its Parquet files")],
    gt: Annotated[
        Path, typer.Option(help="folder with NAME/gt/gt.txt or NAME.gt.txt for videos NAME.*")
    ],
    save: Annotated[Path | None, typer.Option("--json", help="write the scores there too")] = None,
) -> None:
    """Print MOTA, IDF1, HOTA and their parts for every sequence and over all."""
    from pipelines.errors import ExitCode, RunError
    from pipelines.evaluation import score_run

    folder = tracks / "tracks" if (tracks / "tracks").is_dir() else tracks
    files = sorted(folder.glob("*.parquet"))
    if not files:
        raise RunError(f"tracks: no Parquet file in {folder}", ExitCode.REFUSED)
    if not gt.is_dir():
        raise RunError(f"gt: {gt} is no folder", ExitCode.REFUSED)
    try:
        scores, without = score_run(files, gt)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    for name in without:
        typer.echo(f"jde: {name}: no {name}/gt/gt.txt below {gt}, left out", err=True)
    if not scores:
        raise RunError(f"gt: no ground truth below {gt} for any video", ExitCode.REFUSED)
    print_scores(scores)
    if save is not None:
        save.write_text(json.dumps({name: flat(s) for name, s in scores.items()}, indent=2) + "\n")


def flat(scores: SequenceScores) -> dict[str, float]:
    """All figures of a sequence by name."""
    hota = scores.hota
    return {
        "hota": hota.hota,
        "deta": hota.detection_accuracy,
        "assa": hota.association_accuracy,
        "loca": hota.localisation_accuracy,
        **asdict(scores.clear),
    }


def print_scores(scores: dict[str, SequenceScores]) -> None:
    """One line a sequence, ratios in percent."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("sequence")
    ratios = ("mota", "idf1", "hota", "deta", "assa", "precision", "recall")
    counts = {
        "IDs": "num_switches",
        "FP": "num_false_positives",
        "FN": "num_misses",
        "MT": "mostly_tracked",
        "ML": "mostly_lost",
        "boxes": "num_boxes",
    }
    for title in ("MOTA", "IDF1", "HOTA", "DetA", "AssA", "Prcn", "Rcll", *counts):
        table.add_column(title, justify="right", no_wrap=True)
    for name, of_sequence in scores.items():
        values = flat(of_sequence)
        cells = [f"{100 * values[key]:.1f}" for key in ratios]
        cells += [str(int(values[key])) for key in counts.values()]
        table.add_row(name, *cells)
    console = Console()
    # a file or a pipe has no width: never cut figures there
    console.print(table) if console.is_terminal else Console(width=160).print(table)


if __name__ == "__main__":
    main(evaluate, "eval")
