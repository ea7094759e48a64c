"""Runs a verb; an error becomes one line on stderr and an exit code for its kind.

`JDE_DEBUG=1` shows the traceback too.
"""

from __future__ import annotations

import errno
import inspect
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from types import FrameType
from typing import Any

import typer

from jde_ray.jobs.console.other_tools import meant
from jde_ray.pipelines.errors import ExitCode, RunError, one_line
from jde_ray.pipelines.storage.s3_client import StorageError, expect_first_contact

CONTEXT = {"help_option_names": ["-h", "--help"]}


def run_verb(target: Callable[..., Any], verb: str, arguments: Sequence[str]) -> int:
    """Parse `arguments`, call the verb, and return its exit code.

    Args:
        target: A function with typer annotations, or a `typer.Typer` with verbs of its own.
        verb: Name of the verb, for messages.
        arguments: The command line after the verb.
    """
    if isinstance(target, typer.Typer) and not arguments:  # a verb is missing
        with redirect_stdout(sys.stderr):
            run_verb(target, verb, ["--help"])
        return ExitCode.REFUSED
    expect_first_contact()
    terminations = _interrupt_on_sigterm()
    try:
        command = typer.main.get_command(application(target))
        # a help that names the variable of every option would be twice as long
        is_help = not {"-h", "--help"}.isdisjoint(arguments)
        result = command.main(
            list(arguments),
            prog_name=f"jde {verb}".rstrip(),
            standalone_mode=False,
            auto_envvar_prefix=None if is_help else variable_prefix(verb),
        )
        code = result if isinstance(result, int) else ExitCode.DONE
    except (KeyboardInterrupt, typer.Abort):
        code = ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001  the last line of defence: no traceback for users
        if os.environ.get("JDE_DEBUG") == "1":
            traceback.print_exc()
        return say(*explain(error))
    if code == ExitCode.INTERRUPTED:  # typer turns Ctrl-C into an exit code silently
        code = ExitCode.TERMINATED if terminations else code
        say(
            "interrupted; run the same command to continue, with --out FOLDER if you gave none",
            code,
        )
    return code


def variable_prefix(verb: str) -> str:
    """Prefix of the variables that stand for a verb's options: JDE_TRACK_CONF for `--conf`."""
    return f"JDE_{verb.upper()}"


def _interrupt_on_sigterm() -> list[int]:
    """End the command on SIGTERM as on Ctrl-C; the list grows by every SIGTERM received."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, interrupt)
    return received


def main(target: Callable[..., Any], verb: str) -> None:
    """Entry point of `python -m jobs.<verb>`."""
    sys.exit(run_verb(target, verb, sys.argv[1:]))


def say(message: str, code: int) -> int:
    """Print an error on one line and return the code."""
    print(f"jde: error: {' '.join(message.split())}", file=sys.stderr, flush=True)
    return int(code)


def application(target: Callable[..., Any]) -> typer.Typer:
    """A verb, or several, as a typer application of its own."""
    app = target
    if not isinstance(app, typer.Typer):
        app = typer.Typer(add_completion=False, context_settings=CONTEXT)
        app.command()(target)
    for command in app.registered_commands:
        command.help = command.help or _paragraphs(command.callback)
    return app


def _paragraphs(verb: Callable[..., Any] | None) -> str:
    """The verb's docstring with one line per paragraph: typer would keep its line breaks."""
    paragraphs = (inspect.getdoc(verb) or "").split("\n\n")
    return "\n\n".join(" ".join(lines.split("\n")) for lines in paragraphs)


def explain(error: BaseException) -> tuple[str, ExitCode]:
    """An error as one line for the user, and the exit code of its kind."""
    if isinstance(error, RunError):
        return str(error), error.exit_code
    if isinstance(error, KeyboardInterrupt):
        return "interrupted", ExitCode.INTERRUPTED
    if isinstance(error, StorageError):
        return f"{error}; run the same command to continue", ExitCode.INTERNAL
    if isinstance(error, PermissionError):  # that of a store names its request, and the answer
        text = str(error) if error.errno is None else f"{error.filename}: {error.strerror}"
        return one_line(f"{text}; run the same command once that is allowed"), ExitCode.INTERNAL
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:  # nothing of ours is so
        return one_line(f"{error.filename}: the name is too long for a file"), ExitCode.REFUSED
    format_message = getattr(error, "format_message", None)
    if format_message is None:
        text = f"internal: {type(error).__name__}: {error} (JDE_DEBUG=1 shows where)"
        return one_line(text), ExitCode.INTERNAL
    # typer's usage errors, whichever click they come from
    origin = _variable_of(error)
    if nearest := getattr(error, "possibilities", None):
        text = f"{getattr(error, 'message', '')}; did you mean {nearest[0]}?"
    else:
        text = format_message().replace(". Did you mean", "; did you mean")
    return (_of_another_tool(error) or text) + origin, ExitCode.REFUSED


def _of_another_tool(error: BaseException) -> str:
    """The line about a flag of another tracker; empty for all other errors."""
    flag, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if flag is None or context is None:
        return ""
    known = {name for parameter in context.command.params for name in parameter.opts}
    hint = meant(flag, known)
    return f"No such option: {flag}; {hint}" if hint else ""


def _variable_of(error: BaseException) -> str:
    """Where a refused value stands, if that is a variable: the message names a flag."""
    context, parameter = getattr(error, "ctx", None), getattr(error, "param", None)
    if context is None or parameter is None:
        return ""
    source = context.get_parameter_source(parameter.name)
    name = f"{context.auto_envvar_prefix}_{parameter.name.upper()}"
    return f" (from {name})" if source is not None and source.name == "ENVIRONMENT" else ""
