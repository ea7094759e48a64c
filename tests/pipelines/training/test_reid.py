import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_views import PLAIN, as_found

from jde_ray.models.reid import weights
from jde_ray.models.reid.config import CONFIGURATIONS, own_weights
from jde_ray.models.reid.network import ReidNet
from jde_ray.pipelines.training.data.crop_batches import build_crop_stream
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.kinds.registry import build_network, initialise
from jde_ray.pipelines.training.loop import fit
from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.trainer import train_here

SMALL = [name for name in CONFIGURATIONS if name.startswith(("reid-small", "reid-tiny"))]


def recipe(network="reid-tiny-ide", **training):
    return parse_recipe(
        {
            "network": network,
            "licence": "test only",
            "training": {"epochs": 1000, "batch": 8, "precision": "fp32", **training},
            "crops": {"sightings": 2, "size": [32, 96], "context": 1.1},
            "sources": [{"kind": "boxes", "path": "park"}],
        }
    )


def images(people=4, sightings=2):
    """Each person has clothes of random colours, in pictures of different light."""
    rng = np.random.default_rng(0)
    clothes = rng.integers(0, 256, (people, 6, 3))
    found = []
    for light in np.linspace(0.7, 1, sightings):
        picture = np.full((110, 50 * people, 3), 110, np.uint8)
        for person, colours in enumerate(clothes):
            for stripe, colour in enumerate(colours):
                top, left = 7 + 16 * stripe, 50 * person + 9
                picture[top : top + 16, left : left + 32] = light * colour
        tlbr = [(50 * p + 9, 7, 50 * p + 41, 103) for p in range(people)]
        nobody = np.zeros(people, bool)
        found.append(
            LabelledImage(picture, np.array(tlbr, np.float32), np.arange(people), nobody, 0)
        )
    return found


def run(out, recipe):
    stream = build_crop_stream(images(), recipe)
    learning = TrainingRun(
        recipe=recipe,
        root=out,
        out=str(out),
        num_identities=stream.num_identities,
        steps_per_epoch=stream.steps_per_epoch,
    )
    return learning, stream


