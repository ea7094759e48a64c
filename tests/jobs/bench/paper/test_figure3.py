import csv
import math

import pytest
from typer.testing import CliRunner

from jde_ray.jobs.bench import app
from jde_ray.jobs.bench.paper.figure3 import series
from jde_ray.pipelines.errors import RunError

HEADS = [f"{task}_{stride}" for task in ("score", "box", "identity") for stride in (32, 16, 8)]


@pytest.fixture
def run(tmp_path):
    names = [f"{kind}_{head}" for kind in ("loss", "weight") for head in HEADS]
    lines = [["step", "total", *names]]
    lines += [[step, -3, *(1 + i / step for i in range(18))] for step in range(20, 220, 20)]
    with (tmp_path / "curves.csv").open("w", newline="") as file:
        csv.writer(file).writerows(lines)
    return tmp_path


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_figure_3_is_drawn_from_the_curves_of_a_run(run, suffix):
    out = run / "plots" / f"figure3.{suffix}"
    result = CliRunner().invoke(app.app, ["figure3", str(run), "--out", str(out)])
    assert result.exit_code == 0, result.output
    start = out.read_bytes()[:400]
    assert (
        start.startswith(b"\x89PNG") if suffix == "png" else b"<svg" in start or b"<?xml" in start
    )


def test_all_heads_and_tasks_are_there_and_zeros_are_left_out():
    rows = [
        {"step": "20", "loss_box_8": "0.5", "loss_identity_8": "0", "weight_box_8": "63"},
        {"step": "40", "loss_box_8": "0.4", "loss_identity_8": "2", "weight_box_8": "64"},
    ]
    assert series(rows, "loss") == {
        "box_8": ([20.0, 40.0], [0.5, 0.4]),
        "identity_8": ([40.0], [2.0]),
    }
    assert series(rows, "weight") == {"box_8": ([20.0, 40.0], [63.0, 64.0])}


def test_older_curves_give_their_weights_from_the_uncertainties():
    ((steps, values),) = series([{"step": "20", "s_box": "-2", "loss_box": "1"}], "weight").values()
    assert steps == [20.0]
    assert values == pytest.approx([math.exp(2) / 2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nowhere"], "has no curves.csv"), (["{run}", "--out", "a.gif"], "expected .png")],
)
def test_what_cannot_be_drawn_is_refused(run, arguments, message):
    arguments = [argument.format(run=run) for argument in arguments]
    result = CliRunner().invoke(app.app, ["figure3", *arguments])
    assert isinstance(result.exception, RunError)
    assert message in str(result.exception)
