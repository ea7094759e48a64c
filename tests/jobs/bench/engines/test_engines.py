"""`jde bench engines`: what is compared, and what an engine that is not there leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from jde_ray.jobs import cli
from jde_ray.jobs.bench.engines import command, networks
from jde_ray.jobs.bench.engines.agreement import Agreement
from jde_ray.jobs.bench.engines.networks import LeftOutError, Setting
from jde_ray.models.jde import weights
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.decode import Candidates
from jde_ray.models.jde.network import JDE

SIZE = (64, 96)


def candidates(scores: list[float], x: float = 10.0, vector: tuple[float, float] = (1, 0)) -> Any:
    boxes = torch.tensor([[x, 10.0, 4.0, 8.0]]).repeat(len(scores), 1)[None]
    maps = torch.tensor(vector)[None, :, None, None].repeat(1, 1, 1, len(scores)).float()
    return Candidates(boxes, torch.tensor([scores]), (maps,))


def test_candidates_are_compared_cell_by_cell() -> None:
    agreement = Agreement()
    agreement.add(candidates([0.9, 0.6, 0.4, 0.1]), candidates([0.8, 0.5, 0.6, 0.2], 11.5, (3, 4)))
    agreement.add(candidates([0.1]), candidates([0.1]))
    assert agreement.row() == {
        "candidates": 2,
        "lost": 1,
        "gained": 1,
        "moved_median_px": pytest.approx(1.5),
        "embedding_cosine": pytest.approx(0.6),
    }
    assert Agreement().row()["moved_median_px"] is None


@pytest.fixture
def small(tmp_path: Path) -> Setting:
    torch.manual_seed(0)
    model = JDE(SMALL)
    with torch.no_grad():
        for head in model.heads:
            head.box.weight[4::5].normal_(std=0.5)
            head.box.bias[4::5] = 0.0
    weights.save(model, tmp_path / "w.safetensors")
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(2)]
    return Setting(str(tmp_path / "w.safetensors"), 1, pictures, tmp_path / "engines")


def test_engines_that_do_not_run_here_say_why(
    small: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(_: Setting) -> Any:
        raise LeftOutError("needs a package")

    def broken(_: Setting) -> Any:
        raise KeyError("no such layer")

    engines = {("torch", "fp32"): networks.ENGINES["torch", "fp32"]}
    engines |= {("torch", "int8"): engines["torch", "fp32"], ("openvino", "fp32"): missing}
    engines |= {("openvino", "int8"): broken, ("onnxruntime", "fp32"): missing}
    monkeypatch.setattr(command, "ENGINES", engines)
    rows = command.measure(SMALL, small, small.calibration, ["torch", "openvino"])
    assert [(row["engine"], row["precision"]) for row in rows] == list(engines)[:4]
    first, same, *absent = rows
    assert first["times_fp32"] == 1
    assert (same["lost"], same["gained"], same["moved_median_px"]) == (0, 0, 0)
    assert same["candidates"] == first["candidates"] > 0
    assert same["embedding_cosine"] == pytest.approx(1)
    assert [row["left_out"] for row in absent] == ["needs a package", "KeyError: 'no such layer'"]
    about = {"cpu": "a processor", "units": ["avx2"], "threads": 1}
    about |= {"frames": 2, "calibration_frames": 2}
    console = Console(width=160, record=True)
    console.print(command.build_table(about | {"rows": rows}))
    assert "openvino fp32: left out, needs a package" in console.export_text()


def test_emulated_bf16_is_left_out(small: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    from jde_ray.pipelines.detection import precision

    monkeypatch.setattr(precision, "quick_precision", lambda _: "fp32")
    with pytest.raises(LeftOutError, match="no units for bf16 and would emulate it"):
        networks.in_torch(small, "bf16")


def test_an_unknown_engine_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "engines", "a.mp4", "--calibration", "b.mp4", "--engine", "tflite"]
    assert cli.run(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "engine: got 'tflite', expected torch, openvino, onnxruntime" in line


@pytest.mark.slow
def test_every_engine_finds_what_torch_finds(small: Setting) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    from dataclasses import replace

    from jde_ray.models.jde.int8 import find  # the shipped file
    from jde_ray.models.synthetic.render import render
    from jde_ray.models.synthetic.scene import StreetScene

    assert find("small").is_file()
    scene = StreetScene(seed=3, width=576, height=320, num_frames=3, frames_per_second=5.0)
    pictures = [np.ascontiguousarray(picture) for picture, _ in render(scene)]
    setting = replace(small, weights="small", calibration=pictures)
    rows = command.measure(
        weights.load("small").config, setting, pictures, ["openvino", "torch", "onnxruntime"]
    )
    measured = {(row["engine"], row["precision"]): row for row in rows if "ms" in row}
    for key in (("openvino", "fp32"), ("onnxruntime", "fp32")):
        assert (measured[key]["lost"], measured[key]["gained"]) == (0, 0)
        assert measured[key]["moved_median_px"] < 0.01
    for engine in ("openvino", "onnxruntime", "torch"):
        assert measured[engine, "int8"]["embedding_cosine"] > 0.97
