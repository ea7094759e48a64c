"""`jde bench network`: what it prints. Speed itself is never tested."""

import json
from importlib.util import find_spec

import pytest
import torch
from typer.testing import CliRunner

from jde_ray.jobs import cli
from jde_ray.jobs.bench import app, configurations, network
from jde_ray.pipelines.detection import precision
from jde_ray.pipelines.detection.precision import quick_precision


@pytest.fixture(autouse=True)
def _keep_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_json_holds_speed_share_of_the_limit_and_memory():
    arguments = ["network", "--quick", "--config", "small", "--batch", "2", "--threads", "1"]
    # bf16 only where the processor has units for it: elsewhere it takes ten times as long
    plain = ["fp32"] if quick_precision("cpu") == "fp32" else ["fp32", "bf16"]
    quantised = ["int8"] if find_spec("openvino") else []
    for name in (*plain, *quantised):
        arguments += ["--precision", name]
    result = CliRunner().invoke(app.app, [*arguments, "--device", "cpu", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["threads"] == 1
    assert [row["precision"] for row in report["rows"]] == [*plain, *quantised]
    for row in report["rows"]:
        assert row["configuration"] == "small"
        assert row["batch"] == 2
        assert row["gflop_a_frame"] == pytest.approx(7.480, abs=1e-3)
        assert row["frames_per_second"] == pytest.approx(2000 / row["ms"])
        share = row["frames_per_second"] * row["gflop_a_frame"] / row["limit_gflop_per_second"]
        assert row["share_of_limit"] == pytest.approx(share)
        assert row["peak_mib"] > 20


def test_graphs_stream_batches_through_the_runner(monkeypatch):
    from jde_ray.models.jde.config import SMALL
    from jde_ray.models.jde.fusion import optimise
    from jde_ray.models.jde.gpu.runner import Runner
    from jde_ray.models.jde.network import JDE

    events, submit = [], Runner.submit

    class Watched:
        def __init__(self, pending):
            self.pending = pending

        def result(self):
            events.append("result")
            return self.pending.result()

    def watched(self, parts):
        events.append("submit")
        return Watched(submit(self, parts))

    monkeypatch.setattr(Runner, "submit", watched)
    model = optimise(JDE(SMALL).eval(), "fp32")
    frames = torch.zeros((2, 64, 96, 3), dtype=torch.uint8).numpy()
    network._stream(model, frames, 0.9)(3)
    assert events == ["submit", "submit", "result", "submit", "result", "result"]


def test_the_table_has_a_line_a_row():
    row = {"configuration": "darknet53-1088x608", "batch": 1, "precision": "bf16", "ms": 500.0}
    row |= {"frames_per_second": 2.0, "gflop_a_frame": 271.0, "limit_gflop_per_second": 1084.0}
    report = {"device": "a processor", "threads": 2, "rows": [row | {"share_of_limit": 0.5}]}
    report["rows"][0]["peak_mib"] = 700.0
    table = network.build_table(report)
    cells = [next(iter(column.cells)) for column in table.columns]
    assert cells == [
        "darknet53-1088x608",
        "1",
        "bf16",
        "500.0",
        "2.00",
        "271.0",
        "1084",
        "50",
        "700",
    ]


def test_bf16_is_not_emulated_without_a_word(monkeypatch, capsys, caplog):
    monkeypatch.setattr(precision, "quick_precision", lambda _: "fp32")
    asked = []
    monkeypatch.setattr(network.NetworkBench, "rows", lambda bench: asked.append(bench) or ())
    assert cli.run(["bench", "network", "--device", "cpu"]) == 0
    assert asked[0].precisions == ("fp32", "int8")
    assert "bf16: left out, this machine would emulate it" in capsys.readouterr().out
    assert cli.run(["bench", "network", "--device", "cpu", "--precision", "bf16"]) == 0
    assert asked[1].precisions == ("bf16",)
    assert "left out" not in capsys.readouterr().out
    assert caplog.messages == [
        "precision: this machine emulates bf16, which takes about ten times as long as fp32"
    ]


def test_quick_measures_networks_that_exist():
    from jde_ray.models.jde.config import CONFIGURATIONS

    assert set(app.QUICK) <= set(CONFIGURATIONS)
    assert configurations.giga_operations("resnet50-576x320") == pytest.approx(53.87, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "vgg"], "config: got 'vgg', expected small, base, small-shufflenet, "),
        (["--precision", "int4"], "precision: got 'int4', expected fp32, bf16, int8"),
        (["--device", "cpu", "--graphs"], "--graphs needs a CUDA device"),
    ],
    ids=["config", "precision", "graphs"],
)
def test_refusals_are_one_line(capsys, arguments, message):
    assert cli.run(["bench", "network", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