def first(stream, number):
    """So many steps from the one that is asked for."""
    return lambda step: (
        pair for pair, _ in zip(stream.from_step(step), range(number), strict=False)
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_each_small_network_learns_a_few_crops_by_heart(tmp_path, name):
    wanted = recipe(name, warmup_steps=5, learning_rate=2e-3, ema_steps=0, weight_decay=0.0)
    wanted = replace(wanted, crops=replace(wanted.crops, views=PLAIN))
    learning, stream = run(tmp_path, wanted)
    model = fit(ReidNet(wanted.reid_config), learning, first(stream, 40))
    assert isinstance(model, ReidNet)
    batch = stream.batch_at(0)
    with torch.inference_mode():
        vectors = model.train()(as_found(batch.pixels, 1.1, (32, 96)))
    alike = (vectors @ vectors.T).fill_diagonal_(-1)
    nearest = batch.identity[alike.argmax(1)]
    assert nearest.tolist() == batch.identity.tolist()
    same = batch.identity[:, None] == batch.identity[None]
    assert alike[same & (alike > -1)].min() > alike[~same].max() + 0.1


def test_a_resumed_training_equals_an_uninterrupted_one_and_its_file_says_what_it_learned(tmp_path):
    wanted = recipe(warmup_steps=2)
    for name, parts in (("whole", (4,)), ("parts", (2, 2))):
        learning, stream = run(tmp_path / name, wanted)
        for number in parts:
            torch.manual_seed(0)
            fit(ReidNet(wanted.reid_config), learning, first(stream, number))
    whole, parts = (weights.load(tmp_path / n / "weights.safetensors") for n in ("whole", "parts"))
    assert all(map(torch.equal, whole.state_dict().values(), parts.state_dict().values()))
    facts = weights.metadata(tmp_path / "whole" / "weights.safetensors")
    assert (facts["licence"], facts["identities"]) == ("test only", "4")
    assert json.loads(facts["config"])["size"] == [32, 96]
    heading = (tmp_path / "whole" / "curves.csv").read_text().splitlines()[0]
    assert "loss_identity" in heading


def test_the_quality_of_pictures_is_learned_from_sets(tmp_path):
    wanted = recipe("reid-small-qan", warmup_steps=1)
    wanted = replace(wanted, crops=replace(wanted.crops, sightings=4))
    learning, stream = run(tmp_path, wanted)
    model = ReidNet(wanted.reid_config)
    model = fit(model, learning, first(stream, 3))
    assert model.quality.last.weight.abs().max() > 0  # they begin at 0
    heading = (tmp_path / "curves.csv").read_text().splitlines()[0]
    assert "loss_sets" in heading
    assert "loss_identity" in heading


def test_training_in_this_process_ends_with_its_epochs(tmp_path):
    wanted = recipe(epochs=2)
    learning, stream = run(tmp_path, wanted)
    lines = []
    train_here(learning, stream, device="cpu", show=lines.append)
    assert "reid-tiny-ide: 0.25 M parameters, 32x96" in lines
    assert (tmp_path / "weights.safetensors").is_file()


def test_a_network_starts_from_another_one_s_file_or_from_a_joint_network_s_backbone(tmp_path):
    torch.manual_seed(0)
    own = ReidNet(CONFIGURATIONS["reid-small-ide"])
    from jde_ray.models.jde.weights import load, resolve

    taken = initialise(own, resolve("small"))
    assert taken == len(own.backbone.state_dict())
    theirs = load("small").backbone.state_dict()
    assert torch.equal(own.backbone.stem[0].weight, theirs["stem.0.weight"].float())
    weights.save(own, tmp_path / "own.safetensors")
    other = ReidNet(own.config)
    assert initialise(other, tmp_path / "own.safetensors") == len(own.state_dict())
    assert torch.equal(other.linear.weight, own.linear.weight)
    tiny = ReidNet(CONFIGURATIONS["reid-tiny-ide"])
    with pytest.raises(ValueError, match=r"initial weights: .*own.safetensors"):
        initialise(tiny, tmp_path / "own.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crops": {"size": [100, 192]}}, "size: got 100x192, reid-tiny-ide expects multiples"),
        (
            {"embedding_loss": "triplet"},
            "embedding_loss: got it with reid-tiny-ide, expected `crops: ",
        ),
        ({"crops": {"losses": {"teacher": 1}}}, "got teacher 1.0 without an appearance_teacher"),
        ({"crops": {"losses": {"triplets": 1}}}, "crops losses: got 'triplets', expected identity"),
        ({"crops": {"views": {"flip": 3}}}, "views flip: got 3, expected 0 to 1"),
        (
            {"validation": {"sequences": ["a"], "every_epochs": 1}},
            "validation: got it with reid-tiny-ide, expected none, since `jde bench embedders`",
        ),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(changes, message):
    settings = {
        "network": "reid-tiny-ide",
        "training": {"epochs": 1},
        "sources": [{"kind": "crops", "path": "a"}],
    }
    with pytest.raises(ValueError, match=message):
        parse_recipe({**settings, **changes})


def test_a_head_has_the_loss_that_it_was_published_with():
    factors = {name: own_weights(config) for name, config in CONFIGURATIONS.items()}
    assert factors["reid-triplet"].triplet == 1
    assert factors["reid-triplet"].identity == 0
    assert factors["reid-pcb"].identity == factors["reid-ide"].identity == 1


def test_crops_are_trained_without_ray_pyav_and_the_association():
    text = (
        "import sys\n"
        "import jde_ray.pipelines.training.trainer\n"
        "import jde_ray.pipelines.training.data.crop_batches\n"
        "import jde_ray.pipelines.training.data.labelled_image\n"
        "print([m for m in ('ray', 'av', 'lap', 'filterpy', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_refined_parts_start_from_stripes_and_may_learn_alone(tmp_path):
    """The other weights stay; classifiers of identities are new in every training."""
    torch.manual_seed(0)
    stripes = ReidNet(CONFIGURATIONS["reid-small-pcb"])
    weights.save(stripes, tmp_path / "pcb.safetensors")
    settings = {
        "network": "reid-small-pcb-refined",
        "training": {"epochs": 1000, "batch": 4, "precision": "fp32"},
        "sources": [{"kind": "boxes", "path": "park"}],
    }
    with pytest.raises(ValueError, match="crops only_parts: got true with reid-small-pcb-refined"):
        parse_recipe({**settings, "crops": {"only_parts": True}})
    crops = {"sightings": 2, "size": [32, 96], "only_parts": True}
    wanted = parse_recipe({**settings, "crops": crops, "initial": "pcb.safetensors"})
    model = build_network(wanted)
    assert initialise(model, tmp_path / "pcb.safetensors") == len(stripes.state_dict())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    learning, stream = run(tmp_path, wanted)
    fit(model, learning, first(stream, 1))
    changed = {key for key, value in model.state_dict().items() if not value.equal(before[key])}
    assert {key.split(".")[0] for key in changed if "num_batches" not in key} == {"parts"}
