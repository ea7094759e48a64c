"""The paper's second test: the same detections, associated with other embeddings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_videos import write_images
from onnx_models import write_declaration, write_mean_embedder

from jde_ray.jobs import cli
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.pipelines.config import OutputConfig, TrackConfig
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.evaluation.separate_embeddings import settings_of
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.tracking import reference

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

FRAMES = 12


def draw(number: int, width: int, height: int) -> np.ndarray:
    frame = np.full((height, width, 3), 40, np.uint8)
    frame[10:50, 20 + number : 40 + number, 0] = 255
    return frame


@pytest.fixture
def finished_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run that saved its detections, with its own rows as ground truth."""
    folder = write_images(tmp_path / "gt" / "S", FRAMES, 10.0, size=(128, 64), draw=draw)
    config = TrackConfig(
        detection=detection_for(str(write_declaration(tmp_path))),
        tracking=TrackingConfig(high_score=0.3, min_hits=1),
        min_box_area=1.0,
    )
    outputs = OutputConfig(save_detections=True)
    reference.track(str(folder), str(tmp_path / "run"), config, outputs=outputs)
    (file,) = (tmp_path / "run" / "tracks").iterdir()
    rows = read_tracks(file)
    assert len(rows.frame)
    lines = [
        f"{frame + 1},{person},{x1 + 1},{y1 + 1},{x2 - x1},{y2 - y1},1,1,1\n"
        for frame, person, (x1, y1, x2, y2) in zip(
            rows.frame, rows.track_id, rows.tlbr, strict=True
        )
    ]
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("".join(lines))
    assert settings_of(tmp_path / "run" / "run.json").tracking == config.tracking
    write_mean_embedder(tmp_path / "look.onnx")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(*more: str) -> int:
    return cli.run(["eval", "run", "--gt", "gt", "--failures", "out", *more])


def test_both_rows_are_shown_and_the_runs_own_is_what_it_reported(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate("--reid", "look.onnx") == 0
    shown = capsys.readouterr().out
    assert "the run's own" in shown
    content = json.loads((finished_run / "out" / "failures.json").read_text())
    own, other = (content["separate"]["S"][kind] for kind in ("the run's own", "separate"))
    assert own == {name: content["ceiling"]["S"]["as reported"][name] for name in own}
    assert other.keys() == own.keys()
    assert "associated with other embeddings" in (finished_run / "out/index.html").read_text()
    assert evaluate() == 0
    content = json.loads((finished_run / "out" / "failures.json").read_text())
    assert "separate" not in content


def test_without_detections_or_frames_one_line_says_so(
    finished_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished_run / "run" / "detections").rename(finished_run / "gone")
    assert evaluate("--reid", "look.onnx") == 0
    said = capsys.readouterr().err
    assert "so without the test of separate embeddings: S." in said
    (finished_run / "gone").rename(finished_run / "run" / "detections")
    record = json.loads((finished_run / "run" / "run.json").read_text())
    del record["config"]["tracking"]
    (finished_run / "run" / "run.json").write_text(json.dumps(record))
    assert evaluate("--reid", "look.onnx") == 2
    assert "run.json cannot be read" in capsys.readouterr().err
    assert evaluate("--reid", "nope.onnx") == 2
    assert "reid: nope.onnx" in capsys.readouterr().err
    assert cli.run(["eval", "run", "--gt", "gt", "--reid", "look.onnx"]) == 2
    assert "reid: got look.onnx, expected it with --failures" in capsys.readouterr().err
