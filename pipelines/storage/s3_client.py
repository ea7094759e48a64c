"""Calls to S3 that end: retried with jitter until a deadline, and errors that say what was asked.

Endpoint, region, credentials and profile are those of the usual AWS environment, files or
instance role. `configure` sets an endpoint for this process and, through the environment, for
processes started later.
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

ENDPOINT_VARIABLE = "AWS_ENDPOINT_URL_S3"  # boto3 reads it itself
DEADLINE_VARIABLE = "JDE_STORAGE_DEADLINE_S"  # of a call with all its tries
TIMEOUT_VARIABLE = "JDE_STORAGE_TIMEOUT_S"  # of a connection that says nothing
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
    """A store that does not answer, or answers with errors, until the deadline."""


def configure(endpoint: str | None) -> None:
    """Use this endpoint from now on; None leaves things as they are.

    Raises:
        ValueError: If it is no http address.
    """
    if endpoint is None:
        return
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"s3-endpoint: got {endpoint!r}, expected http(s)://HOST[:PORT]")
    os.environ[ENDPOINT_VARIABLE] = endpoint


def expect_first_contact() -> None:
    """Give up after some seconds where nobody answers, until a store has answered once.

    For the process that a user has started: a mistyped address is told soon. Workers, which may be
    started while a store is away, are patient from the first call on.
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
    session = Session()  # the default one keeps the first credentials it found
    region = session.region_name or "us-east-1"  # stores beside AWS have none
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
    """Seconds that a call with all its tries may take."""
    return _seconds(DEADLINE_VARIABLE, _DEADLINE_S)


def call(what: str, request: Callable[[], R]) -> R:
    """Do a request until it succeeds, fails for good, or the deadline is over.

    429, 500, 503 and their like, resets, stalls and cut bodies are tried again after a random
    pause that doubles. 403 and 404 are not.

    Args:
        what: For messages, such as `get s3://bucket/key`.
        request: Repeatable.

    Raises:
        FileNotFoundError: There is no such object or bucket.
        PermissionError: It may not be read or written, or there are no credentials.
        ConditionError: A condition of the request does not hold.
        StorageError: Anything else, also when the deadline is over.
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
            # full jitter: many workers that failed together do not come back together
            pause = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2 ** min(tries, 10))
            pause *= random.random()  # noqa: S311
            spent = time.monotonic() - started
            again = spent + pause
            if _unmet.is_set():
                limit = min(limit, _FIRST_CONTACT_S)
                again += time.monotonic() - begun  # the next try takes as long
            if again >= limit:
                _broken.set()
                is_lost = is_away or (_is_silent(error) and _unmet.is_set())
                reason = f"nobody answers at {_address()}" if is_lost else _short(error)
                text = f"{what}: {reason} after {tries} tries in {spent:.0f} s"
                raise StorageError(text) from error
            time.sleep(pause)


class ConditionError(OSError):
    """The object is not, or not any more, what the request asked for (412)."""


def _final(what: str, error: Exception) -> OSError | None:
    """The error to raise at once; None for one that may pass."""
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
    if isinstance(error, BotoCoreError):  # a name that no bucket can have, and such
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
    """No connection came about: nobody is at the address, or not at the moment."""
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
    """Resets and time-outs while a body is read reach us as they are."""
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
