"""Calls to S3 with retries, jitter and a deadline; errors name the request.

Endpoint, region, credentials and profile come from the usual AWS environment, files or instance
role. `configure` sets an endpoint for this process and, through the environment, for processes
started later.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

R = TypeVar("R")

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_S3"  # read by boto3
DEADLINE_VARIABLE = "JDE_STORAGE_DEADLINE_S"  # limit of a call with all its retries
TIMEOUT_VARIABLE = "JDE_STORAGE_TIMEOUT_S"  # limit of a silent connection
_DEADLINE_S, _TIMEOUT_S = 120.0, 20.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 8.0

_RETRIED_STATUS = frozenset({409, 429, 500, 502, 503, 504})
_RETRIED_CODES = frozenset({"RequestTimeout", "SlowDown", "InternalError", "BadDigest"})

_BROKEN_S = 5.0  # limit of a call to a store that has let the last one down
# How long a command tries to reach a store that it has not met yet, and waits for its connection
# and its answer: with the start of Python a mistyped address is told within ten seconds.
_FIRST_CONTACT_S, _FIRST_CONNECTION_S, _FIRST_ANSWER_S = 6.0, 3.0, 5.0

_lock = threading.Lock()
_broken = threading.Event()  # the last call came to its deadline: the next ones give up sooner
_unmet = threading.Event()  # a user waits, and no store has answered yet: its address may be wrong
_clients: dict[tuple[int, str | None, bool], Any] = {}


class StorageError(OSError):
    """A store did not answer, or answered only with errors, until the deadline."""


def configure(endpoint: str | None) -> None:
    """Use this endpoint from now on; None changes nothing.

    Raises:
        ValueError: If it is not an http address.
    """
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"s3-endpoint: got {endpoint!r}, expected http(s)://HOST[:PORT]")
    os.environ[ENDPOINT_VARIABLE] = endpoint


def expect_first_contact() -> None:
    """Give up after a few seconds without an answer, until a store has answered once.

    For the process that a user starts, so that a mistyped address is reported soon. Workers may
    start while a store is down, so they wait until the deadline from the first call on.
    """
    _unmet.set()


def client() -> Any:
    """The boto3 client of this process and endpoint; it may be shared by threads."""
    is_unmet = _unmet.is_set()
    place = (os.getpid(), os.environ.get(ENDPOINT_VARIABLE), is_unmet)
    with _lock:
        if place not in _clients:
            _clients[place] = _build_client(is_unmet)
        return _clients[place]


def _build_client(is_unmet: bool) -> Any:
    from boto3.session import Session
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError

    timeout = _seconds(TIMEOUT_VARIABLE, _TIMEOUT_S)
    config = Config(
        connect_timeout=min(timeout, _FIRST_CONNECTION_S if is_unmet else 10.0),
        read_timeout=min(timeout, _FIRST_ANSWER_S) if is_unmet else timeout,
        retries={"total_max_attempts": 1},  # ours have a deadline
        request_checksum_calculation="when_required",  # stores beside AWS refuse the trailers
        response_checksum_validation="when_required",
    )
    session = Session()  # the default session keeps the first credentials it finds
    region = session.region_name or "us-east-1"  # other stores than AWS have no region
    try:
        return session.client("s3", config=config, region_name=region)
    except (BotoCoreError, ValueError) as error:
        raise StorageError(f"s3: {error}") from error


def _seconds(variable: str, default: float) -> float:
    try:
        return max(0.1, float(os.environ.get(variable, default)))
    except ValueError:
        return default


def deadline_s() -> float:
    """Seconds that a call may take with all its retries."""
    return _seconds(DEADLINE_VARIABLE, _DEADLINE_S)


def call(what: str, request: Callable[[], R]) -> R:
    """Repeat a request until it succeeds, fails permanently, or reaches the deadline.

    Responses such as 429, 500 and 503, resets, stalls and truncated bodies are retried after a
    random pause whose range doubles; 403 and 404 are not.

    Args:
        what: Name of the request for error messages, such as `get s3://bucket/key`.
        request: Function that does the request; it is called repeatedly.

    Raises:
        FileNotFoundError: If the object or bucket does not exist.
        PermissionError: If access is denied or there are no credentials.
        ConditionError: If a condition of the request does not hold.
        StorageError: For any other failure, and at the deadline.
    """
    limit = deadline_s()
    if _broken.is_set():
        limit = min(limit, _BROKEN_S)
    started, tries = time.monotonic(), 0
    while True:
        tries += 1
        begun = time.monotonic()
        try:
            answer = request()
            _broken.clear()
            _unmet.clear()
            return answer
        except Exception as error:
            final = _final(what, error)
            is_away = _nobody_listens(error)
            if not (is_away or _is_silent(error) or _is_nameless(error)):
                _unmet.clear()
            if final is not None:
                raise final from error
            # full jitter: workers that failed together do not retry together
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(tries, 10))
            pause *= random.random()  # noqa: S311
            spent = time.monotonic() - started
            again = spent + pause
            if _unmet.is_set():
                limit = min(limit, _FIRST_CONTACT_S)
                again += time.monotonic() - begun  # assume that the next try takes as long
            if again >= limit:
                _broken.set()
                is_lost = is_away or (_is_silent(error) and _unmet.is_set())
                reason = f"no answer from {_address()}" if is_lost else _short(error)
                text = f"{what}: {reason} after {tries} tries in {spent:.0f} s"
                raise StorageError(text) from error
            time.sleep(pause)


class ConditionError(OSError):
    """The object does not, or no longer, meet the condition of the request (412)."""


def _final(what: str, error: Exception) -> OSError | None:
    """The error to raise at once; None if a retry may succeed."""
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        HTTPClientError,
        IncompleteReadError,
        NoCredentialsError,
        PartialCredentialsError,
        ResponseStreamingError,
    )
    from botocore.parsers import ResponseParserError

    if isinstance(error, ClientError):
        status, code = _answer(error)
        if status in _RETRIED_STATUS or code in _RETRIED_CODES:
            return None
        kind = {404: FileNotFoundError, 403: PermissionError, 401: PermissionError}
        kind |= {412: ConditionError}
        meaning = f"{_MEANINGS[code]} " if code in _MEANINGS else ""
        said = f"{meaning}({_said(status, code)})" if meaning else _said(status, code)
        if code in ("", str(status)) and not what.startswith("head "):  # S3 gives its errors names
            said += f"; is {_address()} an S3 store?"
        return kind.get(status, StorageError)(f"{what}: {said}")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return PermissionError(f"{what}: no AWS credentials; set them, a profile, or a role")
    passing = (HTTPClientError, IncompleteReadError, ResponseStreamingError)
    if isinstance(error, passing) or _nobody_listens(error):
        return None
    if isinstance(error, BotoCoreError):  # for example an invalid bucket name
        return StorageError(f"{what}: {error}")
    if _is_transport(error):
        return None
    if isinstance(error, ResponseParserError):
        return no_store(what)
    raise error


def no_store(what: str) -> StorageError:
    """The error for an answer that no S3 store gives, such as a web page."""
    return StorageError(f"{what}: {_address()} answers, but not as an S3 store")


_MEANINGS = {
    "AccessDenied": "no permission",
    "SignatureDoesNotMatch": "the secret key is not that of the access key",
    "InvalidAccessKeyId": "no such access key",
    "ExpiredToken": "the credentials have expired",
    "NoSuchBucket": "no such bucket",
}


def _nobody_listens(error: Exception) -> bool:
    """Whether no connection was established: nothing listens at the address."""
    from botocore.exceptions import (
        ConnectTimeoutError,
        EndpointConnectionError,
        ProxyConnectionError,
    )

    kinds = (ConnectTimeoutError, EndpointConnectionError, ProxyConnectionError)
    return isinstance(error, kinds)


def _is_silent(error: Exception) -> bool:
    """A connection came about, and no answer."""
    from botocore.exceptions import ReadTimeoutError

    return isinstance(error, ReadTimeoutError)


def _address() -> str:
    return os.environ.get(ENDPOINT_VARIABLE) or os.environ.get("AWS_ENDPOINT_URL") or "AWS S3"


def _is_transport(error: Exception) -> bool:
    """Whether it is a reset or time-out while reading a body, which boto3 does not wrap."""
    import urllib3

    return isinstance(error, ConnectionError | TimeoutError | urllib3.exceptions.HTTPError)


def _answer(error: Any) -> tuple[int, str]:
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status, str(error.response.get("Error", {}).get("Code", ""))


def _said(status: int, code: str) -> str:
    return str(status) if code in ("", str(status)) else f"{status} {code}"


def _is_nameless(error: Exception) -> bool:
    """A 500 without the name of an error, which boto also makes of a web page."""
    return bool(getattr(error, "response", None)) and _answer(error) in ((500, ""), (500, "500"))


def _short(error: Exception) -> str:
    if getattr(error, "response", None):
        question = f"; is {_address()} an S3 store?" if _is_nameless(error) else ""
        return _said(*_answer(error)) + question
    return type(error).__name__
