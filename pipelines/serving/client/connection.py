"""A small client of the service: frames in, tracks out, through lost connections and replicas.

```python
from jde_ray.pipelines.serving.client.connection import connect

with connect("http://127.0.0.1:8000", token).stream(frames_per_second=25) as stream:
    for tracks in stream.track(frames):  # (H, W, 3) uint8 RGB, or bytes of a JPEG, PNG or WebP
        print(tracks.track_id, tracks.tlbr)
```
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from http.client import HTTPException
from urllib.parse import urlsplit

import numpy as np

from jde_ray.models.structures import Detections
from jde_ray.pipelines.serving.client.calls import Calls, ServiceError
from jde_ray.pipelines.serving.client.images import Encoding, Image, encode
from jde_ray.pipelines.serving.client.stream import ClientStream

__all__ = ["Client", "ClientStream", "ServiceError", "connect", "encode"]


_TOKEN = re.compile(r"[!-~]*")


def connect(
    url: str = "http://127.0.0.1:8000",
    token: str | None = None,
    *,
    patience_s: float = 60.0,
    connect_s: float = 5.0,
    ca_file: str | None = None,
    ssl_context: ssl.SSLContext | None = None,
) -> Client:
    """A client of the service at `url`; nothing is sent yet.

    Args:
        url: Address that `jde serve` prints, or that of the proxy in front: `https://...`.
        token: Token of the caller, if the service needs one.
        patience_s: Seconds for which a call or frame is tried again while the service is busy or
            away.
        connect_s: Seconds for which a service that has never answered is tried.
        ca_file: Certificates (PEM) of the authorities to trust instead of the system's, for calls
            and sockets.
        ssl_context: Settings of TLS in place of `ca_file`, such as a certificate of the client.

    Raises:
        ValueError: If the address does not start with `http://` or `https://`, or holds a query; if
            the token is not of visible ASCII characters; if `ca_file` holds no certificates; if TLS
            is set up twice, or for `http://`.
        OSError: If `ca_file` cannot be read.
    """
    parts = urlsplit(url)
    is_plain = parts.netloc and not parts.query and not parts.fragment
    if parts.scheme not in ("http", "https") or not is_plain:
        raise ValueError(f"url: got {url!r}, expected http://HOST:PORT or https://HOST")
    if token is not None and not _TOKEN.fullmatch(token):  # http.client would repeat it
        raise ValueError("token: got a space, a line's end or the like, expected visible ASCII")
    if ca_file is not None and ssl_context is not None:
        raise ValueError("ca_file: got ssl_context too, expected one of both")
    if parts.scheme == "https":
        ssl_context = ssl_context or _context(ca_file)
    elif ca_file is not None or ssl_context is not None:
        name = "ca_file" if ssl_context is None else "ssl_context"
        raise ValueError(f"{name}: got the address {url}, expected https://HOST")
    return Client(url.rstrip("/"), token, patience_s, connect_s, ssl_context)


def _context(ca_file: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError as error:
        raise ValueError(f"ca_file: {ca_file} holds no certificates, expected PEM") from error
    except OSError as error:
        raise OSError(error.errno, f"ca_file: {error.strerror}", ca_file) from error


class Client(Calls):
    """A client of one service; `connect` makes it."""

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
        self,
        frames_per_second: float = 30.0,
        *,
        camera: str = "",
        encoding: Encoding = "jpeg",
        ahead: int = 4,
        on_new_ids: Callable[[int], None] | None = None,
    ) -> ClientStream:
        """Open a stream.

        Args:
            frames_per_second: Nominal rate of the stream.
            camera: Its camera, for a service that counts places by camera.
            encoding: Format in which arrays are sent; `png` is exact, `jpeg` is smaller.
            ahead: Frames that may be sent ahead of their answers.
            on_new_ids: If the service loses the stream permanently, as after a restart without
                `--snapshots FOLDER`, a new stream is opened and this is called with the number of
                its first frame, counted from 0; ids start at 1 again there. Without it, a
                `ServiceError` is raised.

        Raises:
            ServiceError: If it is refused.
            ValueError: If there is no such encoding.
            OSError: If the service does not answer.
        """
        stream = ClientStream(self, frames_per_second, encoding, ahead, on_new_ids, camera)
        stream.open()
        return stream

    def is_ready(self) -> bool:
        """Whether frames would be answered now."""
        try:
            self.call_once("GET", "/readyz")
        except (ServiceError, OSError, HTTPException):
            return False
        return True
