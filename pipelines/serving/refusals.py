"""Every way in which a call is refused: a closed list, each with its HTTP status.

A refusal is the JSON `{"error", "detail"}`, with `"expected"` where it helps: the number of the
frame that the stream continues with.
"""

from __future__ import annotations

import json
from enum import Enum
from typing import Any


class Cause(Enum):
    """Name in the answer, and HTTP status."""

    BAD_REQUEST = ("bad_request", 400)
    NO_TOKEN = ("no_token", 401)
    WRONG_TOKEN = ("wrong_token", 403)
    FOREIGN_HOST = ("foreign_host", 403)
    NOT_FOUND = ("not_found", 404)
    NO_SUCH_STREAM = ("no_such_stream", 404)
    METHOD_NOT_ALLOWED = ("method_not_allowed", 405)
    BODY_TOO_SLOW = ("body_too_slow", 408)
    SEQUENCE_GAP = ("sequence_gap", 409)
    OLD_FRAME = ("old_frame", 409)
    SESSION_LOST = ("session_lost", 409)
    STREAM_ENDED = ("stream_ended", 410)
    BODY_TOO_LARGE = ("body_too_large", 413)
    TOO_MANY_PIXELS = ("too_many_pixels", 413)
    TOO_MANY_SCANS = ("too_many_scans", 413)
    UNSUPPORTED_TYPE = ("unsupported_type", 415)
    BAD_IMAGE = ("bad_image", 422)
    IMAGE_TOO_SLOW = ("image_too_slow", 422)
    SIZE_CHANGED = ("size_changed", 422)
    INVALID = ("invalid", 422)
    TOO_MANY_STREAMS = ("too_many_streams", 429)
    TOO_MANY_FRAMES = ("too_many_frames", 429)
    INTERNAL = ("internal", 500)
    OVERLOADED = ("overloaded", 503)
    UNAVAILABLE = ("unavailable", 503)

    def __init__(self, error: str, status: int) -> None:
        self.error = error
        self.status = status


class Refusal(Exception):  # noqa: N818  it is an answer
    """A call that is not answered.

    Args:
        cause: One of the closed list.
        detail: One line: `x: got A, expected B`. It names no path and no secret.
        expected: Number of the stream's next frame; None where the refusal is not about that.
        retry_after_s: Seconds after which to try again; None where that would not help.
    """

    def __init__(
        self,
        cause: Cause,
        detail: str,
        *,
        expected: int | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(cause, detail)
        self.cause = cause
        self.detail = " ".join(detail.split())
        self.expected = expected
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.cause.name, self.detail, self.expected, self.retry_after_s)

    def __str__(self) -> str:
        return f"{self.cause.error}: {self.detail}"

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        values: dict[str, Any] = {"error": self.cause.error, "detail": self.detail}
        if self.expected is not None:
            values["expected"] = self.expected
        return values

    def to_json(self) -> bytes:
        """The body of the answer as JSON bytes."""
        return json.dumps(self.to_dict()).encode()

    def headers(self) -> dict[str, str]:
        """The headers of the answer."""
        headers = {"content-type": "application/json"}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after_s)))
        if self.cause is Cause.NO_TOKEN:
            headers["www-authenticate"] = "Bearer"
        return headers


def _rebuild(name: str, detail: str, expected: int | None, retry_after_s: float | None) -> Refusal:
    return Refusal(Cause[name], detail, expected=expected, retry_after_s=retry_after_s)


CHANGING = Refusal(Cause.UNAVAILABLE, "the service is changing", retry_after_s=1)


def too_large(most: int) -> Refusal:
    """The refusal of a body of more than `most` bytes."""
    return Refusal(Cause.BODY_TOO_LARGE, f"body: got more, expected at most {most} bytes")
