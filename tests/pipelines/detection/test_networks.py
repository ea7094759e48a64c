"""Which networks the weights name, and that separate ones run through the same pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from made_videos import write_video
from onnx_models import write_declaration

from jde_ray import read_tracks
from jde_ray.jobs.console.settings import check_weights
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.reid import weights
from jde_ray.models.reid.config import SMALL_QAN
from jde_ray.models.reid.network import ReidNet
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.models.tracking.trackers.poi import PoiConfig
from jde_ray.pipelines.config import (
    DetectionConfig,
    OutputConfig,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.networks import SeparateModel, load_network
from jde_ray.pipelines.detection.settings import resolve_settings
from jde_ray.pipelines.detection.upload import Upload
from jde_ray.pipelines.detection.weights import fingerprint, inspect
from jde_ray.pipelines.errors import ExitCode, Reason, RunError
from jde_ray.pipelines.formats.detections import read_saved
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.structures import FrameChunk, VideoInfo
from jde_ray.pipelines.tracking import offline, reference

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZE = (128, 64)


def detection(path: Path, **settings: object) -> DetectionConfig:
    return DetectionConfig(weights=str(path), size=SIZE, **settings)  # type: ignore[arg-type]


def chunk(width: int, height: int, *boxes: tuple[int, int, int, int]) -> FrameChunk:
    """Four frames of which two are real, with red boxes given in source pixels."""
    source = np.zeros((height, width, 3), np.uint8)
    for x1, y1, x2, y2 in boxes:
        source[y1:y2, x1:x2, 0] = 255
    frames = np.zeros((4, SIZE[1], SIZE[0], 3), np.uint8)
    frames[:2] = Letterbox(width, height, *SIZE).apply(source)
    info = VideoInfo(width, height, 25.0)
    return FrameChunk("a", 0, 0, np.arange(2), np.arange(2) / 25, frames, info, True, None)


def test_a_yaml_file_names_separate_networks(tmp_path: Path) -> None:
    path = write_declaration(tmp_path)
    model = load_network(detection(path), ResourceConfig())
    assert isinstance(model, SeparateModel)
    facts = inspect(str(path))
    assert facts.size == (128, 64)
    assert facts.sha256 == fingerprint(str(path))
    assert inspect(str(path), (64, 32)).size == (64, 32)


def test_a_compiled_network_finds_what_the_plain_one_finds(monkeypatch) -> None:
    import torch

    compiled: list[object] = []

    def compile_eagerly(function):
        compiled.append(function)
        return function

    monkeypatch.setattr(torch, "compile", compile_eagerly)  # the real one takes half a minute
    frames = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    box = Letterbox(96, 64, 96, 64)
    config = DetectionConfig(score_threshold=0.01, precision="fp32")
    plain, quick = (
        load_network(replace(config, compile=wanted), ResourceConfig()).detect(frames, [box])[0]
        for wanted in (False, True)
    )
    assert len(compiled) == 1
    assert np.array_equal(plain.scores, quick.scores)


def test_frames_go_to_a_gpu_through_one_pinned_buffer(monkeypatch) -> None:
    import torch

    empty, made = torch.empty, []

    def unpinned(*shape, pin_memory=False, **options):
        made.append((shape, pin_memory))
        return empty(*shape, **options)

    monkeypatch.setattr(torch, "empty", unpinned)  # there may be no GPU to pin memory for
    upload = Upload(torch.device("cpu"), pinned=True)
    rng = np.random.default_rng(0)
    places = set()
    for shape in ((2, 32, 64, 3), (1, 64, 32, 3), (2, 32, 64, 3)):
        sent = rng.integers(0, 256, shape, dtype=np.uint8)
        sent.flags.writeable = False  # as Ray's memory is
        arrived = upload(sent)
        assert arrived.dtype == torch.uint8
        assert np.array_equal(arrived.numpy(), sent)
        places.add(arrived.data_ptr())
    assert made == [((2 * 32 * 64 * 3,), True)]
    assert len(places) == 1


def test_separate_networks_are_not_compiled(tmp_path: Path) -> None:
    declaration = write_declaration(tmp_path)
    values = {("detection", "weights"): str(declaration), ("detection", "compile"): True}
    with pytest.raises(RunError, match="not a joint network of one stage") as caught:
        check_weights(values)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_a_wide_video_is_looked_at_without_its_borders(tmp_path: Path) -> None:
    """256x64 fills only the middle 32 rows of the frame; its cells are 32x16 source pixels."""
    found = Detector(detection(write_declaration(tmp_path)), ResourceConfig()).detect(
        chunk(256, 64, (32, 16, 64, 32))
    )
    assert found.error is None
    assert [frame.tlbr.tolist() for frame in found.detections] == [[[32, 16, 64, 32]]] * 2
    assert found.detections[0].embeddings.dtype == np.float16
    assert found.detections[0].embeddings.tolist() == [[1, 0, 0]]


def test_a_video_without_frames_has_no_detections(tmp_path: Path) -> None:
    nothing = {"frame_index": np.zeros(0, np.int64), "time_s": np.zeros(0)}
    empty = replace(chunk(256, 64), info=VideoInfo(0, 0, 0.0), **nothing)
    found = Detector(detection(write_declaration(tmp_path)), ResourceConfig()).detect(empty)
    assert (found.error, found.detections) == (None, [])


def test_a_network_that_gives_nan_is_the_videos_error(tmp_path: Path) -> None:
    from onnx_models import write_constant

    path = write_declaration(tmp_path)
    write_constant(tmp_path / "det.onnx", np.full((1, 5, 6), np.nan))
    found = Detector(detection(path), ResourceConfig()).detect(chunk(256, 64))
    assert found.error is not None
    assert found.error.reason == Reason.NON_FINITE_OUTPUT


def test_settling_fills_in_the_fingerprint_and_float32(tmp_path: Path) -> None:
    path = write_declaration(tmp_path)
    config = TrackConfig(detection=detection(path))
    settled = resolve_settings(config, load_network, ResourceConfig()).detection
    assert settled.weights_sha256 == fingerprint(str(path))
    assert settled.precision == "fp32"
    wrong = replace(config, detection=detection(path, precision="bf16"))
    with pytest.raises(RunError, match="precision: got bf16") as refused:
        resolve_settings(wrong, load_network, ResourceConfig())
    assert refused.value.exit_code == ExitCode.REFUSED
    (tmp_path / "reid.onnx").unlink()
    with pytest.raises(RunError, match=r"reid\.onnx cannot be read"):
        resolve_settings(config, load_network, ResourceConfig())


def write_qan(folder: Path) -> Path:
    """The tiny detector with a tiny network that tells the quality of crops."""
    torch.manual_seed(0)
    size = {"backbone": "shufflenet", "scale_units": 0, "size": (32, 64)}
    network = ReidNet(replace(SMALL_QAN, name="tiny", **size)).eval()
    torch.nn.init.normal_(network.quality.last.weight, std=9.0)
    path = write_declaration(folder, embedder=False)
    weights.save(network, folder / "qan.safetensors", {})
    path.write_text(f"{path.read_text()}embedder: {{weights: qan.safetensors}}\n")
    return path


def test_the_quality_that_a_qan_tells_is_saved_and_used_by_poi(tmp_path: Path) -> None:
    path, video = write_qan(tmp_path), write_video(tmp_path / "v.mp4", 12)
    tracking = PoiConfig(high_score=0.3, least_affinity=0.1)
    config = TrackConfig(
        detection=detection(path, score_threshold=0.3), tracking=tracking, min_box_area=0
    )
    outputs = OutputConfig(save_detections=True)
    reference.track(str(video), str(tmp_path / "out"), config, outputs=outputs)
    (saved,) = find_saved([str(tmp_path / "out")])
    ours, plain = (JDETracker(tracking, 25.0) for _ in range(2))
    replayed, qualities = [], []
    _, frames = read_saved(saved, config)
    for frame, time_s, found, motion in frames:
        looks, where = found.embeddings.astype(np.float32), (found.tlbr, found.scores)
        when = {"time_s": time_s, "camera_motion": motion}
        tracks = ours.update(*where, looks, quality=found.quality, **when)
        plain.update(*where, looks, **when)
        replayed += [(frame, *row) for row in zip(tracks.track_id, tracks.tlbr[:, 0], strict=True)]
        qualities.append(found.quality)
    every = np.concatenate(qualities)
    assert len(every) > 20
    assert 0 < every.min() < every.max() < 1
    rows = read_tracks(tmp_path / "out").select(["frame", "track_id", "x1"])
    expected = sorted(zip(*(column.to_pylist() for column in rows.columns), strict=True))
    np.testing.assert_allclose(sorted(replayed), expected, rtol=1e-6)
    looks = ours.get_state()["embeddings"]
    assert np.abs(looks - plain.get_state()["embeddings"]).max() > 1e-4


@pytest.mark.ray
@pytest.mark.parametrize(
    "embedder", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["embedder", "boxes-only"]
)
def test_the_dataflow_gives_the_bytes_of_the_reference_loop(
    ray_cluster: str, tmp_path: Path, embedder: bool
) -> None:
    path = write_declaration(tmp_path, embedder=embedder)
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "v.mp4", 20)
    config = TrackConfig(detection=detection(path, score_threshold=0.3), min_box_area=0)
    outputs = OutputConfig(save_detections=True, save_embeddings=True)
    for track, name, frames in ((reference.track, "plain", 4), (offline.track, "out", 8)):
        summary = track(
            [str(tmp_path / "in")],
            str(tmp_path / name),
            config,
            resources=ResourceConfig(chunk_frames=frames, num_detectors=1, num_associators=1),
            outputs=outputs,
        )
        assert (summary.exit_code, summary.frames) == (ExitCode.DONE, 20)
        assert summary.detections > 20
    for kind in ("tracks", "detections"):
        (plain,), (out,) = (list((tmp_path / n / kind).glob("*")) for n in ("plain", "out"))
        assert plain.read_bytes() == out.read_bytes()
    metadata = pq.ParquetFile(next((tmp_path / "out/tracks").glob("*"))).metadata.metadata
    assert metadata[b"weights_sha256"].decode() == fingerprint(str(path))
    assert metadata[b"model"] == b"sde.yaml"
