"""`jde models`: the networks that ship, from the heads of their cards."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from jde_ray.jobs.console.runner import main
from jde_ray.models import cards
from jde_ray.models.cards import Card, Shelf
from jde_ray.pipelines.errors import ExitCode, RunError

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def models(as_json: AsJson = False) -> int:
    """List the networks that `--weights NAME` and `--reid NAME` take, with licences and scores.

    Exit codes: 0 all files are those of their cards; 1 a file is missing or damaged.
    """
    try:
        shelves = {shelf: shelf.cards() for shelf in (cards.JOINT, cards.REID)}
    except ValueError as error:
        raise RunError(str(error), ExitCode.INTERNAL) from error
    listed = [(shelf, card, card.damaged()) for shelf, known in shelves.items() for card in known]
    if as_json:
        print(json.dumps([_plain(*one) for one in listed], indent=1))
    else:
        for shelf, known in shelves.items():
            if known:
                _show(shelf, known)
    wrong = [name for _, _, names in listed for name in names]
    if wrong:
        raise RunError(
            f"models: {', '.join(wrong)}: not the file of the card; install the package again",
            ExitCode.INTERNAL,
        )
    return ExitCode.DONE


def _plain(shelf: Shelf, card: Card, damaged: list[str]) -> dict[str, Any]:
    return {
        "name": card.name,
        "flag": f"--{shelf.flag}",
        "parameters": card.parameters,
        "size": list(card.size),
        "bytes": card.weights.stat().st_size,
        "speed_class": card.speed_class,
        f"{shelf.unit}_per_second": card.per_second,
        "measured_on": card.measured_on,
        "licence": card.licence,
        "is_commercial": card.is_commercial,
        "unseen": card.unseen,
        "scores": dict(card.scores),
        "sha256": card.sha256,
        "int8_file": card.int8_file or None,
        "files": dict(card.files),
        "damaged": damaged,
        "card": str(card.path),
    }


def _show(shelf: Shelf, known: list[Card]) -> None:
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table

    metrics = list(dict.fromkeys(metric for card in known for metric in card.scores))
    table = Table(title=f"--{shelf.flag}", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for title in ("name", "input"):
        table.add_column(title, no_wrap=True)
    for title in ("M params", "MB", f"{shelf.unit}/s", *metrics):
        table.add_column(title, justify="right", no_wrap=True)
    for title in ("for", "int8", "licence", "sha256"):
        table.add_column(title, no_wrap=True)
    for card in known:
        width, height = card.size
        scores = (f"{card.scores[one]:.1f}" if one in card.scores else "-" for one in metrics)
        table.add_row(
            card.name,
            f"{width}x{height}",
            f"{card.parameters / 1e6:.2f}",
            f"{card.weights.stat().st_size / 1e6:.1f}",
            f"{card.per_second:g}",
            *scores,
            card.speed_class,
            "yes" if card.int8_file else "no",
            card.licence if card.is_commercial else f"{card.licence}: non-commercial",
            card.sha256[:12],
        )
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    console.print(table)
    for card in known:
        print(f"{card.name}: {', '.join(card.scores)} of {card.unseen}; {shelf.unit}/s of "
              f"{card.measured_on}. {card.path}")  # fmt: skip


if __name__ == "__main__":
    main(models, "models")
