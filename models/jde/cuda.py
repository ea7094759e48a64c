"""A network on a GPU at full speed: pinned double buffers, one CUDA graph per batch shape.

`JDE.detect` does the same work step by step. Here the host copies the next batch into pinned memory
and uploads it while the GPU computes this one, and the network is launched as one recorded graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from jde_ray.models.jde.decode import FrameDetections, decode, select
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.jde.network import JDE


@dataclass(frozen=True)
class _Slot:
    """A batch being uploaded: its pinned buffer, its device buffer, the event of its arrival."""

    pinned: Tensor
    device: Tensor
    arrived: torch.cuda.Event


@dataclass(frozen=True)
class _Graph:
    """A recorded run of the network, its input and its output."""

    graph: torch.cuda.CUDAGraph
    frames: Tensor
    maps: list[ScaleMaps]


class CudaRunner:
    """Detects in a stream of batches that have one shape or a few.

    Args:
        model: On its CUDA device, optimised for inference (`models.jde.fusion.optimise`).

    Raises:
        ValueError: If the model is not on a CUDA device.
    """

    def __init__(self, model: JDE) -> None:
        self._device = next(model.parameters()).device
        if self._device.type != "cuda":
            raise ValueError(f"device: got {self._device}, expected cuda")
        self._model = model
        self._copies = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        self._slots: dict[tuple[torch.Size, int], _Slot] = {}
        self._graphs: dict[torch.Size, _Graph] = {}

    @torch.inference_mode()
    def detect(
        self,
        batches: Iterable[Tensor],
        score_threshold: float = 0.5,
        nms_threshold: float = 0.4,
        max_detections: int = 300,
    ) -> Iterator[list[FrameDetections]]:
        """Detect in `(B, H, W, 3)` uint8 batches on the host; results come one batch late.

        Thresholds are those of `JDE.detect`.
        """

        def finish(maps: list[ScaleMaps]) -> list[FrameDetections]:
            candidates = decode(self._model.config, maps)
            return select(candidates, score_threshold, nms_threshold, max_detections)

        running: list[ScaleMaps] | None = None
        for number, frames in enumerate(batches):
            # Slot `number % 2` is free: its last batch was finished in the previous iteration.
            slot = self._upload(frames, number % 2)
            found = None if running is None else finish(running)
            running = self._launch(slot)  # overwrites the graph's maps, so only after `finish`
            if found is not None:
                yield found  # the GPU computes while the caller works on these
        if running is not None:
            yield finish(running)

    def _upload(self, frames: Tensor, parity: int) -> _Slot:
        key = (frames.shape, parity)
        if key not in self._slots:
            self._slots[key] = _Slot(
                torch.empty(frames.shape, dtype=torch.uint8, pin_memory=True),
                torch.empty(frames.shape, dtype=torch.uint8, device=self._device),
                torch.cuda.Event(),  # type: ignore[no-untyped-call]
            )
        slot = self._slots[key]
        slot.pinned.copy_(frames)
        with torch.cuda.stream(self._copies):
            slot.device.copy_(slot.pinned, non_blocking=True)
            slot.arrived.record(self._copies)
        return slot

    def _launch(self, slot: _Slot) -> list[ScaleMaps]:
        torch.cuda.current_stream(self._device).wait_event(slot.arrived)
        recorded = self._graphs.get(slot.device.shape)
        if recorded is None:
            recorded = self._graphs[slot.device.shape] = self._record(slot.device)
        recorded.frames.copy_(slot.device)
        recorded.graph.replay()
        return recorded.maps

    def _record(self, frames: Tensor) -> _Graph:
        static = frames.clone()
        stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):  # libraries choose their kernels before the recording
            for _ in range(3):
                self._model.maps(self._model.normalise(static))
        torch.cuda.current_stream(self._device).wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            maps = self._model.maps(self._model.normalise(static))
        return _Graph(graph, static, maps)
