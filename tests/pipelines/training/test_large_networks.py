"""The paper's networks on ResNet: a torchvision file, a step, and tracks; it takes a while."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from decoded import decode
from made_videos import write_video
from two_stage import write

from jde_ray.models.backbones.resnet import resnet50, resnet101
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.weights import inspect
from jde_ray.pipelines.formats.label_files import LabelErrors
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
LEAST = 1e-4  # score of boxes that may start a track
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
    """Track a short video; the rows of its first frame are detections of the network.

    A network that has learned one step scores all boxes alike, so every score may start a track.

    Returns:
        Width of the embeddings, 0 if there are none.
    """
    video = folder / "v.mp4"
    write_video(video, 3, size=(288, 160))
    config = TrackConfig(
        detection=DetectionConfig(
            weights=str(weights), size=size, precision="fp32", score_threshold=LEAST
        ),
        tracking=TrackingConfig(high_score=LEAST, birth_score=LEAST),
        min_box_area=0,  # its best boxes may all be small
    )
    resources, saved = ResourceConfig(device="cpu"), OutputConfig(save_embeddings=True)
    reference.track([str(video)], str(folder / "out"), config, resources=resources, outputs=saved)
    (path,) = (folder / "out" / "tracks").iterdir()
    table = pq.read_table(path)
    rows = [row for row in table.to_pylist() if row["frame"] == 0]
    assert rows
    (chunk,) = decode(video, size=size, chunk_frames=4)
    found = Detector(config.detection, resources).detect(chunk).detections[0]
    assert len(found) >= len(rows)
    for row in rows:
        tlbr = [row[name] for name in ("x1", "y1", "x2", "y2")]
        nearest = int(np.abs(found.tlbr - tlbr).max(axis=1).argmin())
        np.testing.assert_allclose(found.tlbr[nearest], tlbr, atol=0.5)
        assert row["score"] == pytest.approx(found.scores[nearest], abs=1e-3)
        if found.embeddings.shape[1]:
            vector = np.frombuffer(row["embedding"], np.float16).astype(np.float32)
            np.testing.assert_allclose(vector, found.embeddings[nearest], atol=0.01)
    return int(found.embeddings.shape[1])


@pytest.mark.parametrize("network", FINDERS)
def test_a_network_that_finds_people_learns_a_step_and_tracks(tmp_path, network):
    weights = train(tmp_path, network)
    size = (576, 320) if network.startswith("resnet") else (288, 160)
    assert inspect(str(weights)).has_one_size == network.startswith("resnet")
    is_joint = network.startswith(("jde", "resnet"))
    assert bool(track(tmp_path, weights, size)) == is_joint


@pytest.mark.parametrize("network", EMBEDDERS)
def test_an_embedder_learns_a_step_and_tracks_with_a_detector(tmp_path, network):
    train(tmp_path, network)
    detector = write(tmp_path, size=(288, 160))
    (tmp_path / "sde.yaml").write_text(
        f"frames: 288x160\ndetector: {{weights: {detector.name}}}\n"
        f"embedder: {{weights: {network}/weights.safetensors}}\n",
        encoding="utf-8",
    )
    dim = build_network(recipe(network)).config.embedding_dim
    assert track(tmp_path, tmp_path / "sde.yaml", (288, 160)) == dim
