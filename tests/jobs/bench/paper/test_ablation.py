"""`jde bench ablation`: its rows, its search, and that it goes on where it was killed."""

import json
import math
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from street_sequence import write_street

from jde_ray.jobs import cli
from jde_ray.jobs.bench.paper.ablation import row_run, search, tables
from jde_ray.jobs.bench.paper.ablation.rows import ROWS, UNCERTAINTY, choose, fingerprint
from jde_ray.jobs.bench.paper.ablation.scores import false_alarms
from jde_ray.models.metrics.detection import score_detections
from jde_ray.pipelines.training.loop import NonFiniteLossError
from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.settings import TrainingConfig

SETTINGS = {
    "network": "anchor-small",
    "size": [96, 64],
    "training": {"steps": 3, "batch": 4, "learning_rate": 0.001, "precision": "fp32"},
    "augmentation": {"mosaic": 0, "multi_scale": [1.0]},
    "sources": [{"kind": "sequence", "path": "learned"}],
    "validation": {"sequences": ["scored"], "every": 2, "every_epochs": 1},
}
TWO = f"{UNCERTAINTY},triplet-fixed"


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """Two rendered streets, and a recipe that learns from one and is scored on the other."""
    root = tmp_path_factory.mktemp("streets")
    for seed, name in enumerate(("learned", "scored")):
        write_street(root / name, seed)
    (root / "recipe.yaml").write_text(yaml.safe_dump(SETTINGS))
    return root


def ablate(streets, out, *options):
    torch.set_num_threads(1)
    known = ["--config", streets / "recipe.yaml", "--data", streets, "--out", out]
    return cli.run(["bench", "ablation", *map(str, [*known, *options])])


def _killed_in_the_second_row(streets, out):
    train_here = row_run.train_here

    def stuck(run, *arguments, **named):
        if run.recipe.embedding_loss == "triplet":
            time.sleep(600)
        train_here(run, *arguments, **named)

    row_run.train_here = stuck
    ablate(streets, out, "--rows", TWO, "--seeds", 1)


def test_after_a_kill_only_the_rest_is_done_and_then_nothing(streets, tmp_path, capsys):
    first = tmp_path / f"{UNCERTAINTY}-0" / "scores.json"
    child = multiprocessing.get_context("fork").Process(
        target=_killed_in_the_second_row, args=(streets, tmp_path)
    )
    child.start()
    while not first.exists() and child.is_alive():
        time.sleep(0.02)
    child.kill()
    child.join()
    assert first.exists()
    before = first.stat().st_mtime_ns
    capsys.readouterr()

    assert ablate(streets, tmp_path, "--rows", TWO, "--seeds", 1) == 0
    shown = capsys.readouterr().out
    assert "triplet-fixed-0: begins" in shown
    assert f"{UNCERTAINTY}-0: begins" not in shown
    assert first.stat().st_mtime_ns == before
    table = json.loads((tmp_path / "table2.json").read_text())
    assert [row["row"] for row in table["rows"]] == ["triplet-fixed", UNCERTAINTY]
    for row in table["rows"]:
        assert (row["seeds"], row["diverged"], row["runs"][0]["steps"]) == (1, 0, 3)
        assert row["measured"].keys() >= {"ap", "ids", "idf1"}
        assert len(row["weights"]) == 9
    page = (tmp_path / "table2.html").read_text()
    assert "cross-entropy, Uncertainty" in page
    assert "<svg" in page
    assert "(83.0)" in (tmp_path / "table2.md").read_text()

    assert ablate(streets, tmp_path, "--rows", TWO, "--seeds", 1) == 0
    assert "begins" not in capsys.readouterr().out
    assert ablate(streets, tmp_path, "--rows", TWO, "--seeds", 1, "--steps", 4) == 2
    assert "is of another recipe or evaluation" in capsys.readouterr().err
    assert ablate(streets, tmp_path, "--table-only", "--steps", 4) == 0


def test_a_row_that_diverges_is_a_line_and_not_an_end(streets, tmp_path, monkeypatch, capsys):
    def diverge(*_arguments, **_named):
        raise NonFiniteLossError("training: the loss is nan at step 2; the batch: a.jpg")

    monkeypatch.setattr(row_run, "train_here", diverge)
    name = "cross_entropy-uniform"
    assert ablate(streets, tmp_path, "--rows", name, "--seeds", 2) == 0
    shown = capsys.readouterr().out
    assert f"{name}-1: diverged (training: the loss is nan at step 2" in shown
    assert "| cross-entropy, Uniform | 2 | diverged (6.8) |" in shown


