from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import Script

from jde_ray.models.letterbox import Letterbox
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.model import in_source_pixels
from jde_ray.pipelines.detection.networks import ModelBuilder, load_network
from jde_ray.pipelines.detection.precision import quick_precision
from jde_ray.pipelines.detection.settings import resolve_settings
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.output.run_record import open_out, recorded_precision
from jde_ray.pipelines.structures import (
    DetectionChunk,
    FrameChunk,
    Segment,
    Verdict,
    Video,
    VideoInfo,
)
from jde_ray.pipelines.tracking.stages import wire_format
from jde_ray.pipelines.tracking.stages.detect import DetectorStage

SEEN: list[tuple[int, ...]] = []


def frames(tmp_path: Path, **script: int) -> list[FrameChunk]:
    segment = Segment(Video(Script(**script).write(tmp_path, "a"), "a"))
    return list(fakes.decode(segment, size=fakes.SIZE, resize="fast", chunk_frames=8))


def detector(build_model: ModelBuilder = fakes.ColourModel) -> Detector:
    return Detector(fakes.CONFIG.detection, ResourceConfig(), build_model)


class Watching(fakes.ColourModel):
    def detect(self, frames: np.ndarray, letterboxes: Sequence[Letterbox]) -> Any:
        SEEN.append(frames.shape)
        return super().detect(frames, letterboxes)


class AcceleratorError(RuntimeError):
    """As torch calls it."""


class Failing(fakes.ColourModel):
    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def detect(self, frames: np.ndarray, letterboxes: Sequence[Letterbox]) -> Any:
        raise self.failure


class Capping(fakes.ColourModel):
    def detect(self, frames: np.ndarray, letterboxes: Sequence[Letterbox]) -> Any:
        return [replace(found, num_capped=2) for found in super().detect(frames, letterboxes)]


class Infinite(fakes.ColourModel):
    def detect(self, frames: np.ndarray, letterboxes: Sequence[Letterbox]) -> Any:
        everywhere = [self._find(frame) for frame in frames]
        everywhere[3].tlbr[0, 0] = -np.inf
        return in_source_pixels(everywhere, letterboxes)


def test_boxes_are_in_source_pixels_and_embeddings_rounded(tmp_path: Path) -> None:
    chunk = frames(tmp_path, seed=1)[0]
    found = detector().detect(chunk)
    model = fakes.ColourModel(fakes.CONFIG.detection, ResourceConfig())
    assert [len(d) for d in found.detections] == [
        len(model._find(frame).scores) for frame in chunk.frames
    ]
    first = found.detections[0]
    assert first.tlbr.dtype == np.float32
    assert first.embeddings.dtype == np.float16
    y, x = np.nonzero((chunk.frames[0] == fakes.PALETTE[0]).all(-1))
    box = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
    assert np.allclose(first.tlbr[0], box * 2)  # the network sees the source at half its size


class Embedding(fakes.ColourModel):
    """Embeds box by box; finds nobody in the first box."""

    def embed(self, frame: np.ndarray, letterbox: Letterbox, tlbr: np.ndarray) -> np.ndarray:
        vectors = np.zeros((len(tlbr), 2), np.float32)
        vectors[1:, 0] = 1.0
        return vectors


def test_people_are_read_box_by_box_where_a_model_has_no_reader(tmp_path: Path) -> None:
    chunk = frames(tmp_path, frames=3)[0]
    people = [np.zeros((count, 4)) for count in (3, 0, 1)]
    found, embedded = detector(Embedding).read(chunk, people)
    assert [len(one) for one in found] == [len(d) for d in detector().detect(chunk).detections]
    assert [who.tolist() for who, _ in embedded] == [[1, 2], [], []]
    assert embedded[0][1].dtype == np.float16
    with pytest.raises(ValueError, match="ColourModel cannot describe given boxes"):
        detector().read(chunk, people)
    nobody = [np.zeros((0, 4))] * 3
    assert len(detector().read(chunk, nobody)[0]) == 3  # detections need no embedder


def test_a_reading_that_is_not_finite_names_its_frame(tmp_path: Path) -> None:
    class Broken(Embedding):
        def embed(self, *arguments: Any) -> np.ndarray:
            return super().embed(*arguments) * np.nan

    chunk = frames(tmp_path, frames=3)[0]
    people = [np.zeros((0, 4)), np.zeros((2, 4)), np.zeros((0, 4))]
    with pytest.raises(VideoError, match=r"the model gave NaN or Inf \(frame 1\)"):
        detector(Broken).read(chunk, people)


