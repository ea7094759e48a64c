"""Runs a network on a device with two batches in flight.

The host copies frames into pinned memory; one stream uploads them while another computes the batch
before, and a third brings the results back behind the batch after. Per batch shape the network, the
selection of boxes and the gathering of their vectors are one recorded piece of work, so the host
waits only for finished boxes.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jde_ray.models.jde.decode import FrameDetections
from jde_ray.models.jde.gpu.devices import Device, Stream
from jde_ray.models.jde.gpu.selection import NotFiniteError, RawMaps, Selection
from jde_ray.models.structures import check_frames

logger = logging.getLogger(__name__)

BATCHES = (1, 4, 16)
MOST_SIZES = 4  # input sizes whose buffers are kept
_IN_FLIGHT = 2

Network = Callable[[Tensor], RawMaps]
Found = FrameDetections | NotFiniteError  # of one frame


@dataclass
class _Slot:
    """Buffers of one batch in flight."""

    pinned: Tensor
    arrived: Tensor
    result: Tensor
    received: Tensor
    batch: _Batch | None = None


class _Batch:
    """A batch under way."""

    def __init__(self, device: Device, received: Tensor, mark: Any, selection: Selection) -> None:
        self._device, self._mark, self._lock = device, mark, Lock()
        self._received: Tensor | None = received
        self._selection = selection
        self._found: list[Found] = []

    def collect(self) -> list[Found]:
        """Wait for the results and take them out of the buffer, which is free afterwards."""
        with self._lock:
            if self._received is not None:
                self._device.finish(self._mark)
                self._found = self._selection.read(self._received.numpy())
                self._received = self._mark = None
            return self._found


class Pending:
    """Frames under way, in one batch or several. Any thread may ask for them, any number of times.

    Args:
        batches: Their batches, in the order of the frames.
        lengths: Frames of each part that was submitted.
    """

    def __init__(self, batches: Sequence[_Batch], lengths: Sequence[int]) -> None:
        self._batches, self._lengths = batches, lengths

    def result(self) -> list[FrameDetections]:
        """Wait for the detections of the frames, in their order.

        Raises:
            FloatingPointError: If a number is not finite, naming the frame's place among these.
        """
        return _all_found(self._frames())

    def parts(self) -> list[list[FrameDetections] | NotFiniteError]:
        """Wait for the detections of each part; an error names the frame's place in its part."""
        found, parts = self._frames(), list[list[FrameDetections] | NotFiniteError]()
        for end, length in zip(accumulate(self._lengths), self._lengths, strict=True):
            try:
                parts.append(_all_found(found[end - length : end]))
            except NotFiniteError as error:
                parts.append(error)
        return parts

    def _frames(self) -> list[Found]:
        return [one for batch in self._batches for one in batch.collect()]


def _all_found(frames: Sequence[Found]) -> list[FrameDetections]:
    found = []
    for place, one in enumerate(frames):
        if isinstance(one, NotFiniteError):
            raise one.at(place)
        found.append(one)
    return found


class _Lane:
    """Recorded work and buffers of one batch shape."""

    def __init__(
        self, device: Device, network: Network, selection: Selection, shape: tuple[int, ...]
    ) -> None:
        self._device, self._selection = device, selection
        self._pixels = device.buffer(shape, torch.uint8)
        self._pixels.zero_()
        results = (shape[0], selection.width)
        self._slots = [
            _Slot(
                device.host_buffer(shape, torch.uint8),
                device.buffer(shape, torch.uint8),
                device.buffer(results, torch.float32),
                device.host_buffer(results, torch.float32),
            )
            for _ in range(_IN_FLIGHT)
        ]
        self._next = 0
        self._work, self._result = device.record(lambda: selection(network(self._pixels)))

    def submit(self, parts: Sequence[NDArray[np.uint8]]) -> _Batch:
        """Queue a batch; if its buffers are in use, their results are collected first."""
        device, slot = self._device, self._slots[self._next]
        self._next = (self._next + 1) % _IN_FLIGHT
        if slot.batch is not None:
            slot.batch.collect()  # after this the device uses none of the slot's buffers
        pinned, count = slot.pinned.numpy(), 0
        for part in parts:
            np.copyto(pinned[count : count + len(part)], part)
            count += len(part)
        device.copy(Stream.UPLOAD, slot.arrived[:count], slot.pinned[:count])
        device.wait(Stream.COMPUTE, device.mark(Stream.UPLOAD))
        device.copy(Stream.COMPUTE, self._pixels, slot.arrived)
        device.replay(Stream.COMPUTE, self._work)
        device.copy(Stream.COMPUTE, slot.result, self._result)
        device.wait(Stream.DOWNLOAD, device.mark(Stream.COMPUTE))
        device.copy(Stream.DOWNLOAD, slot.received[:count], slot.result[:count])
        mark = device.mark(Stream.DOWNLOAD)
        slot.batch = _Batch(device, slot.received[:count], mark, self._selection)
        return slot.batch

    def close(self) -> None:
        """Collect what is under way, so that the buffers can go."""
        for slot in self._slots:
            if slot.batch is not None:
                slot.batch.collect()


