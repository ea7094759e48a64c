"""Flags made from the fields of frozen configurations: one mechanism for all verbs.

The configuration owns name, type, default and limits of a setting. A `Flag` adds how the command
line shows it. A verb asks for the flags it takes with `takes`, and receives those that were typed.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

Given = dict[str, Any]  # name of a flag -> value as typed; flags that were not typed are left out
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Flag:
    """A flag that sets one field of a configuration.

    Attributes:
        config: The frozen dataclass; its default is shown in the help.
        field: The field to set.
        text: What the setting does, for the help.
        panel: Heading in the help; None: the verb's own options.
        metavar: Accepted values, for the help; None: by the type of the field.
        default: Default to show in place of the field's.
        aliases: Names that people know from other tools.
        switch: Whether there is a `--no-NAME` too.
    """

    config: type[Any]
    field: str
    text: str
    panel: str | None = None
    metavar: str | None = None
    default: str | None = None
    aliases: tuple[str, ...] = ()
    switch: bool = False

    def help(self) -> str:
        """The text with the default, in rich's markup."""
        default = self.default or getattr(self.config(), self.field)
        return self.text + ("" if default in (None, False) else rf" \[default: {default}]")

    def parameter(self, name: str) -> inspect.Parameter:
        """The flag as a parameter that typer understands."""
        kind, metavar = _command_line_type(get_type_hints(self.config)[self.field])
        spelled, shown = name.replace("_", "-"), self.metavar or metavar
        # `jde|sort` are choices, `NAME|PATH` and `k/K` are not
        choices = [word for word in (shown or "").split("|") if word.islower() and word.isalnum()]
        option = typer.Option(
            f"--{spelled}" + (f"/--no-{spelled}" if self.switch else ""),
            *(f"--{alias}" for alias in self.aliases),
            help=self.help(),
            metavar=shown,
            autocompletion=_completion(choices) if choices else None,
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
        """Whether it was typed: a flag that cannot be switched off is False when it was not."""
        return value is not None and (value is not False or self.switch)


def takes(flags: Mapping[str, Flag]) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """Give a verb these flags, in place of its parameter `flags: Given`.

    Args:
        flags: By the names of their parameters (`max_frames` is `--max-frames`).
    """

    def decorate(verb: Callable[..., Result]) -> Callable[..., Result]:
        parameters: list[inspect.Parameter] = []
        for own in inspect.signature(verb, eval_str=True).parameters.values():
            made = [flag.parameter(name) for name, flag in flags.items()]
            keyword_only = own.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += made if own.name == "flags" else [keyword_only]

        @functools.wraps(verb)
        def run(**typed: Any) -> Result:
            values = {name: typed.pop(name, None) for name in flags}
            given = {name: v for name, v in values.items() if flags[name].is_given(v)}
            return verb(**typed, flags=given)

        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {one.name: one.annotation for one in parameters}
        return run

    return decorate


def _completion(choices: Sequence[str]) -> Callable[[str], list[str]]:
    def beginning_with(incomplete: str) -> list[str]:
        return [choice for choice in choices if choice.startswith(incomplete)]

    return beginning_with


def _command_line_type(hint: Any) -> tuple[Any, str | None]:
    """How a field is typed on the command line, and its metavar.

    Choices and other texts stay text: the configuration refuses them in its own words, as it does
    for a value from a file.
    """
    if get_origin(hint) in (Union, types.UnionType):
        (hint,) = (kind for kind in get_args(hint) if kind is not type(None))
    if get_origin(hint) is Literal:
        return str, "|".join(get_args(hint))
    if hint is bool:
        return bool, ""  # `<bool>` would invite a value, which then is taken for a source
    return (hint if hint in (int, float) else str), None
