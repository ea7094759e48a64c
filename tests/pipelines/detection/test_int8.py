"""`--precision int8` in the pipeline: the quantised file, its fingerprint, and its rows."""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_videos import write_video

from jde_ray.jobs import cli
from jde_ray.models import openvino_files
from jde_ray.models.cards import REID
from jde_ray.models.jde import int8, weights
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.sde.declaration_file import read_embedder
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection import devices, precision
from jde_ray.pipelines.detection.embedders import open_embedder
from jde_ray.pipelines.detection.networks import Int8Model, load_network
from jde_ray.pipelines.detection.settings import resolve_precision
from jde_ray.pipelines.detection.weights import reid_fingerprint
from jde_ray.pipelines.tracking import offline, reference

pytest.importorskip("openvino")

INT8 = DetectionConfig(weights="small", precision="int8", size=(96, 64), score_threshold=0.0)


def test_the_fingerprint_is_that_of_the_quantised_file() -> None:
    resolved = resolve_precision(INT8, "cpu")
    assert resolved.precision == "int8"
    assert resolved.weights_sha256 == openvino_files.sha256(int8.find("small"))
    assert resolved.weights_sha256 != weights.sha256("small")
    continued = resolve_precision(DetectionConfig(weights="small"), "cpu", recorded="int8")
    assert (continued.precision, continued.weights_sha256) == ("int8", resolved.weights_sha256)


@pytest.mark.parametrize("look", ["reid-small", "reid-small+colours"])
def test_the_second_look_runs_in_8_bits_too(look: str) -> None:
    exact = replace(INT8, precision="fp32", reid=look, reid_sha256=reid_fingerprint(look))
    quantised = resolve_precision(replace(exact, precision="int8"), "cpu")
    assert resolve_precision(exact, "cpu").reid_sha256 == exact.reid_sha256
    assert quantised.reid_sha256 != exact.reid_sha256
    assert resolve_precision(quantised, "cpu") == quantised
    offline_only = replace(exact, precision="int8", reid_mode="offline")
    assert resolve_precision(offline_only, "cpu").reid_sha256 == exact.reid_sha256

    frame = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    box, resources = Letterbox(96, 64, 96, 64), ResourceConfig(device="cpu")
    looks = [load_network(one, resources).detect(frame[None], [box])[0] for one in
             (replace(exact, precision="int8"), replace(INT8, reid="none"))]  # fmt: skip
    width = looks[1].embeddings.shape[1]
    assert looks[0].embeddings.shape[1] > width + 256 - 1
    embedder = open_embedder(read_embedder(look), quantised=True)
    (tlbr,) = [one.tlbr for one in looks[:1]]
    again = embedder.embed(frame, np.asarray(tlbr, np.float32))
    alike = looks[0].embeddings[:, width:] / np.linalg.norm(
        looks[0].embeddings[:, width:], axis=1, keepdims=True
    ).clip(1e-9)
    seen = np.linalg.norm(again, axis=1) > 0
    np.testing.assert_allclose(alike[seen], again[seen], atol=2e-3)


def test_a_second_look_without_a_quantised_file_stays_in_float(tmp_path: Path) -> None:
    shutil.copy(REID.folder / "reid-small.safetensors", tmp_path / "own.safetensors")
    look = str(tmp_path / "own.safetensors")
    wanted = replace(INT8, reid=look, reid_sha256=reid_fingerprint(look))
    assert resolve_precision(wanted, "cpu").reid_sha256 == wanted.reid_sha256


def test_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="int8 runs on a CPU, got device cuda; use --device cpu"):
        resolve_precision(INT8, "cuda")
    monkeypatch.setattr(devices, "has_cuda", lambda: True)
    with pytest.raises(ValueError, match="int8 runs on a CPU, got device auto; use --device cpu"):
        resolve_precision(INT8, "auto")
    assert resolve_precision(INT8, "cpu").precision == "int8"


def test_weights_without_a_quantised_file_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own.safetensors"
    weights.save(weights.load("small"), own)
    write_video(tmp_path / "a.mp4", 2)
    arguments = ["track", str(tmp_path / "a.mp4"), "--weights", str(own), "--precision", "int8"]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "own.int8.xml beside" in line
    assert "jde export" in line


def test_emulated_bf16_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = DetectionConfig(weights="small", precision="bf16")
    for quick in ("bf16", "fp32"):
        monkeypatch.setattr(precision, "quick_precision", lambda _, quick=quick: quick)
        with caplog.at_level(logging.WARNING):
            resolve_precision(wanted, "cpu")
        assert ("emulates bf16" in caplog.text) == (quick == "fp32")


def test_a_person_is_described_from_the_same_network() -> None:
    model = load_network(replace(INT8, reid="none"), ResourceConfig())
    assert isinstance(model, Int8Model)
    frame = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    box = Letterbox(96, 64, 96, 64)
    (found,) = model.detect(frame[None], [box])
    vectors = model.embed(frame, box, found.tlbr[:3].astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-4)
    padded = model.detect(np.stack([frame, np.zeros_like(frame)]), [box])
    assert len(padded) == 1
    np.testing.assert_array_equal(padded[0].tlbr, found.tlbr)


@pytest.mark.slow
@pytest.mark.ray
def test_rows_of_the_dataflow_are_those_of_the_loop(ray_cluster: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(2):
        write_video(tmp_path / "in" / f"v{number}.mp4", 20 + 7 * number)
    config = TrackConfig(detection=INT8, min_box_area=0)
    outputs = OutputConfig(save_detections=True)
    resources = ResourceConfig(chunk_frames=8, num_detectors=2)
    for track, name in ((reference.track, "plain"), (offline.track, "out")):
        track(
            [str(tmp_path / "in")],
            str(tmp_path / name),
            config,
            resources=resources,
            outputs=outputs,
        )
    for folder in ("tracks", "detections"):
        plain, out = (
            {path.name: path.read_bytes() for path in (tmp_path / name / folder).iterdir()}
            for name in ("plain", "out")
        )
        assert plain == out
        assert len(plain) == 2
    found = (tmp_path / "out" / "detections").iterdir()
    assert sum(pq.read_metadata(path).num_rows for path in found) == 47
