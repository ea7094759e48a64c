"""`jde bench models`: its figures are those of `jde track` and `jde eval`. No speed is tested."""

import json
from pathlib import Path

import numpy as np
import pytest
from onnx_models import write_declaration
from typer.testing import CliRunner

from jde_ray.jobs import cli
from jde_ray.jobs.bench import app, model_tables
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings
from jde_ray.pipelines.video.synthetic import render_street

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def street(tmp_path_factory):
    """A rendered street of eight frames, with its truth."""
    folder = tmp_path_factory.mktemp("street")
    scene = StreetScene(3, width=480, height=240, num_people=6, num_frames=8)
    render_street(scene, folder / "little.mp4", folder / "little")
    return folder


@pytest.fixture(scope="module")
def report(street, tmp_path_factory):
    """`models.json` of one network with two associations, and of a separate pair."""
    folder = tmp_path_factory.mktemp("models")
    weights = write_declaration(folder / "tiny")
    (folder / "pair.yaml").write_text(f"weights: {weights}\nconf: 0.3\n")
    (folder / "own.yaml").write_text("association: jde\n")
    (folder / "sort.yaml").write_text("association: sort\n")
    files = [part for name in ("own", "sort", "pair")
             for part in ("--config", str(folder / f"{name}.yaml"))]  # fmt: skip
    arguments = ["models", str(street), *files, "--every", "2", "--out", str(folder / "out"),
                 "--reid", str(folder / "tiny" / "reid.onnx")]  # fmt: skip
    result = CliRunner().invoke(app.app, arguments)
    assert result.exit_code == 0, result.output
    for title in ("Tracks", "AP by height", "Where people overlap", "TPR at FAR .05"):
        assert title in result.output
    return json.loads((folder / "out" / "models.json").read_text())


@pytest.mark.slow
def test_tracks_and_detections_are_scored_as_those_of_a_run(report, street, tmp_path):
    for name, association in (("small, own", "jde"), ("small, sort", "sort")):
        out, scores = tmp_path / association, tmp_path / "scores.json"
        run = ["track", str(street), "--association", association, "--out", str(out)]
        assert cli.run([*run, "--save-detections", "--quiet"]) == 0
        for kind, table in (((), "tracks"), (("--detections",), "ap_by_height")):
            asked = ["eval", str(out), "--gt", str(street), *kind, "--json", str(scores)]
            assert cli.run(asked) == 0
            of_run = json.loads(scores.read_text())
            line = report[table]["OVERALL"][name]
            if table == "tracks":
                known = {column: of_run["overall"][column] for column in line if "f" not in column}
                assert known == pytest.approx({column: line[column] for column in known})
            else:
                classes = of_run["by_height"]["OVERALL"]
                assert line == {one: own["AP"] for one, own in classes.items()}


def test_every_network_has_a_line_and_embeddings_are_read_once(report):
    assert list(report["models"]) == ["small, own", "small, sort", "pair"]
    assert list(report["tracks"]["little"]) == list(report["models"])
    assert report["tracks"]["little"]["small, own"]["% of first"] == pytest.approx(100)
    assert list(report["ap_by_height"]["OVERALL"]) == ["people", *report["models"]]
    assert list(report["tpr_at_05"]["OVERALL"]) == ["pairs", "small, own", "reid"]
    gaps = report["tpr_at_1"]["little"]["reid"]
    assert {"one, 1-5", "five, 60-300", "all pairs"} <= set(gaps)
    small = report["models"]["small, own"]
    assert (small["weights"], len(small["weights_sha256"])) == ("small", 64)


def test_the_mean_of_sequences_leaves_out_those_without_pairs():
    def people(gap):
        """Two people, seen twice, so many frames apart."""
        vectors = np.eye(4, dtype=np.float16)[[0, 0, 1, 1]]
        frames = np.array([0, gap, 0, gap])
        return KnownEmbeddings(vectors, np.array([1, 1, 2, 2]), frames, np.ones(4, bool))

    tables = model_tables.embedding_tables({"net": {"A": people(3), "B": people(20)}})
    figures = tables[0].figures
    assert list(figures) == ["A", "B", model_tables.MEAN, "OVERALL"]
    assert np.isnan(figures["A"]["net"]["one, 10-60"])
    assert figures["A"]["net"]["one, 1-5"] == figures[model_tables.MEAN]["net"]["one, 1-5"] == 100
    assert np.isnan(figures[model_tables.MEAN]["net"]["one, 60-300"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere"),
        (["little", "little"], "source: two sequences are named little"),
        (["little", "--weights", "vgg"], "weights: vgg is neither a file nor a shipped model"),
        (["little", "--config", "half.yaml"], "config: small leaves out frames"),
        (["little", "--size", "auto"], "size: got auto, which is for jde track; expected WxH"),
        (["little", "--clock", "cpu", "--threads", "2"], "clock: got cpu with 2 threads"),
    ],
)
def test_refusals_are_one_line(street, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(street)
    Path("half.yaml").write_text("vid-stride: 2\n")
    arguments = [str(street) if one == "little" else one for one in arguments]
    assert cli.run(["bench", "models", *arguments]) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert message in line
