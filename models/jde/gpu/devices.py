"""What the runner asks of a device: buffers, three streams, marks in them, recorded work."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, Protocol, cast

import torch
from torch import Tensor


class Stream(Enum):
    """Queues of a device; each does its work in order, and they do not wait for each other."""

    UPLOAD = "upload"
    COMPUTE = "compute"
    DOWNLOAD = "download"


class Device(Protocol):
    """A device that works while the host goes on. Errors may be raised by any later call."""

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the host that streams can copy from and to."""
        ...

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Memory of the device."""
        ...

    def copy(self, stream: Stream, target: Tensor, source: Tensor) -> None:
        """Queue a copy."""
        ...

    def replay(self, stream: Stream, work: Callable[[], None]) -> None:
        """Queue recorded work."""
        ...

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """Do work once, and return a function that repeats it, and the result it writes to."""
        ...

    def mark(self, stream: Stream) -> Any:
        """A mark behind all that was queued."""
        ...

    def wait(self, stream: Stream, mark: Any) -> None:
        """Let a stream wait for a mark of another one; the host goes on."""
        ...

    def finish(self, mark: Any) -> None:
        """Let the host wait for a mark."""
        ...

    def release(self) -> None:
        """Give back memory that nothing refers to any more."""
        ...


class CudaDevice:
    """A CUDA device with streams of its own, and CUDA graphs as recorded work.

    Args:
        device: The device.
        graphs: Whether work is recorded as a graph; otherwise it is launched anew each time.

    Raises:
        ValueError: If it is no CUDA device.
    """

    def __init__(self, device: torch.device, *, graphs: bool = True) -> None:
        if device.type != "cuda":
            raise ValueError(f"device: got {device}, expected cuda")
        self._device, self._graphs = device, graphs
        self._streams = {name: torch.cuda.Stream(device) for name in Stream}  # type: ignore[no-untyped-call]

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Device`; pinned, so that copies do not wait."""
        return torch.empty(shape, dtype=dtype, pin_memory=True)

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Device`."""
        return torch.empty(shape, dtype=dtype, device=self._device)

    def copy(self, stream: Stream, target: Tensor, source: Tensor) -> None:
        """See `Device`."""
        with self._on(stream):
            target.copy_(source, non_blocking=True)

    def replay(self, stream: Stream, work: Callable[[], None]) -> None:
        """See `Device`."""
        with self._on(stream):
            work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `Device`; nothing else may use the device meanwhile."""
        torch.cuda.synchronize(self._device)
        with self._on(Stream.COMPUTE):
            for _ in range(2):  # libraries choose, and Triton compiles, their kernels first
                result = work()
            torch.cuda.synchronize(self._device)
            if not self._graphs:
                return lambda: cast("None", result.copy_(work())), result
        graph = torch.cuda.CUDAGraph()
        stream = self._streams[Stream.COMPUTE]
        # other threads may wait for their results meanwhile
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            result = work()
        return graph.replay, result

    def mark(self, stream: Stream) -> torch.cuda.Event:
        """See `Device`."""
        # a thread that waits sleeps: its core can decode meanwhile
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record(self._streams[stream])
        return event

    def wait(self, stream: Stream, mark: torch.cuda.Event) -> None:
        """See `Device`."""
        self._streams[stream].wait_event(mark)

    def finish(self, mark: torch.cuda.Event) -> None:
        """See `Device`; other threads of Python go on."""
        mark.synchronize()

    def release(self) -> None:
        """See `Device`."""
        torch.cuda.empty_cache()

    def _on(self, stream: Stream) -> AbstractContextManager[Any]:
        return cast("AbstractContextManager[Any]", torch.cuda.stream(self._streams[stream]))


class HostDevice:
    """The processor, which does everything at once: for tests and machines without a GPU."""

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Device`."""
        return torch.empty(shape, dtype=dtype)

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """See `Device`."""
        return torch.empty(shape, dtype=dtype)

    def copy(self, stream: Stream, target: Tensor, source: Tensor) -> None:
        """See `Device`."""
        target.copy_(source)

    def replay(self, stream: Stream, work: Callable[[], None]) -> None:
        """See `Device`."""
        work()

    def record(self, work: Callable[[], Tensor]) -> tuple[Callable[[], None], Tensor]:
        """See `Device`."""
        result = work()
        return lambda: cast("None", result.copy_(work())), result

    def mark(self, stream: Stream) -> None:
        """See `Device`."""

    def wait(self, stream: Stream, mark: Any) -> None:
        """See `Device`."""

    def finish(self, mark: Any) -> None:
        """See `Device`."""

    def release(self) -> None:
        """See `Device`."""
