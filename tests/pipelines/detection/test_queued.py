"""A network behind a queue: chunks of several videos share batches, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from threading import Barrier, Thread
from typing import Any

import numpy as np
import pytest
import torch

from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.fusion import optimise
from jde_ray.models.jde.gpu import building
from jde_ray.models.jde.gpu.devices import HostDevice
from jde_ray.models.jde.gpu.padded import TorchConvolutions
from jde_ray.models.jde.gpu.runner import Runner
from jde_ray.models.jde.gpu.selection import Limits, RawMaps, Selection
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.weights import save
from jde_ray.models.letterbox import Letterbox
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import TorchModel, load_network
from jde_ray.pipelines.detection.queued import QueuedModel
from jde_ray.pipelines.errors import Reason
from jde_ray.pipelines.structures import FrameChunk, VideoInfo

LIMITS = Limits(0.5, 0.4, 20)
BROKEN = 255  # first byte of a frame for which the network gives NaN


def spread() -> JDE:
    """A network of random weights whose scores differ, other than those of untrained ones."""
    torch.manual_seed(3)
    made = JDE(SMALL).eval()
    with torch.no_grad():
        for head in made.heads:
            head.box.weight[4::5].normal_(std=0.5)
            head.box.bias[4::5] = 0.0
    return made


@pytest.fixture(scope="module")
def network() -> JDE:
    return optimise(spread(), "fp32")


class Watched:
    """A runner's network that notes its batches."""

    def __init__(self, network: JDE) -> None:
        self.network = network
        self.batches: list[list[int]] = []  # first byte of each frame

    def build(self, *_: int) -> Any:
        def run(pixels: torch.Tensor) -> RawMaps:
            self.batches.append(pixels[:, 0, 0, 0].tolist())
            maps = self.network.maps(self.network.normalise(pixels))
            for one in maps:
                one.score[pixels[:, 0, 0, 0] == BROKEN] = torch.nan
            return RawMaps.of(maps)

        return run

    def select(self, height: int, width: int) -> Selection:
        work = TorchConvolutions()
        return Selection(SMALL, (height, width), LIMITS, work, torch.device("cpu"))

    def detector(self, batch: int = 4) -> Detector:
        runner = Runner(self.build, self.select, HostDevice(), (batch,))
        model = QueuedModel(runner, None)  # type: ignore[arg-type]
        return Detector(DetectionConfig(size=(64, 32)), ResourceConfig(), lambda *_: model)


def chunk(
    video: str,
    first: list[int],
    source: tuple[int, int] = (64, 32),
    size: tuple[int, int] = (64, 32),
) -> FrameChunk:
    """A chunk of four frames, the last of them padding, whose first bytes are given."""
    rng = np.random.default_rng(sum(map(ord, video)))
    frames = rng.integers(0, 250, (4, size[1], size[0], 3), dtype=np.uint8)
    frames[: len(first), 0, 0, 0] = first
    frames[len(first) :] = 0
    frames.flags.writeable = False  # as Ray's memory is
    index = np.arange(len(first), dtype=np.int64)
    info = VideoInfo(*source, 25.0)
    return FrameChunk(video, 0, 0, index, index / 25, frames, info, is_last=True)


def check_same(found: Any, wanted: Any) -> None:
    assert found.error is None
    assert len(found.detections) == len(wanted.detections) > 0
    for one, other in zip(found.detections, wanted.detections, strict=True):
        assert len(one) > 0
        for name in ("tlbr", "scores", "embeddings"):
            np.testing.assert_allclose(
                getattr(one, name), getattr(other, name), rtol=1e-3, atol=1e-2
            )


def test_chunks_of_several_videos_fill_batches_and_keep_their_letterboxes(network: JDE) -> None:
    watched = Watched(network)
    detector = watched.detector()
    chunks = [
        chunk("a", [1, 2, 3]),
        chunk("b", [4, 5], source=(1280, 720)),  # another letterbox of the same size
        chunk("c", [6], size=(32, 64)),
        chunk("d", [7, 8, 9], source=(640, 480)),
    ]
    together = detector.detect_all(chunks)
    warm = [batch for batch in watched.batches if any(batch)]  # not that of the recording
    assert warm == [[1, 2, 3, 4], [5, 7, 8, 9], [6, *warm[2][1:]]]
    for found, one in zip(together, chunks, strict=True):
        assert found.video_id == one.video_id
        check_same(found, detector.detect(one))
    wide = together[1].detections[0].tlbr
    assert wide.max() > 64  # in pixels of its own source


