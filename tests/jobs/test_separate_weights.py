"""`jde track --weights sde.yaml`: what cannot be used is one line before any work."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_videos import write_video
from onnx_models import write_constant, write_declaration

from jde_ray.jobs import cli
from jde_ray.jobs.console.settings import check_weights
from jde_ray.pipelines.config import DetectionConfig

pytest.importorskip("onnxruntime")


def test_the_frames_size_is_the_files_unless_it_is_given(tmp_path: Path) -> None:
    weights = str(write_declaration(tmp_path, frames="160x96"))
    place = ("detection", "weights")
    assert check_weights({place: weights}).track.detection.size == (160, 96)
    given = check_weights({place: weights, ("detection", "size"): (64, 32)}).track.detection
    assert given.size == (64, 32)
    assert given.weights_sha256 != DetectionConfig().weights_sha256


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
