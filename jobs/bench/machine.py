"""The processor's name and the output format that all measurements share."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

Weights = Annotated[str, typer.Option(help="Name of a shipped model, or path of a weight file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def processor() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def console(width: int = 110) -> Console:
    """A console as wide as the terminal, or `width` columns for a file or a pipe."""
    return Console(width=None if os.isatty(1) else width)