def test_what_is_not_finite_is_the_error_of_one_video(network: JDE) -> None:
    detector = Watched(network).detector()
    chunks = [chunk("a", [1, 2]), chunk("b", [3, BROKEN]), chunk("c", [4])]
    first, broken, last = detector.detect_all(chunks)
    assert broken.error is not None
    assert broken.error.reason == Reason.NON_FINITE_OUTPUT
    assert "image 1" in str(broken.error)  # of its own frames
    assert broken.detections == []
    check_same(first, detector.detect(chunks[0]))
    check_same(last, detector.detect(chunks[2]))
    with pytest.raises(FloatingPointError, match="image 1"):
        detector.find(chunks[1].frames, [chunks[1].info] * 2, [0, 1])


def test_reading_a_chunk_is_finding_and_embedding(network: JDE, tmp_path: Path) -> None:
    save(spread(), tmp_path / "own.safetensors")
    config = DetectionConfig(
        weights=str(tmp_path / "own.safetensors"),
        size=(64, 32),
        precision="fp32",
        score_threshold=LIMITS.score_threshold,
        nms_threshold=LIMITS.nms_threshold,
        max_detections=LIMITS.max_detections,
    )
    resources = ResourceConfig(device="cpu")
    watched = Watched(network)
    runner = Runner(watched.build, watched.select, HostDevice(), (4,))
    model = QueuedModel(runner, TorchModel(config, resources))
    detector = Detector(config, resources, lambda *_: model)
    assert detector.takes_several
    own = chunk("a", [1, 2], source=(128, 64))
    wanted = detector.detect(own)
    people = [wanted.detections[0].tlbr[:2], np.zeros((0, 4), np.float32)]
    found, embedded = detector.read(own, people)
    check_same(replace(wanted, detections=found), wanted)
    assert [who.tolist() for who, _ in embedded] == [[0, 1], []]
    vectors = model.embed(own.frames[0], Letterbox(128, 64, 64, 32), people[0])
    np.testing.assert_allclose(embedded[0][1], vectors, atol=1e-2)


def test_chunks_without_frames_ask_for_nothing(network: JDE) -> None:
    watched = Watched(network)
    empty = replace(chunk("a", []), info=VideoInfo(0, 0, 0.0))
    (found,) = watched.detector().detect_all([empty])
    assert (found.error, found.detections, watched.batches) == (None, [], [])


def test_a_device_without_room_is_told_for_every_video() -> None:
    class Full:
        def detect_parts(self, parts: Any) -> Any:
            raise MemoryError("GPU memory: no room")

        detect = detect_parts

    detector = Detector(DetectionConfig(), ResourceConfig(), lambda *_: Full())
    errors = [found.error for found in detector.detect_all([chunk("a", [1]), chunk("b", [2])])]
    assert [error.reason for error in errors if error] == [Reason.OUT_OF_MEMORY] * 2


def asked_by_two(model: Any) -> Detector:
    """Let two threads ask a detector at once."""
    detector = Detector(DetectionConfig(), ResourceConfig(), lambda *_: model)
    threads = [Thread(target=detector.detect, args=(chunk(name, [1]),)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return detector


def test_two_threads_are_let_in_at_once_only_where_the_model_takes_several() -> None:
    class Plain:
        def __init__(self) -> None:
            self.inside = self.most = 0

        def detect(self, frames: Any, letterboxes: Any) -> Any:
            self.inside += 1
            self.most = max(self.most, self.inside)
            torch.zeros(300, 300) @ torch.zeros(300, 300)  # lets another thread run
            self.inside -= 1
            raise FloatingPointError("nothing")

    class Several:
        def __init__(self) -> None:
            self.both, self.met = Barrier(2, timeout=10), 0

        def detect_parts(self, parts: Any) -> Any:
            self.both.wait()  # goes on only if the other thread is here too
            self.met += 1
            return [FloatingPointError("nothing")] * len(parts)

        detect = detect_parts

    plain, several = Plain(), Several()
    assert not asked_by_two(plain).takes_several
    assert plain.most == 1
    assert asked_by_two(several).takes_several
    assert several.met == 2


def test_graphs_open_the_runner_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    config = DetectionConfig(
        weights="small", reid="none", precision="fp32", size=(96, 64), score_threshold=0.01
    )
    wanted = ResourceConfig(graphs=True, chunk_frames=2)
    plain = load_network(config, wanted)
    assert isinstance(plain, TorchModel)  # a CPU has none
    monkeypatch.setattr(building, "can_run", lambda _: True)
    queued = load_network(config, wanted)
    assert isinstance(queued, QueuedModel)
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), dtype=np.uint8)
    boxes = [Letterbox(96, 64, 96, 64)] * 2
    for one, other in zip(queued.detect(frames, boxes), plain.detect(frames, boxes), strict=True):
        np.testing.assert_array_equal(one.tlbr, other.tlbr)
        np.testing.assert_array_equal(one.embeddings, other.embeddings)
    tlbr = np.array([[10, 5, 40, 60]], np.float32)
    np.testing.assert_array_equal(
        queued.embed(frames[0], boxes[0], tlbr), plain.embed(frames[0], boxes[0], tlbr)
    )
