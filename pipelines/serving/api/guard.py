"""ASGI middleware that checks a request's headers before its body or any message is read.

It checks token, host, origin and announced size. To answers it adds the request's id and safe
headers; it writes one log line, and answers any unexpected error with a plain `internal`.
"""

from __future__ import annotations

import base64
import binascii
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from jde_ray.pipelines.serving.admission import Tokens
from jde_ray.pipelines.serving.admission_queue import AdmissionQueue
from jde_ray.pipelines.serving.config import Limits
from jde_ray.pipelines.serving.metrics import Metrics
from jde_ray.pipelines.serving.refusals import Cause, Refusal, too_large
from jde_ray.pipelines.serving.request_log import RequestLog

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger("ray.serve")  # Serve writes and rotates its lines

# the page asks for the token itself, and a browser could not send one for the description
OPEN_PATHS = frozenset({"/", "/docs", "/healthz", "/readyz"})
SUBPROTOCOL = "jde"
_BEARER_SUBPROTOCOL = "bearer."
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_REQUEST_ID = re.compile(r"[\w.\-]{1,64}\Z", re.ASCII)
_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
)
_DETECT_PATH = "/v1/detect"
_POLICY_VIOLATION = 1008
_MAX_DIGITS = 15
_MAX_STREAM = 64  # letters


@dataclass
class Guard:
    """Checks every call before `app` sees it.

    Attributes:
        app: The application that it protects.
        tokens: The accepted tokens.
        limits: Limits on the size of bodies.
        metrics: Receives the counts of calls.
        queue: The queue of frames. A call to detect that would find it full is refused here:
            under overload most are, and refusing them later would cost more.
        calls: Pattern of each path, and the name of its calls in metrics and in the request log.
        log: Receives a line per call.
        insecure: Without tokens, accept clients and hosts other than this machine too.
    """

    app: App
    tokens: Tokens
    limits: Limits
    metrics: Metrics
    queue: AdmissionQueue
    calls: Sequence[tuple[re.Pattern[str], str]]
    log: RequestLog = field(default_factory=RequestLog)
    insecure: bool = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refusal, or pass the call on with `owner` and `request_id` in its state."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        request = _Request(scope, send, self.metrics)
        try:
            scope.setdefault("state", {})
            scope["state"]["request_id"] = request.request_id
            scope["state"]["owner"] = self._admit(scope, request.headers)
            await self.app(scope, receive, request.send)
        except Refusal as refusal:
            await request.refuse(refusal)
        except Exception:
            logger.exception("request %s failed", request.request_id)
            await request.refuse(internal(request.request_id))
        finally:
            request.log(self.log, *self._call(scope["path"]))

    def _call(self, path: str) -> tuple[str, dict[str, str]]:
        """Name of the call, and the parameters in its path."""
        for shape, name in self.calls:
            if (found := shape.match(path)) is not None:
                return name, found.groupdict()
        return "other", {}

    def _admit(self, scope: Scope, headers: dict[str, str]) -> str:
        """The owner that the caller's token stands for.

        Raises:
            Refusal: If the call is not allowed, or a call to detect finds the queue full.
        """
        if not self.tokens.are_asked_for and not self.insecure:
            self._check_local(scope, headers)
        _check_origin(headers)
        if scope["type"] == "http" and "content-length" in headers:
            length = headers["content-length"]
            if not length.isdecimal():
                raise Refusal(Cause.BAD_REQUEST, "content-length: expected a whole number")
            if len(length) > _MAX_DIGITS or int(length) > self.limits.max_body_bytes:
                raise too_large(self.limits.max_body_bytes)
        if scope["path"] in OPEN_PATHS:
            return ""
        owner = self.tokens.owner(_token(scope, headers))
        if scope["path"] == _DETECT_PATH and scope.get("method") == "POST":
            self.queue.check(owner)
        return owner

    @staticmethod
    def _check_local(scope: Scope, headers: dict[str, str]) -> None:
        """Accept, without tokens, only this machine, and only under a name of this machine.

        The second condition keeps out web pages whose own name resolves to this machine.
        """
        client = scope.get("client")
        name = _host_name(headers.get("host", ""))
        if (client and client[0] not in (*_LOOPBACK, "testclient")) or name not in _LOOPBACK:
            text = "without a token file only this machine is served, as localhost or 127.0.0.1"
            raise Refusal(Cause.FOREIGN_HOST, text)


