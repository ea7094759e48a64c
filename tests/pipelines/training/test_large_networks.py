"""The paper's networks on ResNet: a torchvision file, a step, and tracks; it takes a while."""

from pathlib import Path

import numpy as np
import pytest
import torch
from made_videos import write_video

from jde_ray.models.backbones.resnet import resnet50, resnet101
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.weights import inspect
from jde_ray.pipelines.formats.label_files import LabelErrors
from jde_ray.pipelines.formats.tracks import read_tracks
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.training.data.batches import collate
from jde_ray.pipelines.training.data.crop_batches import build_crop_stream
from jde_ray.pipelines.training.data.image_set import TrainingImages
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.kinds.registry import build_network, initialise
from jde_ray.pipelines.training.loop import fit
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.run import TrainingRun

pytestmark = pytest.mark.slow

FINDERS = (
    *("frcnn-r50", "frcnn-r101", "cascade-r50", "cascade-r101", "jde-frcnn-r50"),
    *("resnet50-576x320", "resnet101-576x320"),
)
EMBEDDERS = ("reid-ide", "reid-triplet", "reid-pcb")


def recipe(network: str) -> Recipe:
    of_kind = {"crops": {"sightings": 2}} if network.startswith("reid") else {}
    if not of_kind:
        of_kind = {"augmentation": {"mosaic": 0.0, "multi_scale": [0.25]}}
    return parse_recipe(
        {
            "network": network,
            "initial": "resnet.pth",
            "licence": "test only",
            "training": {
                **{"epochs": 9, "batch": 4 if "crops" in of_kind else 1, "precision": "fp32"},
                **{"optimiser": "sgd", "learning_rate": 1e-3, "ema_steps": 0},
            },
            "sources": [{"kind": "boxes", "path": "park"}],
            **of_kind,
        }
    )


def write_torchvision(path: Path, network: str) -> int:
    """A state dict with the names of torchvision; the number of its tensors without `fc`."""
    torch.manual_seed(0)
    state = (resnet101 if "101" in network else resnet50)().state_dict()
    for key, value in state.items():
        if key.endswith("running_var"):
            value.uniform_(0.5, 1.5)
    torch.save({**state, "fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    return len(state)


def train(folder: Path, network: str) -> Path:
    """One step, from torchvision's weights, on two people in two pictures."""
    torch.set_num_threads(1)
    wanted = recipe(network)
    taken = write_torchvision(folder / "resnet.pth", network)
    width = 512 if network.startswith("resnet") else 0
    rng = np.random.default_rng(0)
    people = np.array([[10, 8, 60, 150], [120, 20, 170, 158]], np.float32)
    images = [
        LabelledImage(
            rng.integers(0, 256, (160, 288, 3), dtype=np.uint8),
            people,
            np.arange(2),
            np.zeros(2, bool),
            0,
            appearance=np.zeros((2, width), np.float32),
        )
        for _ in range(2)
    ]
    if wanted.names.from_crops:
        crops = build_crop_stream(images, wanted)
        batch, per_epoch = crops.batch_at(0), crops.steps_per_epoch
    else:
        stream = TrainingImages(images, 2, LabelErrors()).build_set(wanted)
        batch, per_epoch = collate(stream.batch_at(0)), stream.steps_per_epoch
    learning = TrainingRun(
        recipe=wanted,
        root=folder,
        out=str(folder / network),
        num_identities=2,
        steps_per_epoch=per_epoch,
    )
    model = build_network(wanted)
    counters = 53 if "50" in network or network.startswith("reid") else 104
    keeps_counters = not wanted.names.kind.startswith(("detector", "two-stage"))
    assert initialise(model, folder / "resnet.pth") == taken - (0 if keeps_counters else counters)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    fit(model, learning, lambda _: iter([(0, batch)]))
    changed = [key for key, value in model.named_parameters() if not value.equal(before[key])]
    assert any("backbone" in key for key in changed)
    assert any("backbone" not in key for key in changed)
    return folder / network / "weights.safetensors"


def track(folder: Path, weights: Path, size: tuple[int, int]) -> int:
    """The number of rows of a short video."""
    write_video(folder / "v.mp4", 3, size=(288, 160))
    config = TrackConfig(
        detection=DetectionConfig(
            weights=str(weights), size=size, precision="fp32", score_threshold=0.01
        )
    )
    out = folder / "out"
    reference.track(
        [str(folder / "v.mp4")], str(out), config, resources=ResourceConfig(device="cpu")
    )
    (path,) = (out / "tracks").iterdir()
    return len(read_tracks(path))


@pytest.mark.parametrize("network", FINDERS)
def test_a_network_that_finds_people_learns_a_step_and_tracks(tmp_path, network):
    weights = train(tmp_path, network)
    size = (576, 320) if network.startswith("resnet") else (288, 160)
    assert inspect(str(weights)).has_one_size == network.startswith("resnet")
    assert track(tmp_path, weights, size) >= 0  # in a video that shows nobody


@pytest.mark.parametrize("network", EMBEDDERS)
def test_an_embedder_learns_a_step_and_tracks_with_a_detector(tmp_path, network):
    from two_stage import write

    train(tmp_path, network)
    detector = write(tmp_path, size=(288, 160))
    (tmp_path / "sde.yaml").write_text(
        f"frames: 288x160\ndetector: {{weights: {detector.name}}}\n"
        f"embedder: {{weights: {network}/weights.safetensors}}\n",
        encoding="utf-8",
    )
    assert track(tmp_path, tmp_path / "sde.yaml", (288, 160)) >= 0
