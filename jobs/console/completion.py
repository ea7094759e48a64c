"""Completion of verbs, flags and their choices by the Tab key of a shell.

typer has the script of each shell and answers it; this module shows it the verbs as one program. A
verb is imported only when its own flags are asked for.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import typer
from typer.completion import get_completion_script, install  # type: ignore[attr-defined]
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from jde_ray.jobs.console.runner import application, say
from jde_ray.pipelines.errors import ExitCode

VARIABLE = "_JDE_COMPLETE"  # the script sets it to ask for words
SHELLS = ("bash", "zsh", "fish", "powershell", "pwsh")
Verbs = Mapping[str, tuple[str, str, str]]  # verb -> module, name in it, one line of help


def complete(verbs: Verbs, arguments: Sequence[str]) -> int:
    """Answer the shell, or print or install its script; returns the exit code.

    Args:
        verbs: All verbs.
        arguments: `--show-completion` or `--install-completion`, and the shell's name or nothing;
            unused if the shell asks.
    """
    if VARIABLE in os.environ:
        with suppress(Exception):  # whoever presses Tab wants words and no errors
            get_command(program(verbs)).main([], prog_name="jde", standalone_mode=False)
        return ExitCode.INTERNAL
    flag, *shells = (word for part in arguments for word in part.split("="))
    shell = shells[0] if shells else _this_shell()
    if shell not in SHELLS:
        return say(
            f"{flag.strip('-')}: got {shell}, expected {', '.join(SHELLS)}", ExitCode.REFUSED
        )
    if flag == "--show-completion":
        print(get_completion_script(prog_name="jde", complete_var=VARIABLE, shell=shell))
        return ExitCode.DONE
    _, path = install(shell=shell, prog_name="jde", complete_var=VARIABLE)
    print(f"written to {path}; it works in every {shell} that is started from now on")
    return ExitCode.DONE


def program(verbs: Verbs) -> typer.Typer:
    """All verbs as one program, without importing them."""

    class Group(TyperGroup):
        def list_commands(self, ctx: Any) -> list[str]:
            return list(verbs)

        def get_command(self, ctx: Any, cmd_name: str) -> Any:
            if cmd_name not in verbs:
                return None
            module, name, text = verbs[cmd_name]
            if cmd_name not in _typed_words():  # only its line of help is wanted
                return TyperCommand(cmd_name, help=text)
            return get_command(application(getattr(import_module(module), name)))

    app = typer.Typer(cls=Group)

    @app.callback()
    def jde() -> None:
        """People tracked in video archives, on Ray."""

    return app


def _typed_words() -> list[str]:
    """What stands on the command line, as the scripts of bash and of the other shells pass it."""
    text = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    return text.split()


def _this_shell() -> str:
    try:
        from shellingham import detect_shell

        name: str = detect_shell()[0]
    except Exception as error:  # noqa: BLE001  there are many ways not to know it
        print(f"jde: note: the shell is not known ({error})", file=sys.stderr)
        return "no shell's name"
    return name
