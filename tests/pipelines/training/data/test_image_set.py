from dataclasses import replace

import numpy as np
import pytest

from jde_ray.pipelines.training.data import image_set, teachers, teaching
from jde_ray.pipelines.training.data.image_set import read_images
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.recipe_file import parse_recipe


def picture(group, people, appearance=None):
    return LabelledImage(
        np.zeros((20, 20, 3), np.uint8),
        np.tile(np.array([[2, 2, 8, 18]], np.float32), (people, 1)),
        np.arange(people),
        np.zeros(people, bool),
        group,
        appearance=np.zeros((0, 0), np.float32) if appearance is None else appearance,
    )


@pytest.fixture
def sources(monkeypatch):
    """Two sources that need no files: tables of boxes and unlabelled frames."""
    asked = []

    def read_source(root, source, group, longest_side, problems):
        asked.append(source.path)
        return [picture(group, 2 if source.kind == "boxes" else 0), picture(group, 1)]

    monkeypatch.setattr(image_set, "read_source", read_source)
    return asked


def recipe(**changes):
    return parse_recipe(
        {
            "network": "small-shufflenet",
            "sources": [{"kind": "boxes", "path": "a"}, {"kind": "frames", "path": "b"}],
            "training": {"minutes": 1, "batch": 2},
            **changes,
        }
    )


def test_identities_are_numbered_over_all_sources(sources, tmp_path):
    lines = []
    found = read_images(recipe(), tmp_path, None, show=lines.append)
    assert sources == ["a", "b"]
    assert lines == ["boxes a: 2 images, 3 boxes", "frames b: 2 images, 1 boxes"]
    assert found.num_identities == 3
    assert [i.identity.tolist() for i in found.images] == [[0, 1], [0], [], [2]]
    assert all(i.appearance.shape == (len(i.tlbr), 128) for i in found.images)
    batch = found.build_set(recipe()).batch_at(0)
    assert len(batch) == 2


def test_strangers_are_told_apart_in_the_source_that_says_so(monkeypatch, tmp_path):
    unknown = replace(picture(0, 2), identity=np.array([-1, -1]))
    tall = replace(unknown, tlbr=unknown.tlbr + np.array([0, 0, 0, 60], np.float32))
    monkeypatch.setattr(
        image_set, "read_source", lambda root, source, group, *rest: [replace(tall, group=group)]
    )
    first, second = (
        {"kind": "boxes", "path": name, "strangers": strangers}
        for name, strangers in (("a", False), ("b", True))
    )
    found = read_images(recipe(sources=[first, second]), tmp_path, None)
    assert [i.identity.tolist() for i in found.images] == [[-1, -1], [0, 1]]
    assert found.num_identities == 2


class Detector:
    calls = 0

    def detect(self, image, score_threshold):
        Detector.calls += 1
        boxes = np.array([[10, 2, 18, 18], [1, 1, 3, 9]], np.float32)
        return boxes, np.array([0.9, 0.3], np.float32)


