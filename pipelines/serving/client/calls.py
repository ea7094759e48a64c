"""Single calls of the client, tried again while that may help."""

from __future__ import annotations

import json
import ssl
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any

# causes that may be gone at a later try
PASSING = frozenset({"overloaded", "unavailable", "too_many_frames", "too_many_streams"})

# what OpenSSL calls the answer of a server that does not speak TLS
_NO_TLS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})


class ServiceError(Exception):
    """The service has refused a call.

    Attributes:
        error: Name of the cause, such as `session_lost`.
        detail: One line of text.
        expected: Number of the stream's next frame, None where the refusal is not about that.
    """

    def __init__(self, error: str, detail: str, expected: int | None = None) -> None:
        super().__init__(error, detail, expected)
        self.error, self.detail, self.expected = error, detail, expected

    def __str__(self) -> str:
        return f"{self.error}: {self.detail}"


@dataclass
class Calls:
    """Calls to one service; the fields are the arguments of `connection.connect`.

    Attributes:
        has_answered: Whether the service has answered yet.
    """

    url: str
    token: str | None = field(default=None, repr=False)
    patience_s: float = 60.0
    connect_s: float = 5.0
    context: ssl.SSLContext | None = None
    has_answered: bool = field(default=False, init=False)

    def call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> Any:
        """The JSON answer to a call, tried again while the service is busy or away.

        Raises:
            ServiceError: If it is refused.
            OSError: If the service does not answer.
        """
        since = time.monotonic()
        while True:
            wait_s = 1.0
            try:
                return self.call_once(method, path, body)
            except ServiceError as refused:
                if refused.error not in PASSING or time.monotonic() - since > self.patience_s:
                    raise
                wait_s = 0.2
            except (OSError, HTTPException) as broken:  # the second means an answer that was cut
                if is_hopeless(broken) or time.monotonic() - since > self.patience():
                    raise ConnectionError(self.explain(broken)) from broken
            time.sleep(max(0.0, min(wait_s, since + self.patience() - time.monotonic())))

    def patience(self) -> float:
        """Seconds to wait for a service that does not answer."""
        return self.patience_s if self.has_answered else min(self.connect_s, self.patience_s)

    def explain(self, broken: BaseException) -> str:
        """One line that says that the service does not answer, and why."""
        reason = _cause(broken)
        if isinstance(reason, ssl.SSLCertVerificationError):
            return (
                f"the certificate of {self.url} is not accepted ({reason.verify_message}), "
                "expected one for this name by an authority of ca_file or ssl_context"
            )
        if isinstance(reason, ssl.SSLError) and reason.reason in _NO_TLS:
            return f"no TLS at {self.url} ({reason.reason}), expected another port, or http://"
        text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
        return f"no service at {self.url}: {text}"

    def call_once(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> Any:
        """The JSON answer to a call, tried once.

        Raises:
            ServiceError: If it is refused.
            OSError: If the service does not answer.
            HTTPException: If the answer is cut.
        """
        headers = dict(self.headers())
        if body is not None:
            is_image = isinstance(body, bytes)
            headers["content-type"] = "application/octet-stream" if is_image else "application/json"
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(  # noqa: S310 - the user's own URL, checked in `connect`
            self.url + path, content, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60, context=self.context) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as refused:
            error = _error(refused.read(), refused.code)
            self.has_answered = True
            raise error from None
        self.has_answered = True
        return json.loads(text) if text else None

    def headers(self) -> dict[str, str]:
        """Headers of every call."""
        return {} if self.token is None else {"authorization": f"Bearer {self.token}"}


def is_hopeless(broken: BaseException) -> bool:
    """Whether a second try would fail in the same way: certificates, TLS where there is none."""
    cause = _cause(broken)
    passing = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    return isinstance(cause, ssl.SSLError) and not isinstance(cause, passing)


def _cause(broken: BaseException) -> BaseException:
    """What urllib has wrapped, else the error itself."""
    reason = broken.reason if isinstance(broken, urllib.error.URLError) else None
    return reason if isinstance(reason, BaseException) else broken


def _error(text: bytes, status: int) -> ServiceError:
    try:
        values = json.loads(text)
        return ServiceError(values["error"], values["detail"], values.get("expected"))
    except (ValueError, KeyError, TypeError):
        name = "unavailable" if status >= 500 else "bad_request"
        return ServiceError(name, f"the service answered with status {status}")
