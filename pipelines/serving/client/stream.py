"""A stream of the client: frames in, tracks out, through lost sockets and replicas."""

from __future__ import annotations

import json
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPException
from types import TracebackType
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket

from jde_ray.models.structures import Tracks
from jde_ray.pipelines.serving.client.calls import PASSING, Calls, ServiceError, is_hopeless
from jde_ray.pipelines.serving.client.images import Encoding, Image, check_encoding, encode

_KEPT = 64  # answered frames that are kept, in case a lost session needs them again
_NO_TRY = 0.0
_LOST = frozenset({"session_lost", "stream_ended", "no_such_stream"})
_POLICY_VIOLATION, _TOO_BIG = 1008, 1009  # a new socket would be closed in the same way


class ClientStream:
    """One open stream, and a context manager that ends it. `Client.stream` opens one.

    Attributes:
        name: Id of the stream.
        model: Version of the model that answers.
        num_answered: Frames whose tracks were returned.
        events: Events of places in the answers so far, as the service sent them, if it counts; the
            caller may empty the list. `close` adds those of the people who were still present.
    """

    def __init__(
        self,
        client: Calls,
        frames_per_second: float,
        encoding: Encoding,
        ahead: int,
        on_new_ids: Callable[[int], None] | None,
        camera: str = "",
    ) -> None:
        self.events: list[dict[str, Any]] = []
        check_encoding(encoding)
        self._camera = camera
        self.name, self.model, self.num_answered = "", "", 0
        # NumPy's numbers, as of a mean of times, are none for JSON
        self._client, self._frames_per_second = client, float(frames_per_second)
        self._encoding, self._ahead, self._on_new_ids = encoding, max(1, ahead), on_new_ids
        self._seq = 0  # of the next frame taken from the caller
        self._awaited = 0  # of the next answer
        self._cursor = 0  # of the next frame to send
        self._socket_next = 0  # number that the server assigns to a frame without one
        self._kept: OrderedDict[int, tuple[bytes, float | None]] = OrderedDict()
        self._in_flight: deque[int] = deque()
        self._socket: ClientConnection | None = None
        self._opened = ExitStack()  # closes the socket
        self._pause_until = _NO_TRY
        self._is_closed = False

    def open(self) -> None:
        """Open the stream, or a replacement whose frame 0 is the awaited frame."""
        wanted: dict[str, Any] = {"frames_per_second": self._frames_per_second}
        if self._camera:
            wanted["camera"] = self._camera
        opened = self._client.call("POST", "/v1/streams", wanted)
        self.name, self.model = opened["stream"], opened["model"]
        first = self._awaited
        self._kept = OrderedDict((n - first, kept) for n, kept in self._kept.items() if n >= first)
        self._seq, self._awaited, self._cursor = self._seq - first, 0, 0

    def __enter__(self) -> ClientStream:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream. If that fails, the service ends it once it has been idle."""
        self._is_closed = True
        self._disconnect()
        with suppress(ServiceError, OSError, HTTPException):
            ended = self._client.call_once("DELETE", f"/v1/streams/{self.name}")
            self.events += (ended or {}).get("events", [])

    def track(
        self, frames: Iterable[Image], times_s: Iterable[float] | None = None
    ) -> Iterator[Tracks]:
        """Send frames, and yield the tracks of each, in order.

        A call that is left before its end has taken frames that are still to be answered. The next
        call lets the service finish them, and leaves out their tracks.

        Args:
            frames: `(H, W, 3)` uint8 RGB of one size, or bytes of images.
            times_s: When each was taken, in seconds (Unix times too); None: frames follow at the
                stream's rate.

        Raises:
            ServiceError: If a frame is refused, the session is lost permanently, or the stream was
                closed.
            ValueError: If there are fewer times than frames, or a frame is not an image.
            OSError: If the service does not answer, or its certificate is not accepted.
        """
        source = _with_times(iter(frames), None if times_s is None else iter(times_s))
        num_left = self._seq - self._awaited  # by a call that was left
        for number, answer in enumerate(self._answers(source)):
            if number >= num_left:
                yield _tracks(answer)

    def _answers(self, source: Iterator[tuple[Image, float | None]]) -> Iterator[dict[str, Any]]:
        """The answers to all frames that wait for one, and to those of the source."""
        is_over = False
        since = time.monotonic()
        while True:
            if self._is_closed:  # a new one, which `on_new_ids` allows, would never be ended
                raise ServiceError("stream_ended", "the stream was closed; open a new one")
            is_over = is_over or self._take(source)
            if self._awaited == self._seq:
                return
            answer = None
            try:
                answer = self._exchange()
            except (ConnectionClosed, OSError) as broken:
                self._disconnect()
                self._check_hope(broken, since)
                time.sleep(0.2)
                continue
            except ServiceError as refused:
                if refused.error not in _LOST or self._on_new_ids is None:
                    raise
                self._disconnect()
                self.open()
                self._on_new_ids(self.num_answered)
            if answer is not None:
                since = time.monotonic()
                self.num_answered += 1
                self.events += answer.get("events", [])
                yield answer
            elif time.monotonic() - since > self._client.patience_s:
                raise ServiceError("unavailable", f"no answer within {self._client.patience_s} s")

    def _take(self, source: Iterator[tuple[Image, float | None]]) -> bool:
        """Take as many frames as may be sent; returns whether the source is at its end."""
        while self._seq - self._awaited < self._ahead:
            frame = next(source, None)
            if frame is None:
                return True
            image, taken_s = frame
            self._kept[self._seq] = (encode(image, self._encoding), taken_s)
            self._seq += 1
        return False

    def _check_hope(self, broken: ConnectionClosed | OSError, since: float) -> None:
        """Raise, unless another try may succeed soon."""
        if isinstance(broken, ConnectionClosed) and broken.rcvd is not None:
            code, reason = broken.rcvd.code, broken.rcvd.reason
            if code == _TOO_BIG:
                raise ServiceError("body_too_large", reason) from broken
            if code == _POLICY_VIOLATION and reason not in PASSING:
                error = reason if reason.isidentifier() else "invalid"
                raise ServiceError(error, reason) from broken
        if is_hopeless(broken):
            raise ConnectionError(self._client.explain(broken)) from broken
        if time.monotonic() - since > self._client.patience():
            text = f"the connection is lost ({self._client.explain(broken)})"
            raise ServiceError("unavailable", text) from broken

    def _exchange(self) -> dict[str, Any] | None:
        """Send what may be sent and read one answer; returns it if it is the awaited one."""
        socket = self._socket or self._connect()
        time.sleep(max(0.0, self._pause_until - time.monotonic()))
        while self._cursor < self._seq and len(self._in_flight) < self._ahead:
            self._send(socket)
        values: dict[str, Any] = json.loads(socket.recv())
        if not self._in_flight:  # a refusal of the whole socket
            raise ServiceError(values["error"], values["detail"], values.get("expected"))
        seq = self._in_flight.popleft()
        if "error" in values:
            if seq == self._awaited or values["error"] == "session_lost":
                self._refused(seq, values)
            return None
        if seq != self._awaited:
            return None  # the answer to a frame that was sent again
        self._awaited += 1
        while len(self._kept) > _KEPT + self._ahead and next(iter(self._kept)) < self._awaited:
            self._kept.popitem(last=False)
        return values

    def _send(self, socket: ClientConnection) -> None:
        image, taken_s = self._kept[self._cursor]
        said: dict[str, Any] = {} if taken_s is None else {"time_s": float(taken_s)}
        if self._cursor != self._socket_next:
            said["seq"] = self._cursor
        if said:
            socket.send(json.dumps(said))
        socket.send(image)
        self._in_flight.append(self._cursor)
        self._cursor += 1
        self._socket_next = self._cursor

    def _refused(self, seq: int, values: dict[str, Any]) -> None:
        """Go back to the frame that the service expects, or raise."""
        error, expected = values["error"], values.get("expected")
        if error in PASSING:
            self._pause_until = time.monotonic() + min(0.2, values.get("retry_after_s", 0.2))
            self._cursor = self._awaited
        elif error == "session_lost" and expected != seq and expected in self._kept:
            self._cursor = int(values["expected"])
        elif error == "sequence_gap" and expected is not None and expected <= self._awaited:
            self._cursor = self._awaited  # the frame before it was refused
        else:
            raise ServiceError(error, values["detail"], expected)

    def _connect(self) -> ClientConnection:
        url = "ws" + self._client.url.removeprefix("http")
        try:
            socket = self._opened.enter_context(
                open_socket(
                    f"{url}/v1/streams/{self.name}/ws",
                    additional_headers=self._client.headers(),
                    max_size=None,
                    compression=None,
                    ssl=self._client.context,
                )
            )
        except InvalidHandshake as error:  # the proxy answers, but not yet the service behind it
            raise OSError("the service is not ready") from error
        hello = json.loads(socket.recv())
        if "error" in hello:
            self._disconnect()
            if hello["error"] in PASSING:
                raise OSError(hello["detail"])
            raise ServiceError(hello["error"], hello["detail"], hello.get("expected"))
        self._socket_next = expected = hello["expected"]
        self._in_flight.clear()
        self._cursor = min(self._awaited, expected)
        if self._cursor < self._seq and self._cursor not in self._kept:
            text = f"the service has forgotten frames from {expected} on, and so has the client"
            raise ServiceError("session_lost", text, expected)
        self._socket = socket
        return socket

    def _disconnect(self) -> None:
        self._socket = None
        self._opened.close()


def _with_times(
    frames: Iterator[Image], times_s: Iterator[float] | None
) -> Iterator[tuple[Image, float | None]]:
    """Pair each frame with its time.

    Raises:
        ValueError: If there are fewer times than frames.
    """
    for number, image in enumerate(frames):
        taken_s = None if times_s is None else next(times_s, None)
        if times_s is not None and taken_s is None:
            raise ValueError(f"times_s: got {number}, expected one for each frame")
        yield image, taken_s


def _tracks(values: dict[str, Any]) -> Tracks:
    people = values["tracks"]
    return Tracks(
        np.array([person["track_id"] for person in people], np.int64),
        np.array([person["box"] for person in people], np.float64).reshape(-1, 4),
        np.array([person["score"] for person in people], np.float32),
        np.full(len(people), -1, np.int64),  # the service does not return detections
    )
