import math

import pytest
import yaml
from places import ROOT

from jde_ray.models.losses.config import LossConfig
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.recipe_file import parse_recipe, read_recipe
from jde_ray.pipelines.training.settings import Augmentation
from jde_ray.pipelines.training.source import Source

RECIPES = ROOT / "jobs" / "recipes"
LEAST = {
    "network": "small",
    "sources": [{"kind": "boxes", "path": "park"}],
    "training": {"minutes": 3},
}


@pytest.mark.parametrize(
    "path",
    sorted([*RECIPES.glob("train_*.yaml"), *RECIPES.glob("ablation_*.yaml")]),
    ids=lambda path: path.stem,
)
def test_the_recipes_that_come_with_the_code_are_accepted(path):
    assert isinstance(read_recipe(path), Recipe)


def test_the_published_recipe_is_the_papers():
    recipe = read_recipe(RECIPES / "train_published.yaml")
    training = recipe.training
    assert (training.optimiser, training.learning_rate, training.momentum) == ("sgd", 0.01, 0.9)
    assert (training.epochs, training.decay_epochs, training.batch) == (30, (15, 23), 32)
    assert recipe.augmentation.rotation_degrees == 5.0
    assert recipe.augmentation.published
    assert recipe.training.precision == "fp32"
    assert [s.path for s in recipe.sources if s.is_video] == ["mot17.train", "caltech.train"]
    assert recipe.config.has_published_layout
    assert recipe.config.size == (1088, 608)


def test_the_shipped_recipe_means_what_it_did():
    recipe = read_recipe(RECIPES / "train_small.yaml")
    training = recipe.training
    assert (training.optimiser, training.batch, training.ema_steps) == ("adamw", 32, 400.0)
    assert (training.schedule, training.weight_decay) == ("cosine", 0.05)
    assert recipe.augmentation == Augmentation()
    assert (recipe.augmentation.mosaic, recipe.augmentation.published) == (0.5, False)
    assert (recipe.margin, recipe.training.precision) == (0.0, "auto")
    assert (recipe.weighting, recipe.embedding_loss) == ("uncertainty", "cross_entropy")
    assert recipe.sampling == "weights"


def changed(**changes):
    return {**LEAST, **changes}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ([], "expected a mapping of settings"),
        (changed(netwrok="small"), "training configuration: got 'netwrok', expected network"),
        (
            changed(network="tiny"),
            "network: got 'tiny', expected small | base | small-shufflenet | anchor-small | dark",
        ),
        (changed(sources=[]), "sources: got none"),
        ({k: v for k, v in LEAST.items() if k != "network"}, "got no network, expected one"),
        (changed(aspects=[0]), r"aspects: got \[0\], expected numbers above 0"),
        (changed(aspects=[math.nan]), r"aspects: got \[nan\], expected numbers above 0"),
        (
            changed(training={"minutes": 1, "weighting_rate": -1}),
            "training weighting_rate: got -1, expected 0 or more",
        ),
        (changed(sources=[{"path": "park"}]), "source 1: .*kind"),
        (
            changed(sources=[{"kind": "sequence", "path": "park", "strangers": True}]),
            "got strangers of kind sequence, expected boxes without",
        ),
        (changed(sources=[{"kind": "boxes", "path": "p", "strangers": 2}]), "got strangers 2"),
        (changed(sources=[{"kind": "boxes", "pth": "park"}]), "source 1: got 'pth'"),
        (changed(training={}), "training: expected either minutes or epochs"),
        (changed(training={"minutes": 1, "epochs": 1}), "either minutes or epochs"),
        (
            changed(training={"minutes": "long"}),
            "training minutes: got 'long', expected a number",
        ),
        (
            changed(training={"minutes": -1}),
            "training minutes: got -1, expected a number above 0",
        ),
        (changed(training={"minutes": 1, "optimiser": "adam"}), "expected adamw | sgd"),
        (changed(training={"minutes": 1, "schedule": "steps"}), "steps, which needs epochs"),
        (changed(weighting="gradnorm"), "weighting: got 'gradnorm', expected uncertainty"),
        (changed(embedding_loss="arcface"), "embedding_loss: got 'arcface'"),
        (
            changed(margin=0.3),
            "margin: got 0.3 with cross_entropy, expected embedding_loss trip",
        ),
        (changed(fixed_weights=[64]), "fixed_weights: got .*, expected two numbers above 0"),
        (changed(uncertainty_start="zero"), "uncertainty_start: got 'zero', expected published"),
        (changed(mgda_over="task"), "mgda_over: got 'task', expected head | all"),
        (changed(anchors="mine"), "anchors: got 'mine', expected code | text"),
        (changed(size=[100, 64]), "size: got .*, expected multiples of 32"),
        (changed(assignment=[0.5, 0.3]), "assignment: got .* with small, expected a network with"),
        (
            changed(network="anchor-small", assignment=[0.3, 0.4]),
            "assignment: got .*, expected .foreground, background",
        ),
        (changed(anchors="text"), "anchors: got text with small; expected a network with the pub"),
        (changed(sampling="all"), "sampling: got 'all', expected weights | epoch | pairs"),
        (changed(augmentation={"mosaic": 2}), "augmentation mosaic: got 2"),
        (changed(validation={"sequences": ["a"]}), "either every_minutes or every_epochs"),
        (changed(validation={"every_epochs": 1}), "validation sequences: got none, expected"),
        (
            changed(validation={"detection": [{"kind": "frames", "path": "a"}], "every_epochs": 1}),
            "validation a kind: got 'frames', expected list | boxes | coco | cvat",
        ),
        (
            changed(validation={"detection": ["a.val"], "every_epochs": 1, "keep_best": "mota"}),
            "validation keep_best: got 'mota', expected ap",
        ),
        (
            changed(network="darknet53-576x320", appearance_teacher="osnet.onnx"),
            "appearance_teacher: got osnet.onnx; only networks without anchors",
        ),
        (
            changed(network="darknet53-576x320", initial_classifier=True),
            "initial_classifier: got true, expected a darknet53 network",
        ),
    ],
)
def test_what_is_not_accepted_is_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message.replace("|", r"\|")) as caught:
        parse_recipe(settings)
    assert "\n" not in str(caught.value)