def test_a_gpu_that_is_not_there_is_refused(streets, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    options = ("--rows", "cross_entropy-uniform", "--seeds", 1, "--device", "cuda")
    assert ablate(streets, tmp_path, *options) == 2
    assert "device: got cuda, but this machine has no GPU" in capsys.readouterr().err


@pytest.mark.slow
def test_rows_at_once_are_tasks_of_ray(streets, tmp_path, capsys):
    assert ablate(streets, tmp_path, "--rows", TWO, "--seeds", 1, "--rows-at-once", 2) == 0
    assert "training 3 steps" in (tmp_path / "triplet-fixed-0" / "training.log").read_text()
    assert {path.parent.name for path in tmp_path.glob("*/scores.json")} == {
        "triplet-fixed-0",
        f"{UNCERTAINTY}-0",
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rows", "quadruplet"], "rows: got 'quadruplet', expected all or some of triplet-fixed"),
        (["--steps", "3", "--epochs", "2"], "budget: got steps and epochs, expected one"),
        (["--search", "9x9"], "search: got '9x9', expected NxM with numbers from 1 to 5"),
        (["--table-only"], "has no row that is done"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(streets, tmp_path, capsys, options, message):
    assert ablate(streets, tmp_path, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_recipe_without_anchors_or_sequences_to_score_is_refused(tmp_path, capsys):
    path = tmp_path / "recipe.yaml"
    for change, message in (
        ({"network": "small"}, "network: got small; expected a network with anchors"),
        ({"validation": None}, "has no `validation`"),
    ):
        path.write_text(yaml.safe_dump({**SETTINGS, **change}))
        assert ablate(tmp_path, tmp_path) == 2
        assert message in capsys.readouterr().err


def test_rows_differ_only_in_loss_weighting_sampling_and_thresholds():
    base = parse_recipe(SETTINGS)
    kept = {"embedding_loss", "weighting", "sampling", "margin", "assignment"}
    for row in choose("all"):
        recipe = row.recipe(base, 2)
        assert recipe.training == replace(base.training, seed=2)
        same = {name: getattr(base, name) for name in kept}
        assert replace(recipe, training=base.training, validation=base.validation, **same) == base
    assert ROWS["triplet-fixed"].recipe(base, 0).margin == 0.3
    assert ROWS["upper_bound-fixed"].recipe(base, 0).sampling == "pairs"
    assert ROWS[f"{UNCERTAINTY}-0.3"].recipe(base, 0).assignment == (0.5, 0.3)


def test_a_fingerprint_changes_with_what_is_set():
    base = parse_recipe(SETTINGS)
    assert fingerprint(base) == fingerprint(replace(base, margin=0.0))
    assert fingerprint(base) != fingerprint(replace(base, fixed_weights=(8.0, 0.1)))


def test_the_search_finds_the_best_pair_and_refines_it_once():
    asked = []

    def execute(trials):
        asked.append([pair for _, pair in trials])
        return [
            {"diverged": "nan"} if pair[0] > 64 else {"ap": -((pair[0] - 24) ** 2), "tpr": None}
            for _, pair in trials
        ]

    found = search.search([(8, 0.1), (64, 0.1)], ["triplet"], lambda *trial: trial, execute)
    assert asked[0] == [(8, 0.1), (64, 0.1)]
    assert asked[1] == [(24, 0.1), (8 / 3, 0.1), (8, pytest.approx(0.3)), (8, 0.1 / 3)]
    assert found["triplet"]["best"] == [24, 0.1]
    assert search.parse_grid("2x1") == [(8.0, 0.1), (64.0, 0.1)]
    assert len(search.parse_grid("3x3")) == 9


def test_trials_of_the_search_have_a_tenth_of_the_budget():
    assert search.shortened(TrainingConfig(steps=400), 7).steps == 40
    assert search.shortened(TrainingConfig(epochs=10), 7).steps == 7
    assert search.shortened(TrainingConfig(minutes=30.0), 7).minutes == 3.0


def test_false_alarms_are_counted_where_the_recall_is_reached():
    truth = [np.array([[0.0, 0, 10, 10], [20, 0, 30, 10]])]
    boxes = [np.array([[0.0, 0, 10, 10], [50, 0, 60, 10], [20, 0, 30, 10]])]
    found = score_detections(truth, boxes, [np.array([0.9, 0.8, 0.7])])
    assert false_alarms(found, 1) == {"0.3": 0.0, "0.5": 0.0, "0.7": 1.0}
    found = score_detections(truth, [boxes[0][:2]], [np.array([0.9, 0.8])])
    assert false_alarms(found, 1)["0.7"] is None


def figure(value, spread=0.0):
    return {"mean": value, "low": value - spread, "high": value + spread}


def test_the_papers_questions_are_answered_from_the_rows():
    rows = {
        "cross_entropy-fixed": {"measured": {"tpr": figure(80.0), "mota": figure(30.0, 2.0)}},
        "upper_bound-fixed": {"measured": {"tpr": figure(50.0)}},
        "triplet-fixed": {"measured": {"tpr": figure(40.0)}},
        UNCERTAINTY: {
            "measured": {"mota": figure(29.0)},
            "weights": {"score_8": 90.0, "box_8": 110.0, "identity_8": 0.1, "identity_16": 0.2},
        },
    }
    first, second, third = tables.answers(rows)
    assert "yes: 80.0, 50.0, 40.0" in first
    assert "no: 29.0, 30.0. The ranges of their seeds overlap." in second
    assert "score 90 to 90, box 110 to 110, identity 0.1 to 0.2" in third
    assert tables.answers({}) == []


def test_a_mean_over_seeds_leaves_out_those_that_diverged(tmp_path):
    for seed, scores in enumerate(({"ap": 40.0}, {"ap": 50.0}, {"diverged": "nan"})):
        run = {"row": "triplet-fixed", "seed": seed, "seconds": 60.0, "weights": {}, **scores}
        row_run.write_json(Path(tmp_path, f"triplet-fixed-{seed}", "scores.json"), run)
    (row,) = tables.gather(tmp_path, {})["rows"]
    assert row["measured"]["ap"] == {"mean": 45.0, "low": 40.0, "high": 50.0}
    assert (row["seeds"], row["diverged"]) == (3, 1)
    assert not math.isnan(row["seconds"])
    cells = tables.lines_of({"rows": [row]})[0]
    assert cells[2] == "45.0 [40.0, 50.0] (81.6)"
