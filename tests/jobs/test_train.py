"""The verb: what is refused, counted and planned before anything is learned."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from typer.main import get_command

from jde_ray.jobs.cli import run
from jde_ray.jobs.console.runner import application
from jde_ray.jobs.train import _labels_folder, change
from jde_ray.jobs.train import train as verb
from jde_ray.pipelines.training.recipe_file import parse_recipe
from jde_ray.pipelines.training.settings import TrainerConfig

WRONG = "a.jpg,1,2,30\n"
# The options of `jde train`. A new one is a promise: add it here on purpose.
OPTIONS = {
    "--address",
    "--batch",
    "--config",
    "--data",
    "--device",
    "--dry-run",
    "--embedding-loss",
    "--epochs",
    "--help",
    "--initial",
    "--learning-rate",
    "--leave-out",
    "--loss-weighting",
    "--max-failures",
    "--minutes",
    "--network",
    "--no-resume",
    "--num-trainers",
    "--out",
    "--resume",
    "--seed",
    "--skip-bad",
    "--steps",
    "--threads",
    "--workers",
    "-h",
}


@pytest.fixture
def data(tmp_path):
    root = tmp_path / "data"
    (root / "park" / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in "abcd":
        image = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)
        cv2.imwrite(str(root / "park" / "images" / f"{name}.jpg"), image)
    rows = "a.jpg,10,5,40,55,3\nb.jpg,20,5,50,58,3\nc.jpg,20,5,50,58,-1\n"
    (root / "park" / "park.csv").write_text(f"image,x1,y1,x2,y2,id\n{rows}")
    return root


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "train.yaml"
    settings = {
        "network": "small-shufflenet",
        "longest_side": 96,
        "sources": [{"kind": "boxes", "path": "park"}],
        "augmentation": {"multi_scale": [0.1], "mosaic": 0.0},
        "training": {"epochs": 1, "batch": 2, "precision": "fp32"},
    }
    path.write_text(yaml.safe_dump(settings))
    return path


def train(recipe, data, *options):
    return run(["train", "--config", str(recipe), "--data", str(data), *map(str, options)])


def test_the_option_list_is_frozen():
    command = get_command(application(verb))
    names = [name for p in command.params for name in [*p.opts, *p.secondary_opts]]
    assert {*names, "-h", "--help"} == OPTIONS


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--threads", 0), "'--threads': Input should be greater than or equal to 1"),
        (("--workers", -1), "'--workers': Input should be greater than or equal to 0"),
        (("--num-trainers", 0), "'--num-trainers': Input should be greater than or equal to 1"),
        (("--max-failures", -1), "'--max-failures': Input should be greater than or equal to 0"),
        (("--device", "tpu"), "'--device': Value error, 'tpu' is not one of 'auto', 'cpu', 'cuda'"),
        (("--minutes", "long"), "'--minutes': Input should be a valid number"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_read(data, capsys, option, message):
    assert train(data / "no.yaml", data, *option) == 2
    assert message in capsys.readouterr().err


def test_a_flag_takes_the_place_of_the_files_value_and_leaves_the_rest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    sources, training = [{"kind": "boxes", "path": "park"}], {"epochs": 9, "batch": 2}
    recipe = parse_recipe({"network": "small", "sources": sources, "training": training})
    assert change(recipe, {}) == recipe
    timed = change(recipe, {"minutes": 2.0}).training
    assert (timed.minutes, timed.epochs, timed.batch) == (2.0, None, 2)
    assert change(recipe, {"epochs": 4}).training.epochs == 4
    short = change(recipe, {"steps": 3, "batch": 1, "seed": 7}).training
    assert (short.steps, short.epochs, short.batch, short.seed) == (3, None, 1, 7)
    given = {"learning_rate": 0.5, "loss_weighting": "mgda", "embedding_loss": "triplet"}
    other = change(recipe, {**given, "initial": "start.pt"})
    assert (other.weighting, other.embedding_loss) == ("mgda", "triplet")
    assert (other.training.learning_rate, other.training.epochs) == (0.5, 9)
    assert other.initial == str(tmp_path / "start.pt")


def test_the_plan_is_printed_and_nothing_is_written(recipe, data, tmp_path, capsys):
    options = ("--dry-run", "--out", tmp_path / "out", "--learning-rate", 0.002)
    assert train(recipe, data, *options) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "images 4 from 1 sources" in text
    assert "boxes 3 people (2 with an identity), 0 ignored" in text
    assert "identities 1" in text
    assert "steps 2 in 1 epochs; an epoch has 2, a step 2 images on 1 trainer" in text
    assert "rate up to 0.002, adamw, cosine" in text
    assert "MiB weights, gradients and optimiser" in text
    assert not (tmp_path / "out").exists()


def test_the_shipped_network_can_be_planned(recipe, data, capsys):
    settings = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**settings, "network": "small"}))
    assert train(recipe, data, "--dry-run") == 0
    assert "small: 6.12 M parameters" in capsys.readouterr().out


@pytest.mark.parametrize("network", ["small", "reid-small-ide"])
def test_a_plan_says_that_bf16_would_be_emulated(recipe, data, monkeypatch, caplog, network):
    monkeypatch.setattr("jde_ray.pipelines.detection.precision.quick_precision", lambda _: "fp32")
    settings = yaml.safe_load(recipe.read_text())
    settings["training"] |= {"precision": "bf16", "batch": 4}
    if network != "small":
        del settings["augmentation"]
        settings["crops"] = {"least_height": 1, "fewest_sightings": 1, "sightings": 2}
        settings["sources"][0]["strangers"] = True
    recipe.write_text(yaml.safe_dump({**settings, "network": network}))
    assert train(recipe, data, "--dry-run") == 0
    assert "emulates bf16" in caplog.text


def test_wrong_rows_stop_before_the_start_with_file_and_line(recipe, data, tmp_path, capsys):
    with (data / "park" / "park.csv").open("a") as file:
        file.write(WRONG)
    assert train(recipe, data, "--out", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "park.csv:5: row: got 'a.jpg,1,2,30'" in error
    assert not (tmp_path / "out" / "latest.pt").exists()


def test_wrong_rows_are_left_out_and_counted_with_skip_bad(recipe, data, capsys):
    with (data / "park" / "park.csv").open("a") as file:
        file.write(WRONG)
    assert train(recipe, data, "--dry-run", "--skip-bad") == 0
    assert "left out 1 x row" in " ".join(capsys.readouterr().out.split())


def test_a_network_is_trained_and_its_weights_written(recipe, data, tmp_path, capsys):
    out = tmp_path / "out"
    options = ("--loss-weighting", "mgda", "--embedding-loss", "upper_bound", "--workers", 0)
    assert train(recipe, data, "--out", out, *options) == 0
    assert (out / "weights.safetensors").is_file()
    assert json.loads((out / "latest.json").read_text())["step"] == 2
    assert f"wrote {out}/weights.safetensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    "whom", [pytest.param("trainer", marks=pytest.mark.slow), "all its processes"]
)
def test_a_terminated_training_keeps_its_place_and_goes_on(recipe, data, tmp_path, whom):
    """Service managers and `kill` by name end the workers that augment at the same time."""
    out = tmp_path / "out"
    settings = yaml.safe_load(recipe.read_text())
    settings["training"]["epochs"] = 4000
    recipe.write_text(yaml.safe_dump(settings))
    command = [
        sys.executable,
        "-m",
        "jde_ray.jobs.train",
        "--config",
        recipe,
        "--data",
        data,
        "--out",
        out,
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (out / "latest.json").exists() and process.poll() is None:
            time.sleep(0.05)
        if whom != "trainer":
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            for worker in children.read_text().split():
                os.kill(int(worker), signal.SIGTERM)
            time.sleep(0.3)  # the trainer learns of their death first
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate()
    assert process.returncode == 143, error
    assert error.strip() == f"jde: error: interrupted; run the same command to continue from {out}"
    done = json.loads((out / "latest.json").read_text())["step"]
    settings["training"]["epochs"] = done // 2 + 1
    recipe.write_text(yaml.safe_dump(settings))
    assert train(recipe, data, "--out", out, "--workers", 0) == 0
    assert json.loads((out / "latest.json").read_text())["step"] == 2 * (done // 2 + 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "out: expected --out"),
        (("--out", "x", "--num-trainers", 3), "batch: got 2, expected a multiple of"),
        (("--out", "x", "--num-trainers", 2, "--pairs"), "even number for each of 2 trainers"),
        (("--out", "x", "--minutes", 1, "--epochs", 2), "expected either minutes or epochs"),
        (("--out", "x", "--steps", 1, "--epochs", 2), "either minutes or epochs or steps"),
        (("--out", "x", "--batch", 0), "batch: got 0"),
        (("--out", "x", "--seed", -1), "seed: got -1, expected 0 or more"),
        (("--out", "x", "--learning-rate", 0), "learning_rate: got 0"),
        (("--out", "x", "--loss-weighting", "none"), "weighting: got 'none'"),
        (("--out", "ftp://x"), "expected a local path or s3://bucket/prefix"),
        (("--out", "x", "--device", "cuda"), "this machine has no GPU"),
    ],
)
def test_options_that_cannot_be_are_refused(recipe, data, capsys, monkeypatch, options, message):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    if "--pairs" in options:  # of the file
        options = options[:-1]
        settings = yaml.safe_load(recipe.read_text())
        recipe.write_text(yaml.safe_dump({**settings, "sampling": "pairs"}))
    assert train(recipe, data, *options) == 2
    assert message in capsys.readouterr().err


def test_several_trainers_are_started_on_ray_with_what_was_typed(
    recipe, data, tmp_path, monkeypatch
):
    started = []

    def start(run, images, *, show):
        started.append((run.trainers, images.batch, run.out))

    monkeypatch.setattr("jde_ray.pipelines.training.ray_train.train_on_ray", start)
    out = tmp_path / "out"
    options = ("--num-trainers", 2, "--max-failures", 0, "--no-resume", "--threads", 3)
    assert train(recipe, data, "--out", out, *options) == 0
    typed = TrainerConfig(num_trainers=2, max_failures=0, resume=False, threads=3)
    assert started == [(typed, 2, str(out))]
    assert train(recipe, data, "--out", out, "--address", "auto") == 0
    assert started[1][0] == TrainerConfig(address="auto")


def test_labels_of_an_out_that_is_no_folder_lie_in_the_users_own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert _labels_folder("s3://bucket/run") == tmp_path / "jde-ray" / "labels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _labels_folder("s3://bucket/run") == tmp_path / ".cache" / "jde-ray" / "labels"
    assert _labels_folder("runs/a") == Path("runs/a/labels")


def test_a_picture_that_cannot_be_read_stops_training_with_one_line(recipe, data, tmp_path, capsys):
    """Raised in a worker, it would carry the worker's traceback."""
    (data / "CAM" / "images").mkdir(parents=True)
    (data / "CAM" / "labels_with_ids").mkdir()
    (data / "CAM" / "images" / "1.jpg").write_bytes(b"no picture")
    (data / "CAM" / "labels_with_ids" / "1.txt").write_text("0 1 0.5 0.5 0.2 0.4\n")
    (data / "cam.train").write_text("CAM/images/1.jpg\n")
    settings = yaml.safe_load(recipe.read_text())
    settings["sources"] = [{"kind": "list", "path": "cam.train"}]
    settings["training"]["batch"] = 1
    recipe.write_text(yaml.safe_dump(settings))
    assert train(recipe, data, "--out", tmp_path / "out", "--workers", 1) == 2
    wanted = f"jde: error: training image: {data}/CAM/images/1.jpg is missing or no image\n"
    assert capsys.readouterr().err == wanted


def test_initial_weights_that_are_missing_are_refused_before_the_start(recipe, data, capsys):
    settings = yaml.safe_load(recipe.read_text())
    recipe.write_text(yaml.safe_dump({**settings, "initial": "none.pth"}))
    assert train(recipe, data, "--dry-run") == 2
    assert "none.pth is missing" in capsys.readouterr().err


def test_a_training_goes_on_from_other_weights_without_a_source(recipe, data, tmp_path, capsys):
    settings = yaml.safe_load(recipe.read_text())
    settings["sources"].append({"kind": "backgrounds", "path": "park"})
    recipe.write_text(yaml.safe_dump(settings))
    options = ("--initial", tmp_path / "no.safetensors", "--leave-out", "park", "--out", tmp_path)
    assert train(recipe, data, *options) == 2
    assert "sources: got none" in capsys.readouterr().err
    assert train(recipe, data, "--leave-out", "street", "--out", tmp_path / "out") == 2
    assert "leave-out: got street, expected park\n" in capsys.readouterr().err
    assert train(recipe, data, *options[:2], "--out", tmp_path / "out") == 2
    assert f"initial weights: {tmp_path}/no.safetensors is missing" in capsys.readouterr().err
