"""Flags come from the fields of a frozen dataclass; a verb receives those that were typed."""

from __future__ import annotations

import inspect
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


@dataclass(frozen=True, kw_only=True)
class Required:
    """Cannot be built without a value."""

    name: str
    count: int = 3
    limit: float | None = None


FLAGS = {
    "count": Flag(config=Settings, field="count", text="Number of things.", aliases=("n",)),
    "max_limit": Flag(config=Settings, field="limit", text="Limit.", default="none"),
    "kind": Flag(config=Settings, field="kind", text="Kind of thing."),
    "fast": Flag(config=Settings, field="fast", text="Be fast."),
    "shaped": Flag(config=Settings, field="shaped", text="Have a shape.", switch=True),
}


def typed(*words: str) -> Given:
    seen: list[tuple[str, Given]] = []

    @takes(flags=FLAGS)
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
    @takes(flags=FLAGS)
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


def test_what_no_file_can_hold_is_refused_by_typer(capsys):
    strict = {
        "count": Flag(config=Settings, field="count", text="Number of things.", least=1),
        "kind": Flag(config=Settings, field="kind", text="Kind of thing.", strict=True),
    }

    @takes(flags=strict)
    def verb(*, flags: Given) -> None:
        """Do it."""

    assert run_verb(verb, "verb", ["--count", "1", "--kind", "b"]) == 0
    assert run_verb(verb, "verb", ["--count", "0"]) == 2
    assert "'--count': Input should be greater than or equal to 1" in capsys.readouterr().err
    assert run_verb(verb, "verb", ["--kind", "c"]) == 2
    assert "'--kind': Value error, 'c' is not one of 'a', 'b'" in capsys.readouterr().err


def test_groups_of_flags_stand_where_the_verb_has_them_and_arrive_apart():
    seen: list[tuple[Given, bool, Given]] = []

    @takes(first={"count": FLAGS["count"]}, second={"fast": FLAGS["fast"]})
    def verb(*, first: Given, between: bool = False, second: Given) -> None:
        """Do it."""
        seen.append((first, between, second))

    assert list(inspect.signature(verb).parameters) == ["count", "between", "fast"]
    assert run_verb(verb, "verb", ["--fast", "--count", "5", "--between"]) == 0
    assert run_verb(verb, "verb", []) == 0
    assert seen == [({"count": 5}, True, {"fast": True}), ({}, False, {})]


def test_the_default_of_a_field_is_not_shown_where_a_file_decides():
    def help_of(field: str, default: str | None = None) -> str:
        return Flag(config=Required, field=field, text="Text.", default=default).help()

    assert help_of("count") == r"Text. \[default: 3]"
    assert help_of("count", default="") == "Text."
    assert help_of("limit") == "Text."
