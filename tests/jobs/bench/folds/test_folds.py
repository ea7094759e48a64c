"""`jde bench folds`: each recipe learns without a fold's scenes and is scored on them alone."""

import json

import pytest
import torch
import yaml
from street_sequence import write_street

from jde_ray.jobs import cli
from jde_ray.jobs.bench.folds import fold_training
from jde_ray.jobs.bench.folds.command import entries_of
from jde_ray.jobs.bench.folds.plan import plan
from jde_ray.models.cards import JOINT
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.weights import load, save
from jde_ray.pipelines.training.loop import NonFiniteLossError
from jde_ray.pipelines.training.recipe_file import parse_recipe, read_recipe
from jde_ray.pipelines.training.settings import TrainerConfig

SCENES = ("north", "south", "west")
RECIPE = {
    "network": "small",
    "initial": str(JOINT.folder / "small.safetensors"),  # which finds people from the start
    "size": [288, 160],
    "training": {"steps": 2, "batch": 2, "learning_rate": 0.0001, "precision": "fp32"},
    "augmentation": {"mosaic": 0, "multi_scale": [1.0]},
    "sources": [{"kind": "sequence", "path": f"streets/{name}"} for name in SCENES],
    "validation": {"sequences": ["streets/north"], "every_epochs": 1},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three rendered streets, and recipes of two networks of which one is half as wide."""
    root = tmp_path_factory.mktemp("data")
    for seed, name in enumerate(SCENES):
        write_street(root / "streets" / name, seed, (288, 160))
    (root / "narrow.yaml").write_text(yaml.safe_dump(RECIPE))
    still = RECIPE["training"] | {"learning_rate": 1e-12, "freeze_norms": True, "ema_steps": 0}
    wide = RECIPE | {"network": "base", "training": still}
    (root / "wide.yaml").write_text(yaml.safe_dump(wide))
    return root


def bench(data, out, *options):
    torch.set_num_threads(1)
    known = ["--config", data / "narrow.yaml", "--data", data, "--out", out, "--every", "1"]
    return cli.run(["bench", "folds", *map(str, [*known, *options])])


def test_a_sequence_is_scored_by_the_weights_that_have_not_seen_it(data, tmp_path, capsys):
    two = ("--fold", "north,west", "--fold", "south")
    assert bench(data, tmp_path, *two) == 0
    shown = capsys.readouterr()
    assert "sequence streets/south" in shown.err.partition("fold-2, narrow")[0]
    assert "sequence streets/north" not in shown.err.partition("fold-2, narrow")[0]
    report = json.loads((tmp_path / "folds.json").read_text())
    assert report["folds"] == {"fold-1": ["north", "west"], "fold-2": ["south"]}
    assert report["trainings"]["fold-1"]["narrow"]["steps"] == 2
    assert list(report["tracks"]) == ["north", "west", "south", "OVERALL"]
    assert "narrow" in report["ap_by_height"]["OVERALL"]

    alone = ["bench", "models", str(data / "streets" / "south"), "--every", "1", "--weights",
             str(tmp_path / "fold-2" / "narrow" / "weights.safetensors"), "--threads", "1",
             "--out", str(tmp_path / "alone")]  # fmt: skip
    assert cli.run(alone) == 0
    expected = json.loads((tmp_path / "alone" / "models.json").read_text())
    (line,) = (own for own in expected["ap_by_height"]["south"].items() if own[0] != "people")
    assert report["ap_by_height"]["south"]["narrow"] == line[1]
    assert line[1]["all"] > 30  # people are found, so that equal figures mean something

    written = tmp_path / "fold-1" / "narrow" / "weights.safetensors"
    before = written.stat().st_mtime_ns
    assert bench(data, tmp_path, *two) == 0  # what is done is kept
    assert written.stat().st_mtime_ns == before
    capsys.readouterr()
    assert bench(data, tmp_path, *two, "--steps", 3) == 2
    assert "training.json is of another recipe or budget" in capsys.readouterr().err


def test_a_chain_starts_the_wider_network_from_the_narrow_one_of_its_fold(data, tmp_path):
    wide = ("--config", data / "wide.yaml", "--chain", "--fold", "north", "--max-frames", "6")
    assert bench(data, tmp_path, *wide, "--steps", 3) == 0
    report = json.loads((tmp_path / "folds.json").read_text())
    assert list(report["tracks"]["north"]) == ["narrow", "wide"]
    fold = tmp_path / "fold-1"
    narrow, base = (
        load(str(fold / name / "weights.safetensors")).float().state_dict()
        for name in ("narrow", "wide")
    )
    (first, mine), theirs = next(iter(narrow.items())), base
    torch.testing.assert_close(theirs[first][0::2], mine, rtol=1e-2, atol=1e-3)
    torch.testing.assert_close(theirs[first][1::2], mine, rtol=1e-2, atol=1e-3)

    recipes = {name: read_recipe(data / f"{name}.yaml") for name in ("narrow", "wide")}
    (one,) = plan(recipes, ["north"], data, tmp_path, TrainerConfig(), is_chain=True)
    entries = entries_of(one, {"threads": 1})
    finders = {name: entry.combination.finder for name, entry in entries.items()}
    assert finders["narrow"].name != finders["wide"].name  # a shared name would share its frames
    for name in recipes:
        assert entries[name].settings.track.detection.weights == str(one.trainings[name].weights)


def test_each_recipe_of_a_chain_starts_from_the_one_before_it(tmp_path):
    recipes = {name: parse_recipe(RECIPE | {"initial": "start.json"}) for name in ("a", "b")}
    for is_chain in (True, False):
        (one,) = plan(recipes, ["south"], tmp_path, tmp_path, TrainerConfig(), is_chain=is_chain)
        a, b = one.trainings.values()
        assert a.recipe.initial == "start.json"
        assert (a.before, b.before) == (None, a if is_chain else None)
        assert [source.name for source in b.recipe.sources] == ["north", "west"]


def test_a_loss_that_is_no_number_ends_it_in_one_line(data, tmp_path, monkeypatch, capsys):
    def diverge(*_arguments, **_named):
        raise NonFiniteLossError("training: the loss is nan at step 2; the batch: a.jpg")

    monkeypatch.setattr(fold_training, "train_here", diverge)
    assert bench(data, tmp_path, "--fold", "south") == 1
    assert "the loss is nan at step 2" in capsys.readouterr().err
    assert bench(data, tmp_path / "timed", "--fold", "south", "--minutes", "1.5") == 1
    assert "jde: trainings: 1, in at most 1.5 minutes" in capsys.readouterr().err
    assert "steps" not in (tmp_path / "fold-1" / "narrow" / "training.json").read_text()
    capsys.readouterr()  # a training that has begun is continued with the same recipe only
    assert bench(data, tmp_path, "--fold", "south", "--steps", "3") == 2
    assert "training.json is of another recipe or budget" in capsys.readouterr().err
    assert bench(data, tmp_path, "--fold", "north") == 2
    assert "training.json is of another recipe or budget" in capsys.readouterr().err


def test_a_start_that_knows_the_scored_scene_is_refused(data, tmp_path):
    known = tmp_path / "start.safetensors"
    save(JDE(SMALL), known, {"sources": "streets/south, park"})
    recipes = {"a": parse_recipe(RECIPE | {"initial": str(known)})}
    plan(recipes, ["north"], data, tmp_path, TrainerConfig())
    with pytest.raises(ValueError, match=r"a starts from .*, which has learned from streets/south"):
        plan(recipes, ["south"], data, tmp_path, TrainerConfig())


def test_a_source_named_like_a_scored_sequence_is_refused(data, tmp_path):
    twin = {"kind": "sequence", "path": "again/north"}
    for more, refused in (({}, True), ({"scene": ["north"]}, False)):
        recipes = {"a": parse_recipe(RECIPE | {"sources": [*RECIPE["sources"], twin | more]})}
        if refused:
            with pytest.raises(ValueError, match="a would still learn from again/north"):
                plan(recipes, ["streets/north"], data, tmp_path, TrainerConfig())
        else:
            (one,) = plan(recipes, ["streets/north"], data, tmp_path, TrainerConfig())
            assert [s.name for s in one.trainings["a"].recipe.sources] == ["south", "west"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--fold", "east"], "fold: got east, it is no sequence of narrow; expected some of str"),
        (["--fold", "north,"], "fold: got an empty name"),
        (["--fold", "north,south", "--fold", "south"], "fold: got streets/south twice"),
        (["--fold", "north,streets/north"], "fold: got streets/north twice"),
        (["--fold", "north,south,west"], "fold: narrow without streets/north, streets/south, str"),
        (["--fold", "north", "--precision", "int8"], "precision: got int8, expected auto | fp32"),
        (["--fold", "north", "--device", "cuda"], "device: got cuda, but this machine has no GPU"),
        (["--fold", "north", "--steps", "3", "--minutes", "1"], "budget: got steps and minutes"),
        (["--fold", "north", "--config", "narrow.yaml"], "config: two are named narrow"),
    ],
)
def test_refusals_are_one_line(data, tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(data)
    assert bench(data, tmp_path, *options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_network_without_embeddings_is_refused(tmp_path):
    detector = {key: RECIPE[key] for key in ("training", "augmentation", "sources")}
    recipes = {"boxes": parse_recipe(detector | {"network": "frcnn-small"})}
    with pytest.raises(ValueError, match="config: boxes trains frcnn-small, expected a network"):
        plan(recipes, ["south"], tmp_path, tmp_path, TrainerConfig())
