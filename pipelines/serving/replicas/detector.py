"""The detector replica: images in network size to detections, in batches over streams."""

from __future__ import annotations

import asyncio
import logging
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from ray import serve

from jde_ray.models.structures import Detections
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import load_network
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.serving.backend import TimedDetections
from jde_ray.pipelines.serving.config import ServeConfig
from jde_ray.pipelines.serving.images import network_size
from jde_ray.pipelines.serving.refusals import CHANGING, Cause, Refusal
from jde_ray.pipelines.serving.replicas.loopback import stay_on_loopback
from jde_ray.pipelines.structures import VideoInfo

logger = logging.getLogger(__name__)
_Pixels = tuple[NDArray[np.uint8], int, int]  # letterboxed; width and height of the source
_IN_FLIGHT = 2  # batches of a network that takes several
_NOT_FINITE = Refusal(Cause.INTERNAL, "the network gave no finite numbers")


class DetectorReplica:
    """The offline `Detector`, loaded once and warmed up; it batches frames of any streams.

    Args:
        config: Resolved settings.
    """

    def __init__(self, config: ServeConfig) -> None:
        stay_on_loopback()
        self._config = config
        self._broken: str | None = None
        detection = config.track.detection
        # one thread loads and runs the network, so that the event loop answers health checks
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._batch = config.batch or 1
        resources = ResourceConfig(
            device=config.device,
            torch_threads=config.torch_threads,
            chunk_frames=min(self._batch, 256),
            graphs=config.graphs,
        )
        self._detector = self._threads.submit(
            Detector, detection, resources, config.build_model or load_network
        ).result()
        blank = np.full((detection.size[1], detection.size[0], 3), 128, np.uint8)
        for _ in range(2):
            self._threads.submit(self._find, [(blank, 640, 360)]).result()
        self._batched = self._one_by_one
        if self._detector.takes_several:
            self._threads.shutdown()
            self._threads = ThreadPoolExecutor(_IN_FLIGHT, thread_name_prefix="network")
            self._batched = self._overlapping
        self._batched.set_max_batch_size(self._batch)  # type: ignore[attr-defined]
        self._batched.set_batch_wait_timeout_s(config.batch_wait_s)  # type: ignore[attr-defined]

    async def find(
        self, model: str, pixels: NDArray[np.uint8], width: int, height: int
    ) -> TimedDetections | Refusal:
        """Detections of one frame, if it was prepared for this version of the model."""
        detection = self._config.track.detection
        wanted = network_size(width, height, detection.size, rect=detection.rect)
        if model != self._config.model or pixels.shape != (wanted[1], wanted[0], 3):
            return CHANGING
        frame = (pixels, width, height)
        if self._batch == 1:  # the thread's own queue is enough
            return (await self._in_thread([frame]))[0]
        found: TimedDetections | Refusal = await self._batched(frame)
        return found

    async def ready(self) -> bool:
        """True: a replica that answers is warmed up."""
        return True

    def check_health(self) -> None:
        """Raise when the device is broken, so that Serve replaces this replica."""
        if self._broken is not None:
            raise RuntimeError(self._broken)

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0)
    async def _one_by_one(self, frames: list[_Pixels]) -> list[TimedDetections | Refusal]:
        """Batches that fill up while the one before is computed."""
        return await self._in_thread(frames)

    @serve.batch(max_batch_size=1, batch_wait_timeout_s=0.0, max_concurrent_batches=_IN_FLIGHT)
    async def _overlapping(self, frames: list[_Pixels]) -> list[TimedDetections | Refusal]:
        """Batches of which one goes up while the other is computed."""
        return await self._in_thread(frames)

    async def _in_thread(self, frames: list[_Pixels]) -> list[TimedDetections | Refusal]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._find, frames)

    def _find(self, frames: list[_Pixels]) -> list[TimedDetections | Refusal]:
        """Detections of a batch; frames of one shape go through the network together."""
        results: list[TimedDetections | Refusal] = [_NOT_FINITE] * len(frames)
        shapes = [pixels.shape for pixels, _, _ in frames]
        for shape in dict.fromkeys(shapes):
            places = [place for place, other in enumerate(shapes) if other == shape]
            started = time.perf_counter()
            try:
                found = self._run([frames[place] for place in places])
            except (VideoError, FloatingPointError):
                logger.exception("the network gave no finite numbers")
                continue
            except Exception as error:
                self._broken = type(error).__name__
                raise
            seconds = time.perf_counter() - started
            for place, detections in zip(places, found, strict=True):
                results[place] = TimedDetections(detections, seconds)
        return results

    def _run(self, frames: list[_Pixels]) -> list[Detections]:
        """Run the network once, padded to a full batch, so that the arithmetic never changes."""
        pixels = np.zeros((self._batch, *frames[0][0].shape), np.uint8)
        for place, (frame, _, _) in zip(pixels, frames, strict=False):
            place[:] = frame
        infos = [VideoInfo(width, height, 1.0) for _, width, height in frames]
        return self._detector.find(pixels, infos, range(len(frames)))[0]
