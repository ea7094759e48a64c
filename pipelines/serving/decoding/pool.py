"""Decodes images in processes, which are killed when an image takes too long.

A decoder written in C cannot be stopped in a thread, not even by a time limit. A process can, and
its memory is freed with it. Owners share the processes, and none gets all of them.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import numpy as np

from jde_ray.pipelines.config import DetectionConfig
from jde_ray.pipelines.serving.admission_queue import AdmissionQueue
from jde_ray.pipelines.serving.config import Limits
from jde_ray.pipelines.serving.decoding.process import ANSWER, DONE, READY, REFUSED, REQUEST
from jde_ray.pipelines.serving.images import NetworkFrame
from jde_ray.pipelines.serving.refusals import Cause, Refusal

logger = logging.getLogger("ray.serve")

_MODULE = "jde_ray.pipelines.serving.decoding.process"
_START_S = 60.0
_MAX_PIXEL_BYTES = 256 << 20  # of address space; only the used part takes memory


class Decoders:
    """Decoding processes of an ingress, started when they are first needed.

    Args:
        number: Number of processes, at least 2: one owner may use all but one.
    """

    def __init__(self, number: int) -> None:
        self._queue = AdmissionQueue(max(1, number - 1), 0)
        self._idle = [_Process() for _ in range(max(2, number))]
        self._all = tuple(self._idle)
        self._threads = ThreadPoolExecutor(len(self._all), thread_name_prefix="decode")

    async def start(self) -> None:
        """Return when all processes are ready.

        Raises:
            RuntimeError: If one does not start.
        """
        loop = asyncio.get_running_loop()
        starts = [loop.run_in_executor(self._threads, process.start) for process in self._all]
        await asyncio.gather(*starts)

    async def decode(
        self, owner: str, data: bytes, detection: DetectionConfig, limits: Limits
    ) -> tuple[NetworkFrame, float]:
        """A frame ready for the detector, and the seconds that decoding took.

        Args:
            owner: Owner of the image.
            data: Bytes of the image.
            detection: Size and shape of the network's input.
            limits: Limits on pixels, scans and time.

        Raises:
            Refusal: Those of `images.to_network`, and `image_too_slow`.
        """
        begun = asyncio.Event()
        use = asyncio.ensure_future(self._use(begun, owner, data, detection, limits))
        try:
            return await asyncio.shield(use)
        except asyncio.CancelledError:
            if not begun.is_set():
                use.cancel()
            # else the process is busy until the image is decoded or its time is up
            use.add_done_callback(_take_result)
            raise

    async def _use(
        self,
        begun: asyncio.Event,
        owner: str,
        data: bytes,
        detection: DetectionConfig,
        limits: Limits,
    ) -> tuple[NetworkFrame, float]:
        async with self._queue.slot(owner, unbounded=True):
            begun.set()
            process = self._idle.pop()
            try:
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(
                    self._threads, process.decode, data, detection, limits
                )
            finally:
                self._idle.append(process)

    def close(self) -> None:
        """End the processes."""
        self._threads.shutdown(wait=False)
        for process in self._all:
            process.end()


def _take_result(use: asyncio.Task[tuple[NetworkFrame, float]]) -> None:
    """Mark an error as seen, since no caller waits for the result."""
    if not use.cancelled():
        use.exception()


class _Process:
    """One decoding process, replaced when it is killed. Used by one thread at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # between a use and the end of all
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._memory: mmap.mmap | None = None
        self._is_ready = self._is_over = False

    def start(self) -> None:
        """Return when the process is ready.

        Raises:
            RuntimeError: If it does not start.
        """
        self._begin()
        self._wait_until_ready()

    def decode(
        self, data: bytes, detection: DetectionConfig, limits: Limits
    ) -> tuple[NetworkFrame, float]:
        """Decode in the process; see `Decoders.decode`.

        A process that ends is replaced and asked again, since a shutdown of the ingress may end its
        processes first. If two processes end at one image, the image is to blame.
        """
        since, ended = time.perf_counter(), None
        for _ in range(2):
            self.start()
            try:
                return self._read(self._ask(data, detection, limits)), time.perf_counter() - since
            except (EOFError, OSError) as error:
                logger.warning("a decoding process has ended (%s)", type(error).__name__)
                self._restart()
                ended = error
        raise Refusal(Cause.BAD_IMAGE, "image: it cannot be decoded") from ended

    def _ask(self, data: bytes, detection: DetectionConfig, limits: Limits) -> bytes:
        assert self._connection is not None  # noqa: S101 - it has started
        (width, height), most, seconds = detection.size, limits.max_pixels, limits.decode_s
        head = REQUEST.pack(width, height, detection.rect, most, limits.max_scans, seconds)
        self._connection.send_bytes(head + data)
        if not self._connection.poll(seconds):
            self._restart()
            text = f"image: it must be decoded within {seconds:g} s"
            raise Refusal(Cause.IMAGE_TOO_SLOW, text)
        return self._connection.recv_bytes(1 << 16)

    def _read(self, answer: bytes) -> NetworkFrame:
        kind, content = answer[:1], answer[1:]
        if kind == REFUSED:
            name, detail = json.loads(content)
            raise Refusal(Cause[name], detail)
        if kind != DONE:
            raise RuntimeError(f"an image could not be decoded: {content.decode()}")
        assert self._memory is not None  # noqa: S101 - it has started
        width, height, across, down = ANSWER.unpack(content)
        pixels = np.frombuffer(self._memory, np.uint8, across * down * 3)
        return NetworkFrame(pixels.reshape(down, across, 3).copy(), width, height)

    def _begin(self) -> None:
        """Start the process unless it runs, without waiting for its imports."""
        with self._lock:
            if self._process is not None or self._is_over:
                return
            ours, theirs = socket.socketpair()
            memory = _shared_memory()
            try:
                os.ftruncate(memory, _MAX_PIXEL_BYTES)
                self._memory = mmap.mmap(memory, _MAX_PIXEL_BYTES)
                descriptors = (theirs.fileno(), memory)
                self._process = subprocess.Popen(  # noqa: S603 - ourselves
                    [sys.executable, "-m", _MODULE, *map(str, descriptors)],
                    pass_fds=descriptors,
                    env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            finally:
                os.close(memory)
                theirs.close()
            self._connection, self._is_ready = Connection(ours.detach()), False

    def _wait_until_ready(self) -> None:
        if self._is_ready:
            return
        if self._connection is None:
            raise RuntimeError("the service is stopping")
        try:
            if not self._connection.poll(_START_S) or self._connection.recv_bytes(1) != READY:
                raise EOFError
        except (EOFError, OSError) as error:
            self._drop()
            raise RuntimeError("a decoding process did not start") from error
        self._is_ready = True

    def _restart(self) -> None:
        self._drop()
        self._begin()

    def _drop(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            if self._connection is not None:
                self._connection.close()
            self._process = self._connection = self._memory = None
            self._is_ready = False

    def end(self) -> None:
        """Kill the process for good; a call in another thread fails."""
        self._is_over = True
        self._drop()


def _shared_memory() -> int:
    """Descriptor of anonymous shared memory."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("jde-pixels")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