def test_the_model_sees_the_padding_and_the_result_does_not(tmp_path: Path) -> None:
    SEEN.clear()
    own = detector(Watching)
    *_, last = frames(tmp_path, frames=11)
    found = own.detect(last)
    assert SEEN == [(8, 64, 96, 3)]
    assert len(found.detections) == 3
    assert found.is_last


def test_pictures_of_another_kind_are_refused_in_one_line() -> None:
    right = np.zeros((2, 64, 96, 3), np.uint8)
    info = [VideoInfo(96, 64, 30.0)]
    shapes = [right[0], right[..., :1], right[:, :0, :0], right[:, :60]]
    for frames in (*shapes, right / 255, right.astype(np.int64)):
        with pytest.raises(
            ValueError, match=f"frames: got {frames.dtype} of shape .* expected uint8"
        ):
            detector().find(frames, info, [0])
    with pytest.raises(ValueError, match="infos: got 3 and 3 numbers of 2 frames"):
        detector().find(right, info * 3, [0, 1, 2])
    assert len(detector().find(right, info, [0])[0]) == 1


def test_nan_in_a_frame_is_that_videos_error(tmp_path: Path) -> None:
    found = detector().detect(frames(tmp_path, nan_at=5)[0])
    assert found.error is not None
    assert (found.error.reason, found.error.frame) == (Reason.NON_FINITE_OUTPUT, 5)
    assert found.detections == []
    assert len(found.frame_index) == len(found.time_s) == 0


def test_a_corner_at_infinity_is_not_clamped_to_the_frame(tmp_path: Path) -> None:
    found = detector(Infinite).detect(frames(tmp_path)[0])
    assert found.error is not None
    assert (found.error.reason, found.error.frame) == (Reason.NON_FINITE_OUTPUT, 3)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (FloatingPointError("heads: nan"), "non_finite_output: heads: nan (frame 8)"),
        (MemoryError("2 GiB"), "oom: 2 GiB (frame 8)"),
        (IndexError("no\nsuch"), "internal: IndexError: no such (frame 8)"),
    ],
)
def test_a_failing_model_is_that_videos_error(
    tmp_path: Path, failure: Exception, told: str
) -> None:
    own = detector(lambda *_: Failing(failure))
    found = own.detect(frames(tmp_path)[1])
    assert str(found.error) == told
    assert found.detections == []


def test_a_broken_device_is_no_videos_error(tmp_path: Path) -> None:
    own = detector(lambda *_: Failing(AcceleratorError("device-side assert")))
    with pytest.raises(AcceleratorError):
        own.detect(frames(tmp_path)[1])


def test_an_error_of_the_decoder_is_passed_on_without_the_model(tmp_path: Path) -> None:
    chunk = replace(frames(tmp_path)[0], error=VideoError(Reason.DECODE, "bad"))
    own = detector(lambda *_: Failing(AssertionError("asked")))
    assert own.detect(chunk).error == chunk.error


def test_capped_detections_are_counted(tmp_path: Path) -> None:
    own = detector(Capping)
    assert own.detect(frames(tmp_path)[0]).num_capped == 16


class Ledger:
    """A client that notes its calls."""

    def __init__(self, answers: list[Verdict], *, is_suspicious: bool = False) -> None:
        self.answers, self.is_suspicious = answers, is_suspicious
        self.calls: list[str] = []

    def begin(self, chunk: FrameChunk) -> Verdict:
        self.calls.append(f"begin {chunk.chunk_index}")
        return self.answers[chunk.chunk_index]

    def begin_all(self, chunks: list[FrameChunk]) -> list[Verdict] | None:
        self.calls.append("begin all")
        return None if self.is_suspicious else self.answers

    def deliver(self, chunk: DetectionChunk) -> Verdict:
        self.calls.append(f"deliver {chunk.chunk_index}")
        return Verdict.TAKEN

    def send_all(self, chunks: list[DetectionChunk]) -> Callable[[], list[Verdict]]:
        self.calls.append(f"send {[chunk.chunk_index for chunk in chunks]}")
        return lambda: [Verdict.TAKEN] * len(chunks)


