"""Tokens, compared in constant time, and the rate of frames per token."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from jde_ray.pipelines.serving.refusals import Cause, Refusal

OPEN_OWNER = "everybody"  # owner of all streams if no token is required
_TOKEN = re.compile(r"[\x21-\x7e]{16,512}\Z")


def read_tokens(path: str) -> tuple[str, ...]:
    """The tokens of a file, one per line; skips empty lines and lines that begin with #.

    Raises:
        ValueError: If it cannot be read, or holds no token or a malformed one (not quoted).
    """
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no ASCII text"
        raise ValueError(f"token-file: {path} cannot be read ({reason})") from error
    tokens = []
    for number, line in enumerate(lines, 1):
        token = line.strip()
        if not token or token.startswith("#"):
            continue
        if not _TOKEN.match(token):
            raise ValueError(
                f"token-file: line {number} of {path} is no token, expected 16 to 512 "
                "visible ASCII characters"
            )
        tokens.append(token)
    if not tokens:
        raise ValueError(f"token-file: {path} holds no token, expected one per line")
    return tuple(tokens)


class Tokens:
    """The accepted tokens; without any, every caller is accepted.

    Args:
        tokens: As `read_tokens` returns them.
    """

    def __init__(self, tokens: tuple[str, ...] = ()) -> None:
        self._digests = [hashlib.sha256(token.encode()).digest() for token in tokens]

    @property
    def are_asked_for(self) -> bool:
        """Whether a token is needed."""
        return bool(self._digests)

    def owner(self, given: str | None) -> str:
        """The owner that a token stands for: a digest of it.

        Every accepted token is compared, at full length, so that the time reveals nothing.

        Raises:
            Refusal: `no_token` or `wrong_token`.
        """
        if not self._digests:
            return OPEN_OWNER
        if given is None:
            raise Refusal(Cause.NO_TOKEN, "a token is needed: Authorization: Bearer TOKEN")
        digest = hashlib.sha256(given.encode()).digest()
        matches = [hmac.compare_digest(digest, known) for known in self._digests]
        if not any(matches):
            raise Refusal(Cause.WRONG_TOKEN, "the token is not accepted")
        return digest.hex()[:16]


class Rates:
    """A token bucket per owner, which fills at the rate and holds the frames of one second.

    Args:
        per_second: Frames per second.
        clock: Returns monotonic seconds.
        max_owners: Number of owners whose buckets are kept.
    """

    def __init__(
        self,
        per_second: float,
        clock: Callable[[], float] = time.monotonic,
        max_owners: int = 10_000,
    ) -> None:
        self._rate, self._clock, self._max_owners = per_second, clock, max_owners
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, owner: str) -> None:
        """Count a frame.

        Raises:
            Refusal: `too_many_frames`.
        """
        size, now = max(1.0, self._rate), self._clock()
        level, since = self._buckets.pop(owner, (size, now))
        level = min(size, level + (now - since) * self._rate)
        taken = level >= 1
        self._buckets[owner] = (level - taken, now)
        while len(self._buckets) > self._max_owners:
            self._buckets.popitem(last=False)
        if not taken:
            text = f"expected {self._rate:g} frames per second and token"
            raise Refusal(Cause.TOO_MANY_FRAMES, text, retry_after_s=(1 - level) / self._rate)