def test_what_the_paper_varies_is_set_in_a_recipe():
    settings = {
        "network": "darknet53-1088x608",
        "anchors": "text",
        "size": [544, 320],
        "weighting": "mgda",
        "mgda_over": "all",
        "mgda_normalised": True,
        "fixed_weights": [8, 0.3],
        "uncertainty_start": "equal",
        "assignment": [0.5, 0.3],
    }
    recipe = parse_recipe(changed(**settings))
    losses = recipe.losses
    assert (losses.weighting, losses.mgda_over, losses.mgda_normalised) == ("mgda", "all", True)
    assert (losses.fixed_weights, losses.assignment) == ((8.0, 0.3), (0.5, 0.3))
    assert losses.uncertainty_start == "equal"
    assert recipe.config.size == (544, 320)
    assert recipe.config.anchors[2][1] == pytest.approx((16.0, 48.0))
    assert parse_recipe(LEAST).losses == LossConfig()


def test_lists_of_validation_are_names_or_sources():
    lists = {"detection": ["a.val"], "embedding": ["a.val", {"kind": "coco", "path": "b.json"}]}
    found = parse_recipe(changed(validation={**lists, "every_epochs": 1})).validation
    first, second = Source(kind="list", path="a.val"), Source(kind="coco", path="b.json")
    assert found.detection == (first,)
    assert found.embedding == (first, second)
    assert found.lists == (first, second)
    assert found.measured == ("ap", "tpr_at_far")


def test_files_that_cannot_be_read_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"config: .*none.yaml cannot be read \(No such file"):
        read_recipe(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"bad.yaml cannot be read"):
        read_recipe(tmp_path / "bad.yaml")


def test_lists_of_a_file_become_tuples(tmp_path):
    settings = changed(augmentation={"scale": [0.5, 1.2]}, aspects=[1.78])
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(settings))
    recipe = read_recipe(tmp_path / "a.yaml")
    assert recipe.augmentation.scale == (0.5, 1.2)
    assert recipe.aspects == (1.78,)


def test_a_source_is_left_out_by_its_path_or_its_name():
    recipe = read_recipe(RECIPES / "train_small.yaml")
    less = recipe.without(["frames_gt/KITTI-17", "viper"])
    gone = {source.path for source in recipe.sources} - {source.path for source in less.sources}
    assert gone == {"frames_gt/KITTI-17", "people/reid/viper"}
    with pytest.raises(ValueError, match="leave-out: got KITTI-18, expected frames_gt/MOT16-11"):
        recipe.without(["KITTI-18"])