class Embedder:
    def embed(self, image, tlbr):
        rng = np.random.default_rng(len(tlbr))
        vectors = rng.normal(size=(len(tlbr), 512)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_teachers_are_asked_once_and_their_answers_kept(sources, tmp_path, monkeypatch):
    monkeypatch.setattr(teachers, "open_detector", lambda path: Detector())
    monkeypatch.setattr(teachers, "open_appearance", lambda path: Embedder())
    taught = recipe(detector_teacher="d.onnx", appearance_teacher="a.onnx")
    Detector.calls = 0
    first = read_images(taught, tmp_path, tmp_path / "labels")
    assert Detector.calls == 4
    # what it finds is a person in unlabelled frames, and only not background in labelled ones
    assert [i.ignore.tolist() for i in first.images] == [
        [False, False, True, True],
        [False, True, True],
        [False, True],
        [False, False, True],
    ]
    for image in first.images:
        norms = np.linalg.norm(image.appearance, axis=1)
        np.testing.assert_allclose(norms, np.where(image.ignore, 0, 1), atol=1e-5)
    again = read_images(taught, tmp_path, tmp_path / "labels")
    assert Detector.calls == 4
    for a, b in zip(first.images, again.images, strict=True):
        np.testing.assert_array_equal(a.tlbr, b.tlbr)
        np.testing.assert_array_equal(a.ignore, b.ignore)
        np.testing.assert_allclose(a.appearance, b.appearance, atol=1e-6)


@pytest.mark.parametrize("changed", ["boxes", "identity", "ignore", "pixels", "teacher", "cut off"])
def test_what_teachers_said_of_other_images_is_not_taken(tmp_path, monkeypatch, changed):
    teacher = tmp_path / "d.onnx"
    teacher.write_bytes(b"one teacher")
    images = [picture(0, 2)]
    monkeypatch.setattr(image_set, "read_source", lambda *given: list(images))
    monkeypatch.setattr(teachers, "open_detector", lambda path: Detector())
    taught = recipe(sources=[{"kind": "boxes", "path": "a"}], detector_teacher="d.onnx")
    cache = tmp_path / "labels"
    read_images(taught, tmp_path, cache)
    Detector.calls = 0
    if changed == "boxes":
        images[0] = replace(images[0], tlbr=images[0].tlbr + 1)
    elif changed == "identity":
        images[0] = replace(images[0], identity=np.array([7, -1]))
    elif changed == "ignore":
        images[0] = replace(images[0], ignore=np.array([False, True]))
    elif changed == "pixels":
        images[0] = replace(images[0], image=images[0].image + np.uint8(1))
    elif changed == "teacher":
        teacher.write_bytes(b"another one")
    else:
        (kept,) = cache.iterdir()
        kept.write_bytes(kept.read_bytes()[:-40])
    (found,) = read_images(taught, tmp_path, cache).images
    assert Detector.calls == 1
    np.testing.assert_array_equal(found.tlbr[:2], images[0].tlbr)
    np.testing.assert_array_equal(found.ignore[:2], images[0].ignore)
    read_images(taught, tmp_path, cache)
    assert Detector.calls == 1
    assert {path.suffix for path in cache.iterdir()} == {".npz"}


def test_colours_are_computed_again_if_their_histograms_change(tmp_path, monkeypatch):
    monkeypatch.setattr(image_set, "read_source", lambda *given: [picture(0, 2)])
    taught = recipe(sources=[{"kind": "boxes", "path": "a"}], appearance_teacher="colours")
    for _ in range(2):
        read_images(taught, tmp_path, tmp_path / "labels")
        assert len(list((tmp_path / "labels").iterdir())) == 1
    monkeypatch.setattr(teaching, "SETTINGS", "other histograms")
    read_images(taught, tmp_path, tmp_path / "labels")
    assert len(list((tmp_path / "labels").iterdir())) == 2


def test_a_plan_asks_no_teacher(sources, tmp_path):
    taught = recipe(detector_teacher="missing.onnx", appearance_teacher="missing.onnx")
    assert read_images(taught, tmp_path, None).num_identities == 3


def test_a_left_out_sequence_does_not_turn_the_directions_of_appearance(monkeypatch):
    """Weights go on in another training, where every dimension must mean the same."""
    rng = np.random.default_rng(3)

    def people(group, count):
        vectors = rng.normal(size=(count, 512)).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return [picture(group, count, vectors)]

    monkeypatch.setattr(teaching, "ENOUGH_VECTORS", 1)
    many, sequence = people(0, 140), people(1, 60)
    alone = teaching.project_appearance([many], [True], 128)
    both = teaching.project_appearance([many, sequence], [True, False], 128)
    np.testing.assert_array_equal(alone[0][0].appearance, both[0][0].appearance)
    assert np.allclose(np.linalg.norm(both[1][0].appearance, axis=1), 1, atol=1e-5)
