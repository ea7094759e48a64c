"""The network in 8-bit integers: near the float one, frame by frame, and only with its weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from jde_ray.models import openvino_files
from jde_ray.models.boxes import iou_matrix
from jde_ray.models.jde import int8
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.refusals import CheckpointError
from jde_ray.models.jde.weights import load, resolve, save, sha256
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene

pytest.importorskip("openvino")


@pytest.fixture(scope="module")
def network() -> int8.Int8JDE:
    return int8.Int8JDE(int8.find("small"), 1)


@pytest.fixture(scope="module")
def street() -> NDArray[np.uint8]:
    """A rendered street with people, as large as the network's input."""
    return np.ascontiguousarray(pictures(1)[0])


def pictures(number: int) -> list[NDArray[np.uint8]]:
    scene = StreetScene(seed=3, width=576, height=320, num_frames=number, frames_per_second=5.0)
    return [np.ascontiguousarray(picture) for picture, _ in render(scene)]


def test_it_finds_the_people_that_the_float_network_finds(
    network: int8.Int8JDE, street: NDArray[np.uint8]
) -> None:
    model = load("small").eval()
    (exact,) = model.detect(torch.from_numpy(street[None]))
    (found,) = network.detect(street[None])
    overlap = iou_matrix(exact.tlbr, found.tlbr)
    assert len(exact.tlbr) >= 2
    sure = exact.scores > 0.6
    assert (overlap[sure].max(axis=1) > 0.8).all()
    best = overlap[sure].argmax(axis=1)
    assert ((exact.embeddings[sure] * found.embeddings[best]).sum(axis=1) > 0.97).all()
    assert np.abs(exact.scores[sure] - found.scores[best]).max() < 0.1


def test_a_frame_does_not_depend_on_its_neighbours(
    network: int8.Int8JDE, street: NDArray[np.uint8]
) -> None:
    other = street[:, ::-1]
    alone = [network.detect(np.ascontiguousarray(frame)[None])[0] for frame in (street, other)]
    for found, single in zip(network.detect(np.stack([street, other])), alone, strict=True):
        for name in ("tlbr", "scores", "embeddings"):
            np.testing.assert_array_equal(getattr(found, name), getattr(single, name))


def test_it_takes_any_size(network: int8.Int8JDE, street: NDArray[np.uint8]) -> None:
    (found,) = network.detect(np.ascontiguousarray(street[None, :256, :448]))
    assert found.embeddings.shape[1] == network.config.embedding_dim
    with pytest.raises(ValueError, match="multiples of 32"):
        network.detect(street[None, :250])


def test_the_shipped_file_was_made_from_the_shipped_weights(tmp_path: Path) -> None:
    path = int8.find("small")
    int8.check(path, "small")
    save(JDE(SMALL), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="quantised from other weights"):
        int8.check(path, tmp_path / "other.safetensors")


def test_a_missing_half_is_named(tmp_path: Path) -> None:
    weights = tmp_path / "own.safetensors"
    shutil.copy(resolve("small"), weights)
    with pytest.raises(CheckpointError, match=r"int8 needs own.int8.xml beside .*--int8"):
        int8.find(weights)
    (tmp_path / "own.int8.xml").write_text("<net/>")
    with pytest.raises(CheckpointError, match=r"int8 needs own.int8.bin beside"):
        int8.find(weights)


def test_another_file_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "own.int8.xml"
    for text in ("no network", '<net name="a">', ""):
        path.write_text(text)
        with pytest.raises(CheckpointError, match="cannot be read") as refused:
            int8.Int8JDE(path, 1)
        assert "\n" not in str(refused.value)
    with pytest.raises(CheckpointError, match="cannot be read"):
        int8.Int8JDE(tmp_path / "none.int8.xml", 1)


def test_the_fingerprint_covers_both_files(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.int8.xml").write_text("x")
        (tmp_path / f"{name}.int8.bin").write_text(name)
    assert openvino_files.sha256(tmp_path / "a.int8.xml") != openvino_files.sha256(
        tmp_path / "b.int8.xml"
    )


def test_signals_are_handled_after_networks_are_gone() -> None:
    """OpenVINO freed the stack of the handlers: the process died of the next signal."""
    code = (
        "import signal\n"
        "import numpy as np\n"
        "from jde_ray.models.jde import int8\n"
        "networks = [int8.Int8JDE(int8.find('small'), 1) for _ in range(3)]\n"
        "for network in networks:\n"
        "    network.detect(np.zeros((1, 64, 96, 3), np.uint8))\n"
        "del network\n"
        "while networks:\n"
        "    networks.pop(0)\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "signal.raise_signal(signal.SIGUSR1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.slow
def test_the_same_pictures_give_the_same_files(tmp_path: Path) -> None:
    pytest.importorskip("nncf")
    for name in ("a", "b"):
        notes = {"licence": "none", "source_sha256": sha256("small")}
        int8.quantise(load("small"), pictures(4), tmp_path / f"{name}.int8.xml", notes)
    assert openvino_files.sha256(tmp_path / "a.int8.xml") == openvino_files.sha256(
        tmp_path / "b.int8.xml"
    )
    int8.check(tmp_path / "a.int8.xml", "small")
    assert int8.Int8JDE(tmp_path / "a.int8.xml", 1).config == load("small").config
