"""Flags come from the fields of a frozen dataclass; a verb receives those that were typed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest

from jde_ray.jobs.console.flags import Flag, Given, takes
from jde_ray.jobs.console.runner import run_verb


@dataclass(frozen=True)
class Settings:
    count: int = 3
    limit: float | None = None
    kind: Literal["a", "b"] = "a"
    fast: bool = False
    shaped: bool = False


FLAGS = {
    "count": Flag(config=Settings, field="count", text="Number of things.", aliases=("n",)),
    "max_limit": Flag(config=Settings, field="limit", text="Limit.", default="none"),
    "kind": Flag(config=Settings, field="kind", text="Kind of thing."),
    "fast": Flag(config=Settings, field="fast", text="Be fast."),
    "shaped": Flag(config=Settings, field="shaped", text="Have a shape.", switch=True),
}


def typed(*words: str) -> Given:
    seen: list[tuple[str, Given]] = []

    @takes(FLAGS)
    def verb(place: str, *, flags: Given) -> None:
        """Do it."""
        seen.append((place, flags))

    assert run_verb(verb, "verb", ["here", *words]) == 0
    ((place, flags),) = seen
    assert place == "here"
    return flags


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), {}),
        (("--count", "5"), {"count": 5}),
        (("--n", "0"), {"count": 0}),
        (("--max-limit", "0.5", "--kind", "c"), {"max_limit": 0.5, "kind": "c"}),
        (("--fast", "--shaped"), {"fast": True, "shaped": True}),
        (("--no-shaped",), {"shaped": False}),
    ],
)
def test_a_verb_receives_what_was_typed_and_nothing_else(words, expected):
    assert typed(*words) == expected


def test_type_choices_and_default_come_from_the_field(capsys):
    @takes(FLAGS)
    def verb(*, flags: Given) -> None:
        """Do it."""

    assert run_verb(verb, "verb", ["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "<int> Number of things. [default: 3]" in text
    assert "Limit. [default: none]" in text
    assert "a|b Kind of thing. [default: a]" in text
    assert "--no-fast" not in text
    assert run_verb(verb, "verb", ["--count", "many"]) == 2
    assert run_verb(verb, "verb", ["--no-fast"]) == 2
