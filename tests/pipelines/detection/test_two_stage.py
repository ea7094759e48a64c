"""Two-stage networks in the pipeline: alone, and as the detector of separate networks."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from two_stage import SIZE, network, write

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.network import JDE
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.sde.declaration import DeclarationError, DetectorDeclaration
from jde_ray.models.sde.declaration_file import read_declaration
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.detector import Detector
from jde_ray.pipelines.detection.detectors import open_detector
from jde_ray.pipelines.detection.finders import input_size, load_finder
from jde_ray.pipelines.detection.model import Embedder
from jde_ray.pipelines.detection.networks import load_network
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.detection.weights import inspect, inspect_reid
from jde_ray.pipelines.structures import FrameChunk, VideoInfo

BOX = Letterbox(192, 128, *SIZE)  # the frames were twice as large


def pictures(number, size=SIZE):
    shape = (number, size[1], size[0], 3)
    return np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)


def open_model(weights, **changes):
    config = DetectionConfig(
        weights=str(weights), size=SIZE, precision="fp32", score_threshold=0.2, **changes
    )
    return load_network(config, ResourceConfig(device="cpu"))


@pytest.mark.parametrize("name", ["cascade-small", "jde-frcnn-small"])
def test_what_is_found_in_a_frame_does_not_depend_on_its_neighbours(tmp_path, name):
    model = open_model(write(tmp_path, name))
    frames = pictures(3)
    together = model.detect(frames, [BOX] * 3)
    padded = model.detect(frames[[1, 0, 2]], [BOX])
    assert len(together) == 3
    assert len(padded) == 1
    assert len(together[1].scores) > 1
    for field in ("tlbr", "scores", "embeddings"):
        np.testing.assert_array_equal(getattr(together[1], field), getattr(padded[0], field))
    assert together[1].embeddings.shape[1] == network(name).config.embedding_dim


def test_boxes_are_those_of_the_network_in_source_pixels(tmp_path):
    frames = pictures(1)
    (found,) = open_model(write(tmp_path)).detect(frames, [BOX])
    (wanted,) = network().detect(torch.from_numpy(frames), 0.2, 0.4, 300)
    np.testing.assert_allclose(found.tlbr, BOX.to_source(wanted.tlbr), atol=1e-4)
    np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)


def test_given_boxes_are_embedded_by_a_joint_network_only(tmp_path):
    frame = pictures(1)[0]
    joint = open_model(write(tmp_path, "jde-frcnn-small"))
    (found,) = joint.detect(frame[None], [BOX])
    assert isinstance(joint, Embedder)
    vectors = joint.embed(frame, BOX, found.tlbr)
    np.testing.assert_allclose(vectors, found.embeddings, atol=1e-4)
    with pytest.raises(ValueError, match="is a detector without embeddings"):
        open_model(write(tmp_path)).embed(frame, BOX, found.tlbr)


@pytest.mark.parametrize("name", ["cascade-small", "jde-frcnn-small"])
def test_reading_a_chunk_is_finding_and_embedding(tmp_path, name):
    config = DetectionConfig(
        weights=str(write(tmp_path, name)), size=SIZE, precision="fp32", score_threshold=0.2
    )
    detector = Detector(config, ResourceConfig(device="cpu"))
    index = np.arange(2, dtype=np.int64)  # the third frame is padding
    info = VideoInfo(192, 128, 25.0)
    chunk = FrameChunk("v", 0, 0, index, index / 25, pictures(3), info, is_last=True)
    wanted = detector.detect(chunk).detections
    people = [np.zeros((0, 4), np.float32), wanted[1].tlbr[:3]]
    dim = network(name).config.embedding_dim
    if not dim:
        with pytest.raises(ValueError, match="is a detector without embeddings"):
            detector.read(chunk, people)
        people = people[:1] * 2
    found, embedded = detector.read(chunk, people)
    for one, other in zip(found, wanted, strict=True):
        assert len(one) > 3
        for field in ("tlbr", "scores", "embeddings"):
            np.testing.assert_array_equal(getattr(one, field), getattr(other, field))
    assert [who.tolist() for who, _ in embedded] == ([[], [0, 1, 2]] if dim else [[], []])
    if dim:
        vectors = embedded[1][1]
        alone = open_model(config.weights).embed(chunk.frames[1], BOX, people[1])
        np.testing.assert_allclose(vectors, alone, atol=1e-3)
        np.testing.assert_allclose(vectors, wanted[1].embeddings[:3], atol=1e-2)


def test_facts_of_a_file(tmp_path):
    path = str(write(tmp_path))
    facts = inspect(path)
    assert (facts.size, facts.has_one_size, facts.can_compile, facts.rect) == (
        SIZE,
        False,
        False,
        True,
    )
    assert detection_for(path, (64, 64)).size == (64, 64)
    with pytest.raises(ValueError, match="size: got 100x64, expected multiples of 32"):
        inspect(path, (100, 64))
    with pytest.raises(ValueError, match=r"compile: got .*, which is not a joint network"):
        detection_for(path, compile=True)
    with pytest.raises(ValueError, match="holds a two-stage network, expected a joint one"):
        joint_files.load(path)
    with pytest.raises(ValueError, match=r"reid: .* one of kind rcnn; expected \.safetensors of"):
        inspect_reid(path)
    with pytest.raises(ValueError, match=r"reid: got a\.pt, expected colours, a shipped model"):
        inspect_reid("a.pt")


@pytest.fixture
def joint(tmp_path):
    torch.manual_seed(0)
    config = replace(SMALL, size=SIZE, backbone="shufflenet", neck_channels=(16, 16, 16))
    joint_files.save(JDE(config), tmp_path / "joint.safetensors")
    return tmp_path / "joint.safetensors"


@pytest.mark.parametrize("kind", ["one stage", "two stages"])
def test_a_detector_of_separate_networks_is_one_of_ours(tmp_path, kind, joint):
    path = joint if kind == "one stage" else write(tmp_path, "jde-frcnn-small")
    (tmp_path / "sde.yaml").write_text(
        f"frames: 96x64\ndetector: {{weights: {path.name}}}\n", encoding="utf-8"
    )
    separate = open_model(tmp_path / "sde.yaml")
    frames = pictures(2)
    found = separate.detect(frames, [BOX] * 2)
    for one, wanted in zip(found, open_model(path).detect(frames, [BOX] * 2), strict=True):
        assert len(one.scores) == len(wanted.scores)
        np.testing.assert_allclose(one.scores, wanted.scores, atol=1e-5)
        clipped = wanted.tlbr.clip(0, [192, 128, 192, 128])
        np.testing.assert_allclose(one.tlbr, clipped, atol=1e-2)
        assert one.embeddings.shape == (len(one.scores), 0)
    assert inspect(str(tmp_path / "sde.yaml")).size == SIZE


def test_a_detector_has_the_size_of_its_training_whatever_the_frames(tmp_path, joint):
    model = load_finder(joint)
    assert input_size(model, 1920, 1080) == (96, 64)
    picture = pictures(1, (320, 192))[0]
    detector = open_detector(DetectorDeclaration(file=write(tmp_path), layout="own"))
    tlbr, scores = detector.detect(picture, 0.2, 0.5)
    assert len(scores) > 1
    assert (np.diff(scores) <= 0).all()
    assert tlbr.min() >= 0
    assert tlbr.max() > 96
    assert (tlbr <= [320, 192, 320, 192]).all()


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        ("{weights: a.onnx}", "detector.weights: got a.onnx, expected a .safetensors file"),
        ("{weights: a.safetensors, layout: yolox}", "detector.layout: got it beside weights"),
        ("{file: a.onnx, layout: own}", "detector.layout: got 'own', expected fastestdet"),
    ],
)
def test_what_a_declaration_may_not_say(tmp_path, detector, message):
    (tmp_path / "sde.yaml").write_text(f"detector: {detector}\n", encoding="utf-8")
    with pytest.raises(DeclarationError, match=message):
        read_declaration(tmp_path / "sde.yaml")
