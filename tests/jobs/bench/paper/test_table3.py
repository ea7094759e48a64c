"""`jde bench table3`: systems from a file, measured rows below the published ones."""

import json

import numpy as np
import pytest
import torch
from onnx_models import write_declaration, write_mean_embedder
from safetensors.torch import save_file
from typer.testing import CliRunner

from jde_ray.jobs import cli
from jde_ray.jobs.bench import app
from jde_ray.jobs.bench.paper import systems
from jde_ray.jobs.bench.paper.speed import whole_rate
from jde_ray.jobs.bench.paper.systems import System, network_name, read_systems, trained_on
from jde_ray.jobs.bench.paper.table3_rows import (
    COLUMNS,
    PUBLISHED,
    build_table,
    measured_row,
    rate_of,
)
from jde_ray.models.reid.config import CONFIGURATIONS

ROW = {
    "name": "mine",
    "detector": "small",
    "embedding": "-",
    "scores": {},
    "FPSD": 10.0,
    "FPSE": None,
    "FPSA": 40.0,
    "FPS": 8.0,
    "FPS_decoded": 5.0,
}


@pytest.mark.parametrize("row", PUBLISHED, ids=lambda row: row[0])
def test_the_papers_speeds_add_up(row):
    detector, association, whole = row[10], row[12], row[13]
    together = whole_rate([rate_of(detector), rate_of(association)])
    assert together == pytest.approx(rate_of(whole), abs=0.06)
    assert detector.startswith("<") == whole.startswith("<")


def test_a_measured_row_has_a_dash_for_what_was_not_measured():
    row = measured_row(ROW)
    assert len(row) == len(COLUMNS) == {len(one) for one in PUBLISHED}.pop()
    assert row == ("mine", "small", *"-" * 8, "10.0", "-", "40.0", "8.0", "5.0")
    scores = {"MOTA": 60.04, "IDF1": 50.0, "MT": 3, "PT": 4, "ML": 1, "IDs": 9}
    row = measured_row(ROW | {"scores": scores, "boxes": 429_000, "identities": 1_200})
    assert row[3:10] == ("429K", "1.2K", "60.0", "50.0", "37.5", "12.5", "9")


def test_saved_detections_give_a_bound():
    row = ROW | {"fpsd": "<15*", "FPSE": 30.0, "FPSA": 10.0}
    assert measured_row(row)[10:] == ("<15*", "30.0", "10.0", "<5.0", "-")
    assert measured_row(row | {"fpsd": "15"})[13] == "5.0"
    assert measured_row(row | {"fpsd": "-"})[10:] == ("-", "30.0", "10.0", "-", "-")


def test_a_measured_row_stands_below_the_published_one_of_its_name():
    rows = [measured_row(ROW | {"name": name}) for name in ("POI", "other")]
    table = build_table(rows)
    methods = list(table.columns[0].cells)
    assert methods[methods.index("POI") + 1] == "> POI"
    assert methods[-1] == "other"
    assert len(methods) == len(PUBLISHED) + 2
    assert list(build_table(rows, published=False).columns[0].cells) == ["POI", "other"]


def test_systems_are_measured_on_the_sequences(street, tmp_path):
    pytest.importorskip("onnxruntime")
    declared = write_declaration(tmp_path / "tiny", embedder=False)
    write_mean_embedder(tmp_path / "mean.onnx")
    detections = tmp_path / "saved" / "little" / "det"
    detections.mkdir(parents=True)
    lines = [f"{frame},-1,20,20,20,60,0.9,-1,-1,-1" for frame in range(1, 9)]
    (detections / "one.txt").write_text("\n".join(lines) + "\n")
    (tmp_path / "systems.yaml").write_text(
        f"""
- {{name: POI, detections: "saved/{{sequence}}/det/one.txt", fpsd: "<15*", embedder: mean.onnx,
    association: {{association: deepsort, min_hits: 1}}}}
- {{name: Red, detector: {declared.relative_to(tmp_path)}, conf: 0.3, association: sort}}
"""
    )
    arguments = ["table3", "--systems", str(tmp_path / "systems.yaml"), "--data", str(street)]
    out = tmp_path / "out"
    result = CliRunner().invoke(app.app, [*arguments, "--out", str(out), "--threads", "1"])
    assert result.exit_code == 0, result.output
    poi, red = json.loads((out / "table3.json").read_text())["rows"]
    assert (poi["name"], poi["detector"], poi["embedding"]) == ("POI", "saved", "mean")
    assert (poi["FPSD"], red["FPSE"], poi["boxes_per_frame"]) == (None, None, 1)
    assert poi["FPSE"] > 0
    assert np.isfinite(red["scores"]["MOTA"])
    text = (out / "POI/little.txt").read_text().splitlines()
    assert [line.split(",")[:6] for line in text[:2]] == [
        ["1", "1", "20.00", "20.00", "20.00", "60.00"],
        ["2", "1", "20.00", "20.00", "20.00", "60.00"],
    ]
    assert "> POI" in result.output
    assert "mean.onnx" in result.output
    assert "scored on little" in result.output


