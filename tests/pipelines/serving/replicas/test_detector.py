"""The detector's replica: one batch after the other, or two at a time."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from threading import Barrier, get_ident
from typing import Any

import fakes
import numpy as np
import pytest
from ray.serve import batching

from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.serving.config import RESIZE, ServeConfig
from jde_ray.pipelines.serving.replicas import detector as module
from jde_ray.pipelines.serving.replicas.detector import DetectorReplica

DETECTION = DetectionConfig(size=(96, 64), resize=RESIZE, rect=False)
CONFIG = ServeConfig(track=TrackConfig(detection=DETECTION), device="cpu", batch=2, graphs=True)


class Noting(fakes.ColourModel):
    """One thread at a time."""

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        super().__init__(config, resources)
        self.resources, self.threads = resources, set[int]()

    def detect(self, frames: Any, letterboxes: Any) -> Any:
        self.threads.add(get_ident())
        return super().detect(frames, letterboxes)


class Meeting(Noting):
    """Two threads at a time: once warmed up, neither goes on without the other."""

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        super().__init__(config, resources)
        self.calls, self.both = 0, Barrier(2, timeout=20)

    def detect(self, frames: Any, letterboxes: Any) -> Any:
        self.calls += 1
        if self.calls > 2:
            self.both.wait()
        return super().detect(frames, letterboxes)

    def detect_parts(self, parts: Any) -> Any:
        return [self.detect(*part) for part in parts]


def run(build: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[DetectorReplica, list[Any]]:
    """A replica, and its answers to four frames at once."""
    monkeypatch.setattr(module, "stay_on_loopback", lambda: None)
    # asks for the deployment of this replica
    monkeypatch.setattr(
        batching._BatchQueue, "_warn_if_max_batch_size_exceeds_max_ongoing_requests", lambda _: None
    )
    config = replace(CONFIG, build_model=build, batch_wait_s=0.2)
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[10:30, 10:20] = fakes.PALETTE[0]

    async def ask() -> tuple[DetectorReplica, list[Any]]:
        replica = DetectorReplica(config)
        calls = [replica.find(config.model, pixels, 192, 128) for _ in range(4)]
        return replica, await asyncio.gather(*calls)

    return asyncio.run(ask())


def test_two_batches_are_in_flight_where_the_network_takes_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    replica, answers = run(Meeting, monkeypatch)
    model: Any = replica._detector._model
    assert model.calls == 4  # two to warm up, and two batches of two
    assert model.resources.graphs
    assert model.resources.chunk_frames == 2
    assert [answer.detections.tlbr.tolist() for answer in answers] == [[[20, 20, 40, 60]]] * 4


def test_one_thread_runs_any_other_network(monkeypatch: pytest.MonkeyPatch) -> None:
    replica, answers = run(Noting, monkeypatch)
    model: Any = replica._detector._model
    assert len(model.threads) == 1
    assert [answer.detections.tlbr.tolist() for answer in answers] == [[[20, 20, 40, 60]]] * 4
