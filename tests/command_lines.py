"""Command lines of `jde` through the parser of their verb, which does not run them."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from jde_ray.jobs import cli
from jde_ray.jobs.console.runner import application


def parse(arguments: list[str]) -> None:
    """Parse the arguments as the verb does, without running it; raise the errors that users see."""
    verb, *rest = arguments
    module, name, _ = cli.VERBS[verb]
    command: Any = get_command(application(getattr(importlib.import_module(module), name)))
    context = command.make_context(f"jde {verb}", list(rest))
    if hasattr(command, "commands"):
        inner = [*context._protected_args, *context.args]
        command.commands[inner[0]].make_context(inner[0], inner[1:], parent=context)


def parameters(verb: str) -> set[str]:
    """Names of a verb's parameters, which variables such as JDE_TRACK_CONF name in capitals."""
    module, name, _ = cli.VERBS[verb]
    command: Any = get_command(application(getattr(importlib.import_module(module), name)))
    return {one.name for one in command.params}


def in_comments(text: str) -> Iterator[list[str]]:
    """Words after `jde` of the commands in backquotes in the comments of a file.

    Those that only name a verb are left out.

    Raises:
        ValueError: If one names a verb that does not exist.
    """
    comments = " ".join(re.findall(r"#\s?(.*)$", text, re.MULTILINE))
    for span in re.findall(r"`jde ([a-z][^`]*)`", comments):
        words = shlex.split(span)
        if words[0] not in cli.VERBS:
            raise ValueError(f"jde {span}: no such verb")
        if len(words) > 1:
            yield words