def test_without_truth_there_is_text_and_no_accuracy(street, tmp_path):
    alone = tmp_path / "data"
    alone.mkdir()
    (alone / "little.mp4").write_bytes((street / "little.mp4").read_bytes())
    (tmp_path / "d.txt").write_text("1,-1,20,20,20,60,0.9,-1,-1,-1\n")
    (tmp_path / "systems.yaml").write_text("- {name: mine, detections: little.txt}\n")
    (tmp_path / "d.txt").rename(tmp_path / "little.txt")
    arguments = ["table3", "--systems", str(tmp_path / "systems.yaml"), "--data", str(alone)]
    result = CliRunner().invoke(app.app, [*arguments, "--out", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    (row,) = json.loads((tmp_path / "out/table3.json").read_text())["rows"]
    assert row["scores"] == {}
    assert measured_row(row)[5:10] == ("-",) * 5
    assert (tmp_path / "out/mine/little.txt").exists()
    assert "scored on nothing" in result.output


def test_numbers_trained_on_come_from_the_weight_files(tmp_path):
    tensor = {"x": torch.zeros(1)}
    save_file(tensor, tmp_path / "a.safetensors", metadata={"boxes": "270000", "identities": "0"})
    save_file(tensor, tmp_path / "b.safetensors", metadata={"boxes": "1", "identities": "8700"})
    files = {"detector": str(tmp_path / "a.safetensors")}
    assert trained_on(System(name="s", **files)) == (270_000, None)
    files["embedder"] = str(tmp_path / "b.safetensors")
    assert trained_on(System(name="s", **files)) == (270_000, 8_700)
    files["embedder"] = str(tmp_path / "b.onnx")
    assert trained_on(System(name="s", **files)) == (270_000, None)


def test_paths_are_relative_to_the_file_and_names_stay(tmp_path):
    (tmp_path / "x.safetensors").touch()
    file = tmp_path / "systems.yaml"
    file.write_text(
        "- {name: 1, detector: small}\n- {name: b, detector: x.safetensors}\n"
        "- {name: c, detections: 'a/{sequence}.txt', fpsd: 15}\n"
        "- {name: d, detector: small, association: {association: ran, weights: x.safetensors}}\n"
    )
    one, two, three, four = read_systems(file)
    assert (one.name, one.detector) == ("1", "small")
    assert two.detector == str(tmp_path / "x.safetensors")
    assert (three.detections, three.fpsd) == (str(tmp_path / "a/{sequence}.txt"), "15")
    assert four.association["weights"] == str(tmp_path / "x.safetensors")


def test_files_of_ours_are_shown_by_the_name_of_their_network(tmp_path):
    path = tmp_path / "weights.safetensors"
    config = {"config": CONFIGURATIONS["reid-tiny-ide"].to_json()}
    save_file({"x": torch.zeros(1)}, path, metadata=config)
    assert network_name(path) == "reid-tiny-ide"
    assert [network_name(name) for name in ("small", "a/osnet.onnx")] == ["small", "osnet"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1", "expected a list of systems"),
        ("- {detector: small}", "system 1 has no name"),
        ("- {name: a}", "a: expected one of detector and detections"),
        ("- {name: a, detector: small, detections: x}", "expected one of detector and detec"),
        ("- {name: a, detector: small, fpsd: 3}", "fpsd: got it beside detector"),
        ("- {name: a, detections: x.txt, fpsd: fast}", "fpsd: got 'fast', expected frames per"),
        ("- {name: a/b, detector: small}", "a/b: got a name with a slash"),
        ("- {name: .., detector: small}", "..: got it as a name, expected that of a folder"),
        ("- {name: a, detector: small, association: 5}", "association: got 5, expected a name"),
        ("- {name: a, detections: x.txt, size: 96x64}", "size: got it beside detections"),
        ("- {name: a, speed: 3}", "speed: no such setting, expected name, detector"),
        ("- {name: a, detector: small}\n- {name: a, detector: small}", "two are named a"),
        ("- {name: a, detector: vgg}", "vgg is neither a file nor a shipped model"),
        ("- {name: a, detector: small, association: best}", "association: got 'best'"),
        ("- {name: a, detector: small, association: {x: 1}}", "a.association.x: no such setting"),
        ("- {name: a, detections: none.txt}", "none.txt does not exist"),
    ],
)
def test_files_of_systems_are_refused_in_one_line(street, tmp_path, capsys, text, message):
    (tmp_path / "systems.yaml").write_text(text)
    arguments = ["--systems", str(tmp_path / "systems.yaml"), "--data", str(street)]
    assert cli.run(["bench", "table3", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_threshold_of_zero_is_one():
    values = System(name="a", detector="small", conf=0.0).values(1)
    assert values["tracking", "high_score"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--measured", "none.json"], "none.json was not written by jde bench speed"),
        (["--measured", "other.json"], "other.json was not written by jde bench speed"),
        (["--systems", "s.yaml"], "data: got none, expected sequences"),
        (["--systems", "s.yaml", "--data", ".", "--weights", "small"], "weights: got it beside"),
        (["--systems", "no.yaml", "--data", "."], "no.yaml cannot be read"),
    ],
)
def test_refusals_are_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other.json").write_text('{"rows": []}')
    assert cli.run(["bench", "table3", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_systems_that_share_a_network_load_it_once(street, tmp_path, monkeypatch):
    opened = []

    def build(name, settings):
        opened.append(name)
        return name

    monkeypatch.setattr(systems, "build_finder", build)
    monkeypatch.setattr(systems, "resolve_settings", systems.build_settings)
    three = [System(name=name, detector="small", conf=0.4) for name in "abc"]
    found = systems.build_systems([*three, System(name="d", detector="small", conf=0.7)], [], 1)
    assert opened == ["a", "d"]
    assert [one.finder for one in found] == ["a", "a", "a", "d"]
