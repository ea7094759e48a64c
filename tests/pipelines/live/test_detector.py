from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from onnx_models import write_declaration
from places import ROOT

from jde_ray.models.structures import Detections
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.live.detector import Detector, similarity
from jde_ray.pipelines.live.tracker import Tracker

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def street() -> list[np.ndarray]:
    """BGR frames in which the shipped network finds people."""
    scene = StreetScene(3, width=640, height=352, num_people=8, num_frames=3)
    return [cv2.cvtColor(image, cv2.COLOR_RGB2BGR) for image, _ in render(scene)]


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector(conf=0.4, precision="fp32")


def assert_alike(one: Detections, other: Detections) -> None:
    np.testing.assert_allclose(one.tlbr, other.tlbr, atol=0.02)
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-4)


def test_one_image_a_list_and_an_array(detector: Detector, street: list[np.ndarray]):
    one = detector.detect(street[0])
    assert len(one) > 1
    assert one.scores.min() > 0.4
    assert (np.diff(one.scores) <= 0).all()
    small = cv2.resize(street[1], (320, 176))
    found = detector.detect([street[0], small, street[2]])
    assert len(found) == 3
    assert_alike(found[0], one)
    assert_alike(found[1], detector.detect(small))
    assert_alike(detector.detect(np.stack(street))[2], found[2])
    assert detector.detect([]) == []


def test_people_are_described_the_same_when_their_boxes_are_given(
    detector: Detector, street: list[np.ndarray]
):
    found = detector.detect(street[0])
    vectors = detector.embed(street[0], found.tlbr)
    assert vectors.shape == found.embeddings.shape
    own = np.vecdot(vectors, found.embeddings.astype(np.float32))
    assert (own > 0.98).all()
    assert detector.embed(street[0], []).shape == (0, found.embeddings.shape[1])
    for boxes in ([[1, 2, 3]], [[0, 0, 5, np.nan]], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match=r"boxes: got shape .* expected \(N, 4\)"):
            detector.embed(street[0], boxes)


def test_a_box_without_a_cell_of_the_network_has_a_vector_of_colours_alone(
    street: list[np.ndarray],
):
    plain = Detector(precision="fp32", reid="none")
    (nothing,) = plain.embed(street[0], [[0, 0, 3, 3]])
    (colours,) = Detector(precision="fp32").embed(street[0], [[0, 0, 3, 3]])
    assert not nothing.any()
    assert not colours[: len(nothing)].any()
    assert colours[len(nothing) :].any()


def test_separate_networks_describe_what_is_in_the_box(tmp_path: Path):
    pytest.importorskip("onnxruntime")
    image = np.full((64, 128, 3), 20, np.uint8)
    image[8:56, 20:44] = (0, 0, 255)
    detector = Detector(str(write_declaration(tmp_path)))
    red, grey = detector.embed(image, [[20, 8, 44, 56], [60, 8, 84, 56]])
    assert similarity(red, grey) < 0.9
    assert similarity(red, detector.embed(image, [[22, 10, 42, 50]])[0]) > 0.999
    without = Detector(str(write_declaration(tmp_path, embedder=False)))
    with pytest.raises(ValueError, match="names no embedder"):
        without.embed(image, [[20, 8, 44, 56]])


def test_the_process_keeps_its_threads_and_gets_those_that_are_asked_for():
    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        torch.set_num_threads(2)
        Detector()
        assert torch.get_num_threads() == 2
        Detector(threads=1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before[0])
    assert cv2.getNumThreads() == before[1]


def test_weights_may_be_a_path():
    path = ROOT / "models/jde/pretrained/open.safetensors"
    assert Detector(path, threads=1).config.weights == str(path)
    with pytest.raises(ValueError, match=r"nothing\.safetensors"):
        Tracker(Path("nothing.safetensors"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"weights": "nothing.safetensors"}, "nothing.safetensors"),
        ({"conf": 1.5}, "conf: got 1.5, expected 0.0 to 1.0"),
        ({"conf": "x"}, "conf: got 'x', expected a number, 0.0 to 1.0"),
        ({"nms": None}, "nms: got None, expected a number, 0.0 to 1.0"),
        ({"size": (100, 100)}, "size: got 100x100, expected multiples of 32"),
        ({"size": 576}, r"size: got 576, expected \(WIDTH, HEIGHT\) in pixels"),
        ({"size": "576x320"}, "size: got '576x320', expected"),
        ({"size": (576, 320.0)}, r"size: got \(576, 320.0\), expected"),
        ({"threads": 0}, "threads: got 0, expected 1 to 256"),
        ({"device": "tpu"}, "device: got 'tpu', expected auto | cpu | cuda"),
    ],
)
def test_wrong_settings_are_refused_in_one_line(settings: dict[str, object], message: str):
    with pytest.raises((ValueError, OSError), match=message.replace("|", r"\|")) as refused:
        Detector(**settings)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_nothing_of_ray_is_loaded():
    code = (
        "import sys; from jde_ray import BoxTracker, Detector, Tracker, read_tracks, similarity; "
        "print([m for m in sys.modules if m == 'ray' or m.startswith('ray.')])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], cwd=ROOT, text=True) == "[]\n"


def test_similarity_is_the_cosine():
    assert similarity([3.0, 0.0], [0.5, 0.0]) == pytest.approx(1)
    assert similarity([1.0, 0.0], [0.0, 0.0]) == 0
    assert similarity(np.eye(3), np.eye(3)[:2]).shape == (3, 2)
    with pytest.raises(ValueError, match="embeddings: got lengths 2 and 3, expected one length"):
        similarity([1, 2], [1, 2, 3])


def test_a_gpu_that_is_not_there_is_refused_in_one_line():
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="device: got cuda, but this machine has no GPU; use cpu"):
        Detector(device="cuda")