class _Request:
    """One request: its headers, the status of its answer, and its log line."""

    def __init__(self, scope: Scope, send: Send, metrics: Metrics) -> None:
        self._scope, self._send, self._metrics = scope, send, metrics
        self._started_s = time.perf_counter()
        self._status: int | None = None
        self.headers = {
            name.decode("latin-1").lower(): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        given = self.headers.get("x-request-id", "")
        self.request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex

    async def send(self, message: Message) -> None:
        """Pass a message on, with safe headers."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            headers = list(message.get("headers", ()))
            known = {name.lower() for name, _ in headers}
            headers += [pair for pair in _SAFE_HEADERS if pair[0] not in known]
            if b"x-request-id" not in known:
                headers.append((b"x-request-id", self.request_id.encode()))
            message = {**message, "headers": headers}
        elif message["type"] == "websocket.accept":
            self._status = 101
        elif message["type"] == "websocket.close" and self._status is None:
            self._status = 403
        await self._send(message)

    async def refuse(self, refusal: Refusal) -> None:
        """Answer with a refusal, unless an answer has begun."""
        if self._status is not None:
            return
        self._metrics.count("jde_refusals", refusal.cause.error)
        self._scope["state"]["error"] = refusal.cause.error
        if self._scope["type"] == "websocket":
            # accepted first, so that the client learns why: a bare 403 carries no text
            await self.send({"type": "websocket.accept", "subprotocol": subprotocol(self._scope)})
            await self.send({"type": "websocket.send", "text": refusal.to_json().decode()})
            reason = refusal.cause.error
            close = {"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": reason}
            await self.send(close)
            self._status = refusal.cause.status
            return
        headers = [(k.encode(), v.encode()) for k, v in refusal.headers().items()]
        status = refusal.cause.status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": refusal.to_json()})

    def log(self, log: RequestLog, call: str, parameters: dict[str, str]) -> None:
        """Count the call, and write its log line, with a digest in place of the token."""
        path, seconds = self._scope["path"], time.perf_counter() - self._started_s
        status = self._status or 499  # the client went away before an answer
        self._metrics.count("jde_requests", call, str(status))
        self._metrics.observe_call(call, str(status), seconds)
        if call in ("frame", "detect"):
            self._metrics.observe("call", seconds)
        client, state = self._scope.get("client"), self._scope["state"]
        stream, seq = parameters.get("stream", ""), parameters.get("seq", "")
        line = {
            "request_id": self.request_id,
            "client": None if client is None else client[0],
            "token": state.get("owner") or None,
            "call": call,
            "method": self._scope.get("method", "WS"),
            "path": path[:200],
            "stream": stream if 0 < len(stream) <= _MAX_STREAM else None,
            "seq": int(seq) if seq.isdecimal() and len(seq) <= _MAX_DIGITS else None,
            "status": status,
            "error": state.get("error"),
            "frames": state.get("num_frames"),
            "ms": round(1000 * seconds, 1),
        }
        log.add({name: value for name, value in line.items() if value is not None})


def internal(request_id: str) -> Refusal:
    """The refusal after an unexpected error, without any detail of it."""
    text = f"the service failed; its log has more under {request_id}"
    return Refusal(Cause.INTERNAL, text)


def subprotocol(scope: Scope) -> str | None:
    """The subprotocol to answer with: browsers expect one that they offered."""
    return SUBPROTOCOL if SUBPROTOCOL in scope.get("subprotocols", ()) else None


def _token(scope: Scope, headers: dict[str, str]) -> str | None:
    """The token in the header, or in the subprotocol, as browsers set no headers on sockets."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and given:
        return given.strip()
    for offered in scope.get("subprotocols", ()):
        if offered.startswith(_BEARER_SUBPROTOCOL):
            text = offered.removeprefix(_BEARER_SUBPROTOCOL)
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
            except (binascii.Error, UnicodeDecodeError):
                return ""
    return None


def _check_origin(headers: dict[str, str]) -> None:
    """Refuse pages of other sites, for which browsers open sockets and send plain posts.

    Raises:
        Refusal: `foreign_host`.
    """
    origin = headers.get("origin")
    if origin is None:
        return
    try:
        host = urlsplit(origin).netloc
    except ValueError:  # brackets without an address between them
        host = ""
    if not host or host != headers.get("host"):
        raise Refusal(Cause.FOREIGN_HOST, "origin: expected a page of this service")


def _host_name(host: str) -> str:
    """Name of a `Host` header, without its port and brackets."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
