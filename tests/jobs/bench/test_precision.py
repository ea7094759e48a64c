"""`jde bench precision`: how differences between two ways of running the network are counted."""

import json

import numpy as np
import pytest
import torch
from made_videos import write_images
from typer.testing import CliRunner

from jde_ray.jobs.bench import app, precision
from jde_ray.jobs.bench.precision import Seen, compare
from jde_ray.models.jde import weights
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.network import JDE
from jde_ray.models.structures import Detections, Tracks


def seen(boxes, ids):
    tlbr = np.array(boxes, np.float32).reshape(-1, 4)
    scores, embeddings = np.full(len(tlbr), 0.9, np.float32), np.eye(4, dtype=np.float16)
    tracks = Tracks(np.array(ids), tlbr.astype(np.float64), scores, np.arange(len(tlbr)))
    return Seen(Detections(tlbr, scores, embeddings[: len(tlbr)]), tracks)


A, B, C = [0, 0, 10, 20], [50, 0, 60, 20], [90, 0, 99, 20]
MOVED = [0, 0, 10, 22]


def test_the_same_is_no_difference():
    frames = [seen([A, B], [1, 2]), seen([], np.zeros(0, np.int64)), seen([B, A], [2, 1])]
    assert compare(frames, frames) == {
        "detections": 4,
        "lost": 0,
        "gained": 0,
        "moved_median_px": 0.0,
        "moved_mean_px": 0.0,
        "moved_p99_px": 0.0,
        "moved_max_px": 0.0,
        "embedding_distance": 0.0,
        "rows": 4,
        "rows_lost": 0,
        "rows_gained": 0,
        "ids_changed": 0,
    }


def test_boxes_lost_gained_and_moved_are_counted():
    row = compare([seen([A, B], [1, 2])], [seen([MOVED, C], [1, 2])])
    assert (row["lost"], row["gained"], row["rows_lost"], row["rows_gained"]) == (1, 1, 1, 1)
    assert row["moved_max_px"] == row["moved_mean_px"] == pytest.approx(2.0)


def test_renumbered_identities_are_the_same_and_switched_ones_are_not():
    reference = [seen([A, B], [1, 2])] * 4
    renumbered = [seen([A, B], [7, 5])] * 4
    assert compare(reference, renumbered)["ids_changed"] == 0
    switched = [seen([A, B], [7, 5])] * 3 + [seen([A, B], [5, 7])]
    assert compare(reference, switched)["ids_changed"] == 2


def test_the_command_gives_a_line_a_mode(tmp_path):
    torch.manual_seed(0)
    weights.save(JDE(SMALL), tmp_path / "w.safetensors")
    folder = write_images(tmp_path / "v", 3, rate=10.0)
    before = torch.get_num_threads()
    arguments = ["precision", str(folder), "--weights", str(tmp_path / "w.safetensors")]
    result = CliRunner().invoke(app.app, [*arguments, "--size", "96x64", "--max-frames", "2"])
    torch.set_num_threads(before)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["mode"] for row in rows] == list(precision.MODES)
    assert {row["frames"] for row in rows} == {2}
