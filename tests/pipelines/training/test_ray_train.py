"""Two trainers on a local Ray; one of them is killed, and the training goes on."""

import csv
import json
import math
import os
import signal
import threading
import time

import cv2
import numpy as np
import pytest
import torch

from jde_ray.models.rcnn.weights import load as load_two_stage
from jde_ray.pipelines.storage.ray_storage import ray_storage
from jde_ray.pipelines.training.data.image_set import read_images
from jde_ray.pipelines.training.kinds.registry import build_network, kind_of
from jde_ray.pipelines.training.loop import NonFiniteLossError
from jde_ray.pipelines.training.ray_train import cpu_shares, train_on_ray
from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.run import TrainingRun
from jde_ray.pipelines.training.settings import TrainerConfig

pytestmark = pytest.mark.ray
EPOCHS, BATCH, IMAGES = 8, 4, 8


@pytest.mark.parametrize("available", [1, 2, 3, 4, 7, 8, 64, math.inf])
@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_trainers_leave_cpus_to_those_who_make_their_batches(available, threads, workers):
    config = TrainerConfig(num_trainers=2, threads=threads, workers=workers)
    trainer, task = cpu_shares(float(available), config)
    assert 2 * (trainer + max(1, workers) * task) <= available
    assert 0 < task <= 1
    assert 0 < trainer <= threads
    assert all(cpus < 1 or cpus == int(cpus) for cpus in (trainer, task))  # as Ray takes them
    if available >= 2 * (threads + max(1, workers)):
        assert (trainer, task) == (threads, 1)


@pytest.fixture
def data(tmp_path):
    """Eight pictures of one person each, in the unified JDE format."""
    return write_pictures(tmp_path / "data")


def write_pictures(root, of_whom_empty=0):
    """So many of the eight pictures show nobody."""
    rng = np.random.default_rng(0)
    names = [f"CAM/images/{number}.jpg" for number in range(IMAGES)]
    for number, name in enumerate(names):
        path = root / name
        label = root / name.replace("images", "labels_with_ids").replace(".jpg", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        label.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (32, 64, 3), dtype=np.uint8))
        row = f"0 {number % 2} 0.5 0.5 0.3 0.9\n"
        label.write_text(row if number >= of_whom_empty else "")
    (root / "cam.train").write_text("\n".join(names) + "\n")
    return root


def prepared(root, out, network="small-shufflenet", initial=None, **changes):
    recipe = parse_recipe(
        {
            "network": network,
            "initial": initial,
            "sources": [{"kind": "list", "path": "cam.train"}],
            "sampling": "epoch",
            "augmentation": {"multi_scale": [0.1], "mosaic": 0.0, "min_height_px": 2.0},
            "training": {
                "epochs": EPOCHS,
                "batch": BATCH,
                "precision": "fp32",
                "warmup_steps": 1,
                "optimiser": "sgd",
                "learning_rate": 0.001,
                "ema_steps": 0,
                **changes,
            },
        }
    )
    found = read_images(recipe, root, None)
    images = found.build_set(recipe)
    run = TrainingRun(
        recipe=recipe,
        root=root,
        out=str(out),
        num_identities=found.num_identities,
        steps_per_epoch=images.steps_per_epoch,
        trainers=TrainerConfig(num_trainers=2, device="cpu"),
    )
    return run, images


def kill_a_trainer_after(out, steps, over):
    """SIGKILL one of our own Ray's trainers once the checkpoint holds so many steps."""
    import psutil

    while not over.is_set():
        place = out / "latest.json"
        if place.is_file() and json.loads(place.read_text())["step"] >= steps:
            for process in psutil.Process(os.getpid()).children(recursive=True):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    process.send_signal(signal.SIGKILL)
                    return
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("out", "endpoint", "path"),
    [
        ("/runs/a", None, "/runs/a"),
        ("file:///runs/a", None, "/runs/a"),
        ("s3://bucket/a", None, "s3://bucket/a"),
        ("s3://bucket/a", "http://127.0.0.1:9000", "bucket/a"),
    ],
)
def test_ray_keeps_its_notes_where_ours_are(monkeypatch, out, endpoint, path):
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    if endpoint:
        monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    options = ray_storage(out)
    assert options["storage_path"] == path
    assert ("storage_filesystem" in options) == bool(endpoint)


@pytest.mark.slow
def test_a_killed_trainer_costs_no_finished_epoch(ray_cluster, data, tmp_path):
    out = tmp_path / "out"
    run, images = prepared(data, out)
    lines = []
    over = threading.Event()
    killer = threading.Thread(target=kill_a_trainer_after, args=(out, 4, over))
    killer.start()
    try:
        train_on_ray(run, images, show=lines.append)
    finally:
        over.set()
        killer.join()
    state = torch.load(out / "latest.pt", weights_only=True)
    assert state["step"] == EPOCHS * IMAGES // BATCH
    resumed = [line for line in lines if line.startswith("continuing after step")]
    assert len(resumed) == 1, lines
    assert int(resumed[0].split()[-1]) >= 4
    assert int(resumed[0].split()[-1]) % 2 == 0
    assert (out / "weights.safetensors").is_file()


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_not_tried_again(ray_cluster, data, tmp_path):
    run, images = prepared(data, tmp_path / "out", learning_rate=1e38, clip_norm=None)
    lines = []
    with pytest.raises(NonFiniteLossError, match=r"at step \d+; the batch: .*CAM/images/\d.jpg"):
        train_on_ray(run, images, show=lines.append)
    assert sum("M parameters" in line for line in lines) == 1


@pytest.mark.slow
@pytest.mark.parametrize("network", ["frcnn-small", "cascade-small", "jde-frcnn-small"])
def test_two_stage_networks_train_together_though_a_trainer_sees_nobody(
    ray_cluster, tmp_path, network
):
    root, out = write_pictures(tmp_path / "data", of_whom_empty=6), tmp_path / "out"
    run, images = prepared(root, out, network, "start.safetensors", epochs=2)
    start = build_network(run.recipe)
    kind_of(start).save(start, root / "start.safetensors", None)
    train_on_ray(run, images, show=lambda line: None)
    steps = 2 * IMAGES // BATCH
    assert torch.load(out / "latest.pt", weights_only=True)["step"] == steps
    rows = list(csv.DictReader((out / "curves.csv").open()))
    assert [int(row["step"]) for row in rows] == list(range(1, steps + 1))
    assert all(math.isfinite(float(row["total"])) for row in rows)
    after = load_two_stage(out / "weights.safetensors").state_dict()
    before = start.state_dict()
    for part in ("trunk", "rpn", "stages"):
        own = [key for key in before if key.startswith(part) and key.endswith("weight")]
        assert any(not torch.equal(before[key], after[key]) for key in own)
