"""`jde track --weights sde.yaml`: what cannot be used is one line before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_videos import write_video
from onnx_models import write_constant, write_declaration, write_mean_embedder

from jde_ray.jobs import cli
from jde_ray.jobs.console.settings import check_weights
from jde_ray.pipelines.config import DetectionConfig
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.tracking import reference

pytest.importorskip("onnxruntime")


def test_the_frames_size_is_the_files_unless_it_is_given(tmp_path: Path) -> None:
    weights = str(write_declaration(tmp_path, frames="160x96"))
    place = ("detection", "weights")
    assert check_weights({place: weights}).track.detection.size == (160, 96)
    given = check_weights({place: weights, ("detection", "size"): (64, 32)}).track.detection
    assert given.size == (64, 32)
    assert given.weights_sha256 != DetectionConfig().weights_sha256


def test_a_detr_finds_people_in_a_video(tmp_path: Path) -> None:
    """Two people of class 1, one of them found twice, and one cat."""
    write_video(tmp_path / "v.mp4", 6, size=(128, 64))
    boxes = [[0.25, 0.5, 0.125, 0.5], [0.26, 0.5, 0.125, 0.5], [0.75, 0.5, 0.125, 0.75]]
    logits = [[-9.0, 4.0], [-9.0, 3.0], [-9.0, 4.0], [5.0, -9.0]]
    write_constant(tmp_path / "det.onnx", np.array([logits]), np.array([[*boxes, boxes[0]]]))
    write_mean_embedder(tmp_path / "reid.onnx")
    weights = tmp_path / "sde.yaml"
    weights.write_text(
        "frames: 128x64\ndetector: {file: det.onnx, layout: detr, person: 1}\n"
        "embedder: {file: reid.onnx}\n"
    )
    settings = check_weights({("detection", "weights"): str(weights)})
    reference.track([str(tmp_path / "v.mp4")], str(tmp_path / "out"), settings.track)
    (path,) = (tmp_path / "out" / "tracks").iterdir()
    last = read_tracks(path)
    last = last.tlbr[last.frame == 5]
    assert np.rint(last[np.argsort(last[:, 0])]).tolist() == [[24, 16, 40, 48], [88, 8, 104, 56]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("output", "det.onnx: got output (1, 3, 9), layout yolov8 takes (1, 4 + C, N)"),
        ("missing", "reid.onnx is missing"),
        ("setting", "sde.yaml: detector.threshold: no such setting, expected file, size"),
        ("size", "size: got 100x64, expected multiples of 32, nearest is 96x64"),
    ],
)
def test_refusals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: str, message: str
) -> None:
    write_video(tmp_path / "v.mp4", 2)
    weights = write_declaration(tmp_path / "sde")
    arguments = ["track", str(tmp_path / "v.mp4"), "--weights", str(weights)]
    if change == "output":
        write_constant(tmp_path / "sde/det.onnx", np.zeros((1, 3, 9)))
    elif change == "missing":
        (tmp_path / "sde/reid.onnx").unlink()
    elif change == "setting":
        weights.write_text(weights.read_text().replace("layout", "threshold: 1, layout"))
    else:
        arguments += ["--size", "100x64"]
    assert cli.run([*arguments, "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()