def receipt_of(ledger: Ledger, chunks: list[FrameChunk]) -> dict[str, Any]:
    stage = DetectorStage(
        fakes.CONFIG.detection,
        ResourceConfig(),
        fakes.ColourModel,
        ledger,  # type: ignore[arg-type]
    )
    (receipt,) = stage(wire_format.frames_to_table(chunks, 0.5)).to_pylist()
    return receipt


@pytest.mark.parametrize(
    ("answer", "calls"),
    [(Verdict.TAKEN, 2), (Verdict.DUPLICATE, 1), (Verdict.ENDED, 1), (Verdict.STALE, 1)],
)
def test_the_stage_asks_before_it_works(tmp_path: Path, answer: Verdict, calls: int) -> None:
    ledger = Ledger([answer])
    receipt = receipt_of(ledger, frames(tmp_path)[:1])
    assert len(ledger.calls) == calls
    assert (receipt["decode_s"], receipt["num_frames"]) == (0.5, 8)
    assert (receipt["num_detections"] > 0) == (answer == Verdict.TAKEN)


def test_small_chunks_are_announced_and_delivered_at_once(tmp_path: Path) -> None:
    chunks = frames(tmp_path)[:3]
    ledger = Ledger([Verdict.TAKEN, Verdict.DUPLICATE, Verdict.TAKEN])
    receipt = receipt_of(ledger, chunks)
    assert ledger.calls == ["begin all", "send [0, 2]"]
    assert (receipt["num_chunks"], receipt["num_frames"]) == (3, 24)
    ledger = Ledger([Verdict.TAKEN, Verdict.DUPLICATE, Verdict.TAKEN], is_suspicious=True)
    assert receipt_of(ledger, chunks)["num_detections"] == receipt["num_detections"]
    assert ledger.calls == [
        "begin all",
        *("begin 0", "deliver 0", "begin 1", "begin 2", "deliver 2"),
    ]


def test_parts_of_a_row_grow_since_each_costs_a_call(tmp_path: Path) -> None:
    (chunk, *_) = frames(tmp_path)
    chunks = [replace(chunk, chunk_index=index) for index in range(15)]
    ledger = Ledger([Verdict.TAKEN] * 15)
    assert receipt_of(ledger, chunks)["num_chunks"] == 15
    parts = (range(4), range(4, 12), range(12, 15))
    assert ledger.calls == ["begin all", *(f"send {list(part)}" for part in parts)]


def test_the_network_is_the_default_model(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from jde_ray.models.jde.config import SMALL
    from jde_ray.models.jde.network import JDE
    from jde_ray.models.jde.weights import save

    torch.manual_seed(0)
    save(JDE(SMALL), tmp_path / "tiny.safetensors")
    config = DetectionConfig(
        weights=str(tmp_path / "tiny.safetensors"), size=fakes.SIZE, score_threshold=0.0
    )
    found = Detector(config, ResourceConfig()).detect(frames(tmp_path)[0])
    assert found.error is None
    assert len(found.detections) == 8
    assert sum(map(len, found.detections)) > 0


def test_missing_weights_are_refused_before_work() -> None:
    config = TrackConfig(detection=DetectionConfig(weights="no-such-model"))
    with pytest.raises(RunError, match="no-such-model") as refused:
        resolve_settings(config, load_network, ResourceConfig())
    assert refused.value.exit_code == ExitCode.REFUSED


def test_precision_auto_is_what_the_out_was_begun_with(tmp_path: Path) -> None:
    build_model, resources, out = fakes.ColourModel, ResourceConfig(), str(tmp_path)
    fresh = resolve_settings(TrackConfig(), build_model, resources, recorded_precision(out))
    assert fresh.detection.precision == quick_precision("auto")
    for precision in ("fp32", "bf16"):
        config = replace(fresh, detection=replace(fresh.detection, precision=precision))
        (tmp_path / "run.json").unlink(missing_ok=True)
        open_out(out, config, resources)
        assert (
            resolve_settings(TrackConfig(), build_model, resources, recorded_precision(out))
            == config
        )


def test_a_run_sent_to_gpus_takes_bf16() -> None:
    assert quick_precision("cuda") == "bf16"
