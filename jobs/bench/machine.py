"""What every `jde bench` says beside its figures: the machine, and a table of a readable width."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from rich.console import Console


def processor() -> str:
    """Model name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def console(width: int = 110) -> Console:
    """Of the terminal; a file or a pipe, which has no width, gets so many columns."""
    return Console(width=None if os.isatty(1) else width)
