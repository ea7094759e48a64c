"""A re-identification network in 8-bit integers: near the float one, and only with its weights."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from jde_ray.models import openvino_files
from jde_ray.models.cards import JOINT, REID
from jde_ray.models.reid import int8
from jde_ray.models.reid.crop_network import ReidCropNetwork
from jde_ray.models.reid.weights import load
from jde_ray.models.sde.declaration import DeclarationError, NetworkDeclaration
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene

pytest.importorskip("openvino")

SHIPPED = REID.folder / "reid-small.safetensors"


@pytest.fixture(scope="module")
def network() -> int8.Int8CropNetwork:
    path = int8.find(SHIPPED)
    assert path is not None
    return int8.Int8CropNetwork(path)


@pytest.fixture(scope="module")
def people(network: int8.Int8CropNetwork) -> list[NDArray[np.uint8]]:
    """Eleven crops of rendered people."""
    scene = StreetScene(seed=3, width=576, height=320, num_people=8, num_frames=6)
    crops = []
    for picture, truth in render(scene):
        for x1, y1, x2, y2 in np.rint(truth.tlbr).astype(int).clip(0).tolist():
            if y2 - y1 > 40 and x2 - x1 > 10:
                crops.append(network.resized(np.ascontiguousarray(picture[y1:y2, x1:x2])))
    assert len(crops) >= 11
    return crops[:11]


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def in_parts(network: int8.Int8CropNetwork, crops: list[NDArray[np.uint8]], number: int):
    parts = (crops[at : at + number] for at in range(0, len(crops), number))
    return np.concatenate([network(part)[0] for part in parts])


def test_vectors_are_near_those_of_the_float_network(
    network: int8.Int8CropNetwork, people: list[NDArray[np.uint8]]
) -> None:
    exact = ReidCropNetwork(NetworkDeclaration(file=SHIPPED))(people)[0]
    found = unit(in_parts(network, people, 8))
    assert found.shape == exact.shape == (len(people), 256)
    alike = exact @ exact.T
    other = alike[~np.eye(len(people), dtype=bool)].mean()
    assert (exact * found).sum(1).min() > 0.9 > other


@pytest.mark.parametrize("number", [1, 4, 5, 7])
def test_a_crop_hardly_depends_on_how_many_are_looked_at(
    network: int8.Int8CropNetwork, people: list[NDArray[np.uint8]], number: int
) -> None:
    whole, parts = (in_parts(network, people, size) for size in (8, number))
    assert parts.shape == whole.shape
    assert (unit(parts) * unit(whole)).sum(1).min() > 0.995


def test_a_batch_gives_a_crop_the_same_numbers_at_every_place(
    network: int8.Int8CropNetwork, people: list[NDArray[np.uint8]]
) -> None:
    one = people[0]
    for place in (0, 3, 7):
        others = [*people[1:8]]
        others.insert(place, one)
        np.testing.assert_array_equal(network(others)[0][place], network([one] * 8)[0][place])


@pytest.mark.slow
def test_the_same_crops_give_the_same_file(tmp_path: Path, people: list[NDArray[np.uint8]]) -> None:
    for name in ("a", "b"):
        int8.quantise(load(SHIPPED), people[:4], tmp_path / f"{name}.int8.xml", {"licence": "mine"})
    a, b = (openvino_files.sha256(tmp_path / f"{name}.int8.xml") for name in ("a", "b"))
    assert a == b
    assert openvino_files.note(openvino_files.read(tmp_path / "a.int8.xml"), "licence") == "mine"


def test_a_file_beside_other_weights_is_refused(tmp_path: Path) -> None:
    assert int8.find(tmp_path / "none.safetensors") is None
    for part in openvino_files.parts(openvino_files.beside(SHIPPED)):
        shutil.copy(part, tmp_path / part.name.replace("reid-small", "own"))
    own = tmp_path / "own.safetensors"
    own.write_bytes(SHIPPED.read_bytes() + b" ")
    with pytest.raises(DeclarationError, match="was quantised from other weights than"):
        int8.find(own)
    shutil.copy(SHIPPED, own)
    assert int8.find(own) == tmp_path / "own.int8.xml"


def test_half_a_file_and_a_file_of_others_are_one_line(tmp_path: Path) -> None:
    own = tmp_path / "own.safetensors"
    shutil.copy(SHIPPED, own)
    shipped = openvino_files.parts(openvino_files.beside(SHIPPED))
    shutil.copy(shipped[0], tmp_path / "own.int8.xml")
    with pytest.raises(DeclarationError, match=r"own.int8.bin is missing; int8 needs both files"):
        int8.find(own)
    joint = JOINT.folder / "small.int8.xml"
    with pytest.raises(DeclarationError, match=r"small.int8.xml holds no re-identification netw"):
        int8.Int8CropNetwork(joint)


def test_signals_are_handled_after_networks_are_gone() -> None:
    """In a process of its own, since OpenVINO's stack for signals stays."""
    code = """
import gc, os, signal, sys
from pathlib import Path
from jde_ray.models.reid.int8 import Int8CropNetwork
signal.signal(signal.SIGALRM, lambda *_: print("handled"))
network = Int8CropNetwork(Path(sys.argv[1]))
network([__import__("numpy").zeros((192, 96, 3), "uint8")] * 6)
del network
gc.collect()
os.kill(os.getpid(), signal.SIGALRM)
"""
    path = openvino_files.beside(SHIPPED)
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    path = openvino_files.beside(tmp_path / "own.safetensors")
    shutil.copy(SHIPPED, tmp_path / "own.safetensors")
    for part in openvino_files.parts(path):
        part.write_bytes(b"<net")
    with pytest.raises(DeclarationError, match=r"own.int8.xml cannot be read") as caught:
        int8.find(tmp_path / "own.safetensors")
    assert "\n" not in str(caught.value)
