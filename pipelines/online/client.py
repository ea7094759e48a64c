"""A small client of the service: frames in, tracks out, through lost connections and replicas.

```python
from pipelines.online import connect

with connect("http://127.0.0.1:8000", token).stream(frames_per_second=25) as stream:
    for tracks in stream.track(frames):  # (H, W, 3) uint8 RGB, or bytes of a JPEG, PNG or WebP
        print(tracks.track_id, tracks.tlbr)
```
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import ClientConnection
from websockets.sync.client import connect as open_socket

from models.structures import Detections, Tracks

Image = NDArray[np.uint8] | bytes
Encoding = Literal["png", "jpeg"]

_KEPT = 64  # frames answered that are kept, in case a session has to be repeated from there
_PASSING = frozenset({"overloaded", "unavailable", "too_many_frames", "too_many_streams"})
_NO_TRY = 0.0
_QUICK_PNG = (cv2.IMWRITE_PNG_COMPRESSION, 1)
# With colours at full resolution and quality 95 boxes move half as far from those of PNG frames as
# with OpenCV's halved colours: small people are then seen first in the same frame, and numbered so.
_FINE_JPEG = (
    *(cv2.IMWRITE_JPEG_QUALITY, 95),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
)


class ServiceError(Exception):
    """The service has refused a call.

    Attributes:
        error: Name of the cause, such as `session_lost`.
        detail: One line of text.
        expected: Number of the frame that the stream goes on with, where it was told.
    """

    def __init__(self, error: str, detail: str, expected: int | None = None) -> None:
        super().__init__(error, detail, expected)
        self.error, self.detail, self.expected = error, detail, expected

    def __str__(self) -> str:
        return f"{self.error}: {self.detail}"


def connect(
    url: str = "http://127.0.0.1:8000", token: str | None = None, *, patience_s: float = 60.0
) -> Client:
    """A client of the service at `url`; nothing is sent yet.

    Args:
        url: As `jde serve` prints it.
        token: Where the service asks for one.
        patience_s: How long a call or a frame is tried again while the service is busy or away.
    """
    return Client(url.rstrip("/"), token, patience_s)


@dataclass(frozen=True)
class Client:
    """See `connect`."""

    url: str
    token: str | None = None
    patience_s: float = 60.0

    def detect(self, image: Image, *, embeddings: bool = False) -> Detections:
        """People in one image.

        Raises:
            ServiceError: If it is refused.
        """
        path = f"/v1/detect?embeddings={str(embeddings).lower()}"
        found = self.call("POST", path, encode(image))["detections"]
        vectors = [person.get("embedding", []) for person in found]
        return Detections(
            np.array([person["box"] for person in found], np.float32).reshape(-1, 4),
            np.array([person["score"] for person in found], np.float32),
            np.array(vectors, np.float32).reshape(len(found), -1 if found else 0),
        )

    def stream(
        self, frames_per_second: float = 30.0, *, encoding: Encoding = "jpeg", ahead: int = 4
    ) -> ClientStream:
        """Open a stream.

        Args:
            frames_per_second: Its nominal rate.
            encoding: Of frames given as arrays; `png` is exact, `jpeg` is smaller.
            ahead: Frames sent before their answers have come.

        Raises:
            ServiceError: If it is refused.
        """
        opened = self.call("POST", "/v1/streams", {"frames_per_second": frames_per_second})
        return ClientStream(self, opened["stream"], opened["model"], encoding, ahead)

    def is_ready(self) -> bool:
        """Whether frames would be answered now."""
        try:
            self._call_once("GET", "/readyz", None)
        except (ServiceError, OSError):
            return False
        return True

    def call(self, method: str, path: str, body: bytes | dict[str, Any] | None = None) -> Any:
        """One call, tried again while the service is busy or away; gives the JSON answer.

        Raises:
            ServiceError: If it is refused.
            OSError: If there is no service.
        """
        until = time.monotonic() + self.patience_s
        while True:
            wait_s = 1.0
            try:
                return self._call_once(method, path, body)
            except ServiceError as refused:
                if refused.error not in _PASSING or time.monotonic() > until:
                    raise
                wait_s = 0.2
            except OSError:
                if time.monotonic() > until:
                    raise
            time.sleep(max(0.0, min(wait_s, until - time.monotonic())))

    def _call_once(self, method: str, path: str, body: bytes | dict[str, Any] | None) -> Any:
        headers = dict(self.headers())
        if body is not None:
            is_image = isinstance(body, bytes)
            headers["content-type"] = "application/octet-stream" if is_image else "application/json"
        content = json.dumps(body).encode() if isinstance(body, dict) else body
        request = urllib.request.Request(  # noqa: S310 - the user's own URL
            self.url + path, content, headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
                text = answer.read()
        except urllib.error.HTTPError as refused:
            raise _error(refused.read(), refused.code) from None
        return json.loads(text) if text else None

    def headers(self) -> dict[str, str]:
        """What every call carries."""
        return {} if self.token is None else {"authorization": f"Bearer {self.token}"}


class ClientStream:
    """One open stream; a context manager that ends it.

    Args:
        client: Of the service.
        name: Id of the stream.
        model: Version of what answers.
        encoding: Of frames given as arrays.
        ahead: Frames sent before their answers have come.
    """

    def __init__(
        self, client: Client, name: str, model: str, encoding: Encoding, ahead: int
    ) -> None:
        self.name, self.model = name, model
        self._client, self._encoding, self._ahead = client, encoding, max(1, ahead)
        self._seq = 0  # of the next frame taken from the caller
        self._awaited = 0  # of the next answer
        self._cursor = 0  # of the next frame to send
        self._socket_next = 0  # what the server takes a frame without a number for
        self._kept: OrderedDict[int, tuple[bytes, float | None]] = OrderedDict()
        self._in_flight: deque[int] = deque()
        self._socket: ClientConnection | None = None
        self._opened = ExitStack()  # closes the socket
        self._pause_until = _NO_TRY

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
        """End the stream; what the service has forgotten already is no error."""
        self._disconnect()
        try:
            self._client.call("DELETE", f"/v1/streams/{self.name}")
        except ServiceError:
            return

    def track(
        self, frames: Iterable[Image], times_s: Iterable[float] | None = None
    ) -> Iterator[Tracks]:
        """Send frames, and give the tracks of each, in order.

        Args:
            frames: `(H, W, 3)` uint8 RGB of one size, or bytes of images.
            times_s: When each was taken, in seconds; unless given, at the stream's rate.

        Raises:
            ServiceError: If a frame is refused for good, or the session is lost for good.
        """
        times = None if times_s is None else iter(times_s)
        source = iter(frames)
        is_over = False
        until = time.monotonic() + self._client.patience_s
        while True:
            while not is_over and self._seq - self._awaited < self._ahead:
                image = next(source, None)
                if image is None:
                    is_over = True
                    break
                taken_s = None if times is None else next(times)
                self._kept[self._seq] = (encode(image, self._encoding), taken_s)
                self._seq += 1
            if self._awaited == self._seq:
                return
            try:
                answer = self._exchange()
            except (ConnectionClosed, OSError) as broken:
                self._disconnect()
                if time.monotonic() > until:
                    raise ServiceError("unavailable", "the connection is lost") from broken
                time.sleep(0.2)
                continue
            if answer is not None:
                until = time.monotonic() + self._client.patience_s
                yield _tracks(answer)
            elif time.monotonic() > until:
                raise ServiceError("unavailable", f"no answer within {self._client.patience_s} s")

    def _exchange(self) -> dict[str, Any] | None:
        """Send what may be sent, take one answer; gives that of the awaited frame."""
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
            return None  # of a frame sent again, whose answer has been given
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
        """Go back to where the service wants the stream again, or give up."""
        error, expected = values["error"], values.get("expected")
        if error in _PASSING:
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
                )
            )
        except InvalidHandshake as error:  # the proxy answers, the service behind it does not yet
            raise OSError("the service is not ready") from error
        hello = json.loads(socket.recv())
        if "error" in hello:
            self._disconnect()
            if hello["error"] in _PASSING:
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


def encode(image: Image, encoding: Encoding = "png") -> bytes:
    """Bytes of an image; bytes are taken as they are.

    Args:
        image: `(H, W, 3)` uint8 RGB, or bytes.
        encoding: Of arrays.
    """
    if isinstance(image, bytes):
        return image
    bgr = np.ascontiguousarray(image[..., ::-1])
    suffix, settings = (".png", _QUICK_PNG) if encoding == "png" else (".jpg", _FINE_JPEG)
    ok, data = cv2.imencode(suffix, bgr, settings)
    if not ok:
        raise ValueError(f"image: got {image.shape} {image.dtype}, accepted is (H, W, 3) uint8")
    return bytes(data)


def _tracks(values: dict[str, Any]) -> Tracks:
    people = values["tracks"]
    return Tracks(
        np.array([person["track_id"] for person in people], np.int64),
        np.array([person["box"] for person in people], np.float64).reshape(-1, 4),
        np.array([person["score"] for person in people], np.float32),
        np.full(len(people), -1, np.int64),  # the service keeps the detections to itself
    )


def _error(text: bytes, status: int) -> ServiceError:
    try:
        values = json.loads(text)
        return ServiceError(values["error"], values["detail"], values.get("expected"))
    except (ValueError, KeyError, TypeError):
        name = "unavailable" if status >= 500 else "bad_request"
        return ServiceError(name, f"the service answered with status {status}")
