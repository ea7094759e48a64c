"""How much a verb says, and where: on the terminal, in a log file, or not at all."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from jde_ray.pipelines.errors import ExitCode, RunError, one_line, printable

ProgressKind = Literal["auto", "lines", "json", "none"]

_LOGGER = logging.getLogger("jde_ray")
_FILE_FORMAT = "%(asctime)s %(levelname)s %(message)s"


@dataclass(frozen=True, kw_only=True)
class ConsoleConfig:
    """What a run shows. None of it changes a result.

    Attributes:
        progress: `auto` is a bar on a terminal and lines elsewhere; `json` is one object per line
            on standard output.
        quiet: Nothing but errors on the terminal, unless `progress` is `json`.
        log_file: File to append messages, progress, results and errors to, each with its time.
    """

    progress: ProgressKind = "auto"
    quiet: bool = False
    log_file: str | None = None


class Messages:
    """Shows warnings of the log on standard error, and writes the log file while it is entered.

    Args:
        config: Quiet or not, and the log file.

    Raises:
        RunError: If the log file cannot be written.
    """

    def __init__(self, config: ConsoleConfig = ConsoleConfig()) -> None:
        self._handlers: list[logging.Handler] = [_Stderr(config.quiet)]
        self._file: logging.Handler | None = None
        self._level = _LOGGER.level
        if config.log_file is not None:
            try:
                self._file = logging.FileHandler(config.log_file, encoding="utf-8")
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
                name = printable(config.log_file)
                raise RunError(
                    f"log-file: {name} cannot be written ({reason})", ExitCode.REFUSED
                ) from error
            self._file.setFormatter(logging.Formatter(_FILE_FORMAT))
            self._handlers.append(self._file)

    def __enter__(self) -> Self:
        for handler in self._handlers:
            _LOGGER.addHandler(handler)
        if self._file is not None:
            _LOGGER.setLevel(logging.INFO)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:  # whoever catches it prints it
            self.record(one_line(str(error)) or type(error).__name__, logging.ERROR)
        _LOGGER.setLevel(self._level)
        for handler in self._handlers:
            _LOGGER.removeHandler(handler)
            handler.close()

    def record(self, text: str, level: int = logging.INFO) -> None:
        """Write one line to the log file only."""
        if self._file is not None:
            values = {"name": _LOGGER.name, "msg": printable(text), "levelno": level}
            values["levelname"] = logging.getLevelName(level)
            self._file.handle(logging.makeLogRecord(values))


def count_videos(number: int) -> str:
    """`1 video`, or `N videos`."""
    return f"{number} videos" if number != 1 else "1 video"


class _Stderr(logging.Handler):
    """Warnings as plain lines on the standard error of the moment; a bar may have replaced it."""

    def __init__(self, is_quiet: bool) -> None:
        super().__init__(logging.ERROR if is_quiet else logging.WARNING)

    def emit(self, record: logging.LogRecord) -> None:
        """Print the message."""
        print(self.format(record), file=sys.stderr, flush=True)
