"""`jde models`: the networks that ship, from the heads of their cards."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jde_ray.jobs.console.runner import main
from jde_ray.models import cards
from jde_ray.models.cards import Card, Shelf
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from rich.table import Table

_TEXTS = ("name", "input", "for", "int8", "licence", "sha256")
_SPARED = ("sha256", "for", "MB", "M params", "int8", "input")  # in this order, on narrow terminals

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
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    console = console if console.is_terminal else Console(width=160)
    columns = _columns(shelf, known)
    unbounded = console.options.update(width=10_000)
    for title in (*_SPARED, f"{shelf.unit}/s"):
        if Measurement.get(console, unbounded, _table(shelf, columns)).maximum <= console.width:
            break
        del columns[title]
    console.print(_table(shelf, columns))
    for card in known:
        text = (
            f"{card.name}: {', '.join(card.scores)} of {card.unseen}; {shelf.unit}/s of "
            f"{card.measured_on}. {card.path}"
        )
        console.print(text, markup=False, highlight=False, soft_wrap=not console.is_terminal)


def _columns(shelf: Shelf, known: list[Card]) -> dict[str, list[str]]:
    """A text for each network by title."""
    metrics = dict.fromkeys(metric for card in known for metric in card.scores)
    return {
        "name": [card.name for card in known],
        "input": ["{}x{}".format(*card.size) for card in known],
        "M params": [f"{card.parameters / 1e6:.2f}" for card in known],
        "MB": [f"{card.weights.stat().st_size / 1e6:.1f}" for card in known],
        f"{shelf.unit}/s": [f"{card.per_second:g}" for card in known],
        **{
            metric: [
                f"{card.scores[metric]:.1f}" if metric in card.scores else "-" for card in known
            ]
            for metric in metrics
        },
        "for": [card.speed_class for card in known],
        "int8": ["yes" if card.int8_file else "no" for card in known],
        "licence": [
            card.licence if card.is_commercial else f"{card.licence}: non-commercial"
            for card in known
        ],
        "sha256": [card.sha256[:12] for card in known],
    }


def _table(shelf: Shelf, columns: dict[str, list[str]]) -> Table:
    from rich.box import SIMPLE
    from rich.table import Table

    table = Table(title=f"--{shelf.flag}", title_justify="left", box=SIMPLE, padding=(0, 1, 0, 0))
    for title in columns:
        is_text = title in _TEXTS
        table.add_column(title, justify="left" if is_text else "right", no_wrap=True)
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


if __name__ == "__main__":
    main(models, "models")
