"""A process that decodes images for an ingress, and can be killed: `python -m` this module.

`pipelines.serving.decoding.pool` starts it with two descriptors: a socket for requests and answers,
and shared memory for the pixels. The socket carries plain bytes only, so that a decoder that a
hostile image has taken over can send nothing but pixels.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import resource
import signal
import struct
import sys
from multiprocessing.connection import Connection

import numpy as np

from jde_ray.pipelines.serving.images import to_network
from jde_ray.pipelines.serving.refusals import Refusal

# width and height of the network's input, whether it is fitted, pixels, scans, seconds
REQUEST = struct.Struct("!II?QId")
# width and height of the image, and of the pixels in the shared memory
ANSWER = struct.Struct("!IIII")
READY, DONE, REFUSED, FAILED = b"r", b"d", b"n", b"f"


def main() -> None:
    """Answer until the other end of the socket is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the ingress decides when it ends
    requests = Connection(int(sys.argv[1]))
    memory = mmap.mmap(int(sys.argv[2]), 0)
    requests.send_bytes(READY)
    # libpng and libjpeg write a line about every damaged image
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with contextlib.suppress(EOFError, OSError):
        while True:
            requests.send_bytes(_answer(requests.recv_bytes(), memory))


def _answer(request: bytes, memory: mmap.mmap) -> bytes:
    width, height, rect, max_pixels, max_scans, seconds = REQUEST.unpack_from(request)
    _limit_time(seconds)
    data = request[REQUEST.size :]
    try:
        frame = to_network(data, (width, height), max_pixels, rect=rect, max_scans=max_scans)
    except Refusal as refusal:
        return REFUSED + json.dumps([refusal.cause.name, refusal.detail]).encode()
    except Exception as error:  # noqa: BLE001  sent to the ingress, which logs it
        return FAILED + type(error).__name__.encode()
    pixels = frame.pixels
    memory[: pixels.nbytes] = np.ascontiguousarray(pixels).data.cast("B")
    return DONE + ANSWER.pack(frame.width, frame.height, pixels.shape[1], pixels.shape[0])


def _limit_time(seconds: float) -> None:
    """Limit the CPU time, so that the kernel ends this process if its ingress is gone."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    most = int(used.ru_utime + used.ru_stime + seconds) + 2
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


if __name__ == "__main__":
    main()
