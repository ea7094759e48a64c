"""Two-stage networks in training: steps, files, starts, and settings that they do not have."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from jde_ray.models.jde.weights import load as load_joint
from jde_ray.models.jde.weights import resolve
from jde_ray.models.rcnn import weights
from jde_ray.models.rcnn.config import CONFIGURATIONS
from jde_ray.models.rcnn.network import RcnnNet
from jde_ray.pipelines.formats.label_files import LabelErrors
from jde_ray.pipelines.training.data.batches import collate
from jde_ray.pipelines.training.data.image_set import TrainingImages, read_images
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.dry_run import describe_plan
from jde_ray.pipelines.training.kinds.registry import initialise
from jde_ray.pipelines.training.loop import fit
from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.run import TrainingRun

PLAIN = {"mosaic": 0.0, "multi_scale": [0.25]}  # 144x80 pixels, in multiples of 32


def recipe(network="frcnn-small", **changes):
    return parse_recipe(
        {
            "network": network,
            "licence": "test only",
            "training": {"epochs": 1000, "batch": 2, "precision": "fp32", "warmup_steps": 2},
            "augmentation": PLAIN,
            "sources": [{"kind": "boxes", "path": "park"}],
            **changes,
        }
    )


def images():
    """Two people in each of two pictures."""
    rng = np.random.default_rng(0)
    boxes = np.array([[10, 8, 40, 76], [70, 4, 100, 78]], np.float32)
    return [
        LabelledImage(
            rng.integers(0, 256, (80, 144, 3), dtype=np.uint8),
            boxes,
            np.arange(2),
            np.zeros(2, bool),
            0,
            appearance=np.zeros((2, 0), np.float32),
        )
        for _ in range(2)
    ]


def run(out, recipe, num_identities=2):
    found = TrainingImages(images(), num_identities, LabelErrors())
    stream = found.build_set(recipe)
    learning = TrainingRun(
        recipe=recipe,
        root=out,
        out=str(out),
        num_identities=num_identities,
        num_boxes=found.num_people,
        steps_per_epoch=stream.steps_per_epoch,
    )
    return learning, stream, found


def steps(stream, number):
    """So many steps from the one that is asked for."""
    return lambda first: (
        (step, collate(stream.batch_at(step))) for step in range(first, first + number)
    )


@pytest.mark.parametrize(
    ("name", "tasks", "identities"),
    [
        ("cascade-small", {"proposals", "score", "box"}, "0"),
        ("jde-frcnn-small", {"proposals", "score", "box", "identity"}, "2"),
    ],
)
def test_a_step_changes_the_network_and_its_file_says_what_it_learned(
    tmp_path, name, tasks, identities
):
    learning, stream, _ = run(tmp_path, recipe(name))
    torch.manual_seed(0)
    model = RcnnNet(CONFIGURATIONS[name])
    before = {key: value.clone() for key, value in model.state_dict().items()}
    after = fit(model, learning, steps(stream, 1)).state_dict()
    assert not torch.equal(before["rpn.hidden.weight"], after["rpn.hidden.weight"])
    heading = (tmp_path / "curves.csv").read_text().splitlines()[0].split(",")
    assert {column[5:] for column in heading if column.startswith("loss_")} == tasks
    facts = weights.metadata(tmp_path / "weights.safetensors")
    wanted = {"licence": "test only", "sources": "park", "boxes": "4", "identities": identities}
    assert wanted.items() <= facts.items()
    assert weights.load(tmp_path / "weights.safetensors").config == model.config


@pytest.mark.slow
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path):
    """Proposals that learn are drawn anew in each step, the same ones after an interruption."""
    for name, parts in (("whole", (2,)), ("parts", (1, 1))):
        learning, stream, _ = run(tmp_path / name, recipe())
        for number in parts:
            torch.manual_seed(0)
            fit(RcnnNet(CONFIGURATIONS["frcnn-small"]), learning, steps(stream, number))
    whole, parts = (weights.load(tmp_path / n / "weights.safetensors") for n in ("whole", "parts"))
    assert all(map(torch.equal, whole.state_dict().values(), parts.state_dict().values()))


def test_a_network_starts_from_a_joint_one_s_backbone_or_from_its_own_file(tmp_path):
    torch.manual_seed(0)
    model = RcnnNet(CONFIGURATIONS["frcnn-small"])
    theirs = load_joint("small").backbone.state_dict()
    assert initialise(model, resolve("small")) == len(theirs)
    assert torch.equal(model.backbone.state_dict()["stem.0.weight"], theirs["stem.0.weight"])
    weights.save(model, tmp_path / "own.safetensors")
    other = RcnnNet(model.config)
    assert initialise(other, tmp_path / "own.safetensors") == len(model.state_dict())
    assert torch.equal(other.rpn.hidden.weight, model.rpn.hidden.weight)
    cascade = RcnnNet(CONFIGURATIONS["cascade-small"])
    with pytest.raises(ValueError, match=r"initial weights: .*own.safetensors.*stages") as caught:
        initialise(cascade, tmp_path / "own.safetensors")
    assert "\n" not in str(caught.value)


def test_only_a_joint_network_needs_people_to_tell_apart(tmp_path):
    run(tmp_path, recipe(), num_identities=0)[0].check()
    with pytest.raises(ValueError, match="identities: got 1, jde-frcnn-small learns from two"):
        run(tmp_path, recipe("jde-frcnn-small"), num_identities=1)[0].check()


@pytest.mark.parametrize("name", ["frcnn-small", "jde-frcnn-small"])
def test_the_plan_says_whether_identities_are_learned(tmp_path, name):
    wanted = recipe(name)
    text = "\n".join(describe_plan(wanted, run(tmp_path, wanted)[2], 1))
    assert f"{name}: " in text
    assert "boxes       4 people" in text
    tells_apart = "which frcnn-small does not tell apart" not in text
    assert tells_apart == (name == "jde-frcnn-small")
    assert ("weighting uncertainty" in text) == tells_apart


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        ("frcnn-small", {"embedding_loss": "triplet"}, "embedding_loss: got it with frcnn-small"),
        ("frcnn-small", {"weighting": "mgda"}, "weighting: got it with frcnn-small, expected none"),
        ("frcnn-small", {"collage_share": 0.5}, "collage_share: got it with frcnn-small"),
        ("cascade-small", {"crops": {"sightings": 3}}, "crops: got it with cascade-small"),
        ("jde-frcnn-small", {"appearance_teacher": "a"}, "appearance_teacher: got it with jde-"),
        ("small", {"crops": {"sightings": 3}}, "crops: got it with small, expected none"),
        (
            "frcnn-small",
            {"validation": {"sequences": ["a"], "every_epochs": 1, "keep_best": "tpr_at_far"}},
            "keep_best: got tpr_at_far, but frcnn-small has no embeddings",
        ),
        ("frcnn-r52", {}, "network: got 'frcnn-r52', expected small | "),
    ],
)
def test_settings_that_a_network_does_not_have_are_refused(network, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        recipe(network, **changes)
    assert "\n" not in str(caught.value)


def test_a_file_has_settings_for_a_kind_of_network():
    settings = {
        "network": "small",
        "sources": [{"kind": "boxes", "path": "park"}],
        "training": {"epochs": 3, "batch": 4},
        "kinds": {"reid": {"training": {"batch": 64}, "crops": {"sightings": 3}}},
    }
    assert parse_recipe(settings).training.batch == 4
    other = parse_recipe(settings, "reid-small-pcb")
    assert (other.network, other.training.batch, other.training.epochs) == ("reid-small-pcb", 64, 3)
    assert other.crops.sightings == 3
    named = {"detector": {"network": "reid-small-ide"}}
    for wrong, message in (
        ({"resnet": {}}, "kinds: got 'resnet'"),
        ([1], "kinds: got"),
        (named, "kinds: detector: got network 'reid-small-ide', expected it beside kinds"),
    ):
        with pytest.raises(ValueError, match=message):
            parse_recipe({**settings, "kinds": wrong})


def test_pictures_without_people_are_refused_before_the_start(tmp_path):
    folder = tmp_path / "park"
    (folder / "images").mkdir(parents=True)
    (folder / "park.csv").write_text("image,x1,y1,x2,y2,id\n")
    cv2.imwrite(str(folder / "images/a.jpg"), np.zeros((40, 60, 3), np.uint8))
    with pytest.raises(ValueError, match="training data: got 1 pictures without people"):
        read_images(recipe(), tmp_path, None)
    taught = replace(recipe(), detector_teacher="nanodet.json")  # not asked yet
    assert read_images(taught, tmp_path, None).num_people == 0
