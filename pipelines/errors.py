"""Why a video failed (a closed list), and the exit codes of the command."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Any


def one_line(text: str) -> str:
    r"""A message in one line, in which file names cannot control a terminal or break the line.

    >>> print(one_line("no such file:\n a\x1b[2J\0.mp4"))
    no such file: a\x1b[2J\x00.mp4
    """
    return printable(" ".join(text.split()))


def printable(text: str) -> str:
    """The text with unprintable characters escaped: control characters, changes of direction."""
    if text.isprintable():
        return text
    shown = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return "".join(shown)


class Reason(StrEnum):
    """Why a video has no tracks. Written to `errors/<video_id>.json`."""

    NOT_FOUND = "not_found"
    ACCESS_DENIED = "access_denied"
    CHANGED_DURING_READ = "changed_during_read"
    STORAGE = "storage"
    BAD_KEY = "bad_key"
    DECODE = "decode"
    NO_VIDEO_STREAM = "no_video_stream"
    UNSUPPORTED_FORMAT = "unsupported_format"
    UNSUPPORTED_CODEC = "unsupported_codec"
    ENCRYPTED = "encrypted"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    WORKER_DIED = "worker_died"
    OUT_OF_MEMORY = "oom"
    NON_FINITE_OUTPUT = "non_finite_output"
    INTERNAL = "internal"


# These do not depend on a video's content, so the next attempt may succeed. Existing tracks are
# kept when a video fails for one of them.
PASSING = frozenset(
    {
        Reason.NOT_FOUND,
        Reason.ACCESS_DENIED,
        Reason.CHANGED_DURING_READ,
        Reason.STORAGE,
        Reason.WORKER_DIED,
        Reason.OUT_OF_MEMORY,
        Reason.INTERNAL,
    }
)

# Damage of a file, before which frames may have been read (`--keep-partial`).
DAMAGE = frozenset({Reason.TRUNCATED, Reason.DECODE})


class VideoError(Exception):
    """One video cannot be tracked; the run continues.

    Args:
        reason: Reason from the closed list.
        detail: One line for the user, with the value and what was expected.
        frame: 0-based frame at which it happened; None if unknown.
    """

    def __init__(self, reason: Reason, detail: str, frame: int | None = None) -> None:
        super().__init__(reason, detail, frame)  # all three, for pickling
        self.reason = reason
        self.detail = one_line(detail)
        self.frame = frame

    def __str__(self) -> str:
        where = "" if self.frame is None else f" (frame {self.frame})"
        return f"{self.reason}: {self.detail}{where}"

    @staticmethod
    def of_text(text: str) -> VideoError:
        """An error with this text, which is that of another one (ValueError: of none)."""
        reason, _, detail = text.partition(": ")
        return VideoError(Reason(reason), detail)


class CutShortError(VideoError):
    """Damage that ends a video; all frames before it were read, none is missing among them."""

    @staticmethod
    def if_damage(error: VideoError, frame: int | None = None) -> VideoError:
        """The error as this one if it is damage, with the number of frames before it."""
        if error.reason not in DAMAGE:
            return error
        return CutShortError(error.reason, error.detail, error.frame if frame is None else frame)


class RunError(Exception):
    """The run is refused or ends early: a message of one line and the exit code."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message, exit_code)
        self.exit_code = exit_code

    def __str__(self) -> str:
        return one_line(str(self.args[0]))


class ExitCode(IntEnum):
    """Exit status of every `jde` command (docs/architecture.md, "Exit codes")."""

    DONE = 0
    INTERNAL = 1
    REFUSED = 2  # usage, configuration or checkpoint; no source at all
    SOME_FAILED = 3
    OTHER_CONFIGURATION = 4
    INTERRUPTED = 130
    TERMINATED = 143


def error_to_dict(error: VideoError | None) -> dict[str, Any] | None:
    """Plain values of an error: reason, detail, frame."""
    if error is None:
        return None
    return {"reason": str(error.reason), "detail": error.detail, "frame": error.frame}


def error_from_dict(values: dict[str, Any] | None) -> VideoError | None:
    """Inverse of `error_to_dict`."""
    if values is None:
        return None
    return VideoError(Reason(values["reason"]), values["detail"], values["frame"])