def paths(recipe):
    return [source.path for source in recipe.sources]


@pytest.mark.parametrize("name", ["MOT16-11", "MOT17-11", "frames_gt/MOT16-11"])
def test_a_source_is_left_out_by_each_name_of_its_scene(name):
    left = paths(read_recipe(RECIPES / "train_small.yaml").without([name]))
    assert not [path for path in left if "-11" in path]
    assert "frames_gt/KITTI-17" in left


@pytest.mark.parametrize("name", ["park", "a/park", "b/park-1", "c", "other name"])
def test_twins_of_what_is_left_out_go_with_it(name):
    """By a shared scene, by a path that is the other's scene, and through a third one."""
    sources = [
        {"kind": "sequence", "path": "a/park"},
        {"kind": "sequence", "path": "b/park-1", "scene": ["park", "other name"]},
        {"kind": "boxes", "path": "c", "scene": "other name"},
        {"kind": "boxes", "path": "d/images"},
        {"kind": "boxes", "path": "e/images"},
    ]
    recipe = parse_recipe(changed(sources=sources))
    assert paths(recipe.without([name])) == ["d/images", "e/images"]
    assert "d/images" in paths(recipe.without(["e/images"]))
    with pytest.raises(ValueError, match="got zoo, expected a/park, b/park-1, park, other name, c"):
        recipe.without(["zoo"])


@pytest.mark.parametrize("scene", ["", [""], [3], 3, {}])
def test_a_scene_is_a_name_or_a_list_of_names(scene):
    sources = [{"kind": "sequence", "path": "a/park", "scene": scene}]
    with pytest.raises(ValueError, match="scene") as caught:
        parse_recipe(changed(sources=sources))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        (
            "sources",
            [{"kind": "sequence", "path": 0.5}],
            r"source 1: path: got 0\.5, expected a",
        ),
        ("sources", [{"kind": "boxes", "path": "x", "weight": {}}], "source 1: weight: got {}"),
        ("training", {"epochs": 1, "batch": None}, "training: batch: got None"),
    ],
)
def test_a_value_of_another_type_is_named(section, values, message):
    settings = {"network": "small", "licence": "ours", "training": {"epochs": 1}}
    settings["sources"] = [{"kind": "sequence", "path": "x"}]
    with pytest.raises(ValueError, match=message) as caught:
        parse_recipe(settings | {section: values})
    assert "\n" not in str(caught.value)


def test_the_recipe_of_the_embedder_for_the_second_look():
    recipe = read_recipe(RECIPES / "train_reid_small.yaml")
    assert recipe.reid_config.name == "reid-small-ide"
    assert recipe.crops.losses.teacher > 0
    left = [source.name for source in recipe.without(["MOT16-11", "TUD-Stadtmitte"]).sources]
    assert "cuhk03_labeled" in left
    assert "MOT16-11" not in left


def test_the_recipe_of_the_open_embedder_learns_from_nothing_but_open_sources():
    recipe, joint = (read_recipe(RECIPES / f"train_{name}.yaml") for name in ("reid_open", "open"))
    assert recipe.appearance_teacher is None
    assert {source.path for source in recipe.sources} < {source.path for source in joint.sources}
    assert recipe.licence == joint.licence


def scored_on(name, *sources):
    recipe = changed(sources=list(sources), validation={"sequences": [name], "every_epochs": 1})
    return parse_recipe(recipe)


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "sequence", "path": "own/a"},
        {"kind": "sequence", "path": "own/a-again", "scene": ["a", "b"]},
    ],
)
def test_what_is_learned_from_cannot_be_scored_until_it_is_left_out(source):
    recipe = scored_on("own/a", source, {"kind": "sequence", "path": "own/c"})
    with pytest.raises(ValueError, match=r"^validation: got own/a, source own/a.* is learned from"):
        recipe.check_unseen()
    recipe.without(["a" if "scene" in source else "own/a"]).check_unseen()


def test_a_sequence_of_the_same_name_elsewhere_can_be_scored():
    scored_on("val/a", {"kind": "sequence", "path": "train/a"}).check_unseen()
