"""Flags made from the fields of frozen configurations: one mechanism for all verbs.

The configuration defines the name, type, default and limits of a setting. A `Flag` defines how the
command line shows it. A verb lists its flags with `takes`, and receives those that the user typed.
The configuration checks the values, with the same messages as for a file; typer checks values
that a file cannot set (`strict`, `least`).
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

Given = dict[str, Any]  # name of a flag -> typed value; flags that were not typed are left out
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag that sets one field of a configuration.

    Attributes:
        config: The frozen dataclass; its default is shown in the help.
        field: The field to set.
        text: Help text of the setting.
        panel: Heading in the help; None for the verb's own options.
        metavar: Expected values, for the help; None derives them from the type of the field.
        default: Default to show instead of the field's; an empty text shows none, since a file
            sets the value.
        aliases: Names of the flag in other tools.
        switch: Whether `--no-NAME` exists too.
        strict: Whether typer refuses values that are not among the choices.
        least: Smallest number that typer accepts; None for no limit.
        choices: Values that the Tab key offers; empty takes those in `metavar`.
    """

    config: type[Any]
    field: str
    text: str
    panel: str | None = None
    metavar: str | None = None
    default: str | None = None
    aliases: tuple[str, ...] = ()
    switch: bool = False
    strict: bool = False
    least: int | None = None
    choices: tuple[str, ...] = ()

    def help(self) -> str:
        """Help text with the default, in rich's markup."""
        default: Any = self.default
        if default is None:
            default = next(one.default for one in fields(self.config) if one.name == self.field)
        return self.text + ("" if default in (None, False, "") else rf" \[default: {default}]")

    def parameter(self, name: str) -> inspect.Parameter:
        """The flag as a parameter for typer."""
        hint = get_type_hints(self.config)[self.field]
        kind, metavar = _command_line_type(hint, strict=self.strict)
        spelled, shown = name.replace("_", "-"), self.metavar or metavar
        if (shown or "").startswith("auto|"):
            kind = str  # the word or a number; whoever takes the value tells them apart
        # `jde|sort` are choices, `NAME|PATH` and `k/K` are not
        choices = self.choices or [
            word for word in (shown or "").split("|") if word.islower() and word.isalnum()
        ]
        option = typer.Option(
            f"--{spelled}" + (f"/--no-{spelled}" if self.switch else ""),
            *(f"--{alias}" for alias in self.aliases),
            help=self.help(),
            min=self.least,
            metavar=shown,
            autocompletion=completion(choices) if choices else None,
            rich_help_panel=self.panel,
            show_default=False,
        )
        plain = kind is bool and not self.switch
        return inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=False if plain else None,
            annotation=Annotated[kind if plain else kind | None, option],
        )

    def is_given(self, value: Any) -> bool:
        """Whether the user typed it; flags without `--no-NAME` are False if they were not typed."""
        return value is not None and (value is not False or self.switch)


def takes(
    **groups: Mapping[str, Flag],
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Add flags to a verb; each group replaces the verb's parameter of the same name.

    `@takes(flags=FLAGS)` fills the parameter `flags: Given` of the verb.

    Args:
        groups: Flags by the names of their parameters (`max_frames` is `--max-frames`).
    """

    def decorate(verb: Callable[..., Result]) -> Callable[..., Result]:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(verb, eval_str=True).parameters.values():
            made = [flag.parameter(name) for name, flag in groups.get(own.name, {}).items()]
            keyword_only = own.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += made if own.name in groups else [keyword_only]

        @functools.wraps(verb)
        def run(**typed: Any) -> Result:
            given: dict[str, Given] = {}
            for group, flags in groups.items():
                values = {name: typed.pop(name, None) for name in flags}
                given[group] = {name: v for name, v in values.items() if flags[name].is_given(v)}
            return verb(**typed, **given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def completion(choices: Sequence[str]) -> Callable[[str], list[str]]:
    """What the Tab key offers for a value that is one of these words."""

    def beginning_with(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return beginning_with


def _command_line_type(hint: Any, *, strict: bool) -> tuple[Any, str | None]:
    """Type and metavar of a field on the command line.

    Choices and other texts are `str` unless `strict`, so that the configuration refuses wrong ones
    with the same message as for a file.
    """
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [kind for kind in get_args(hint) if kind is not type(None)]
        hint = kinds[0] if len(kinds) == 1 else str  # of several, whoever takes the value tells
    if get_origin(hint) is Literal:
        return (hint, None) if strict else (str, "|".join(get_args(hint)))
    if hint is bool:
        return bool, ""  # `<bool>` would suggest a value, which typer would take for a source
    return (hint if hint in (int, float) else str), None