class _Size:
    """What is kept for one size of frames: the selection, and the lanes by frames per batch."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        self.lanes: dict[int, _Lane] = {}

    def close(self) -> None:
        """Finish what is under way, and let the lanes go."""
        for lane in self.lanes.values():
            lane.close()
        self.lanes.clear()


class Runner:
    """A network that takes frames of any sizes, with two batches in flight.

    A batch is filled up to one of a few numbers of frames. Several threads may use one runner.

    Args:
        build: Makes the network for a batch, a height and a width.
        select: Makes the selection for a height and a width.
        device: Where both run.
        batches: Frames per batch, ascending, three numbers at most.

    Raises:
        ValueError: If there are more numbers, or they do not ascend.
    """

    def __init__(
        self,
        build: Callable[[int, int, int], Network],
        select: Callable[[int, int], Selection],
        device: Device,
        batches: Sequence[int] = BATCHES,
    ) -> None:
        if not 1 <= len(batches) <= 3 or sorted(set(batches)) != list(batches) or batches[0] < 1:
            raise ValueError(f"batches: got {list(batches)}, expected one to three, ascending")
        self._build, self._select, self._device = build, select, device
        self._batches = list(batches)
        self._sizes: OrderedDict[tuple[int, int], _Size] = OrderedDict()
        self._lock = Lock()

    @property
    def largest(self) -> int:
        """Frames in the largest batch; fewer than were asked for if memory did not suffice."""
        return self._batches[-1]

    def detect(self, frames: NDArray[np.uint8]) -> list[FrameDetections]:
        """Detections of `(T, H, W, 3)` uint8 frames; see `submit`."""
        return self.submit([frames]).result()

    @torch.inference_mode()
    def submit(self, parts: Sequence[NDArray[np.uint8]]) -> Pending:
        """Queue frames, which may come from several videos; return before they are done.

        Only a third batch waits, for the first. If the device has no room for a batch, smaller ones
        are used from then on.

        Args:
            parts: `(T, H, W, 3)` uint8 frames of one size, any number.

        Raises:
            ValueError: If they are of other shapes or types, or of several sizes.
            MemoryError: If the device has no room for the smallest batch.
        """
        for part in parts:
            check_frames(part)
        sizes = {part.shape[1:3] for part in parts}
        if len(sizes) != 1:
            raise ValueError(f"batch: got frames of sizes {sorted(sizes)}, expected one size")
        shape = sizes.pop()
        left = [part for part in parts if len(part)]
        queued = []
        with self._lock:
            size = self._size(*shape)
            while left:
                lane, room = self._lane(size, sum(map(len, left)), *shape)
                batch, left = _take(left, room)
                queued.append(lane.submit(batch))
        return Pending(queued, [len(part) for part in parts])

    def _size(self, height: int, width: int) -> _Size:
        key = (height, width)
        if key not in self._sizes:
            if len(self._sizes) == MOST_SIZES:
                self._forget()
            self._sizes[key] = _Size(self._select(height, width))
        self._sizes.move_to_end(key)
        return self._sizes[key]

    def _lane(self, size: _Size, total: int, height: int, width: int) -> tuple[_Lane, int]:
        """The lane of the next batch of so many frames, and the frames that it takes."""
        while True:
            batch = next((number for number in self._batches if number >= total), self.largest)
            if batch not in size.lanes:
                try:
                    size.lanes[batch] = self._open(size.selection, batch, height, width)
                except MemoryError:
                    if batch == self._batches[0]:
                        raise
                    self._batches = [number for number in self._batches if number < batch]
                    logger.warning("GPU memory: batches of %d frames from now on", self.largest)
                    continue
            return size.lanes[batch], batch

    def _open(self, selection: Selection, batch: int, height: int, width: int) -> _Lane:
        shape = (batch, height, width, 3)
        for _ in range(2):
            with suppress(torch.OutOfMemoryError):
                return _Lane(self._device, self._build(*shape[:3]), selection, shape)
            # only here: an error that is being handled still holds what was allocated before it
            while len(self._sizes) > 1:  # the buffers of other sizes make room
                self._forget()
            self._device.release()
        raise MemoryError(
            f"GPU memory: no room for {batch} frames of {width}x{height}; free some, or give each "
            "detector more of the GPU with --gpus-per-detector"
        )

    def _forget(self) -> None:
        """Let the size go that was not used for longest."""
        _, size = self._sizes.popitem(last=False)
        size.close()
        self._device.release()


def _take(
    parts: Sequence[NDArray[np.uint8]], count: int
) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """The first frames of the parts, and the rest."""
    taken, rest = [], []
    for part in parts:
        own = min(count, len(part))
        count -= own
        if own:
            taken.append(part[:own])
        if own < len(part):
            rest.append(part[own:])
    return taken, rest
