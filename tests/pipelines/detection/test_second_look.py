"""`--reid`: both vectors of every detection, in runs and in Python."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import ColourModel
from hypothesis import given, settings
from hypothesis import strategies as st
from made_videos import write_video
from onnx_models import write_declaration, write_mean_embedder

from jde_ray import Detector as LiveDetector
from jde_ray.jobs import cli
from jde_ray.models import cards
from jde_ray.models.cards import JOINT
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.reid import weights as reid_weights
from jde_ray.models.reid.config import CONFIGURATIONS
from jde_ray.models.reid.network import ReidNet
from jde_ray.models.sde import declaration_file
from jde_ray.models.sde.declaration_file import read_declaration, read_embedder
from jde_ray.models.sde.network import AppearanceEmbedder
from jde_ray.models.structures import Described
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.pipelines.config import (
    DetectionConfig,
    OutputConfig,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.detection.model import FoundInSource
from jde_ray.pipelines.detection.networks import SeparateModel, load_network
from jde_ray.pipelines.detection.second_look import KEY_FRAMES, OWN_SHARE, WithSecondLook, joined
from jde_ray.pipelines.detection.settings import detection_for, resolve_settings
from jde_ray.pipelines.detection.weights import inspect_reid, reid_fingerprint, reid_name
from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.tracking import reference

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

SIZE = (128, 64)


def test_joined_vectors_have_unit_length_and_weak_ones_weigh_less() -> None:
    own, second = np.eye(3)[:2], np.eye(4)[:2].astype(np.float32)
    both = joined(own, second)
    assert both.shape == (2, 7)
    np.testing.assert_allclose(np.linalg.norm(both, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(joined(np.zeros((2, 0)), second), second)


def test_each_box_gets_the_vector_of_its_own_crop(tmp_path: Path) -> None:
    """The embedder says the mean colour of a crop; the picture has a red and a blue half."""
    weights = write_declaration(tmp_path)
    config = DetectionConfig(
        weights=str(weights), size=SIZE, reid=str(tmp_path / "look.onnx"), score_threshold=0.3
    )
    write_mean_embedder(tmp_path / "look.onnx")
    source = np.zeros((96, 160, 3), np.uint8)
    source[:, :80, 0], source[:, 80:, 2] = 255, 255
    box = Letterbox(160, 96, *SIZE)
    frame = box.apply(source)
    model = load_network(config, ResourceConfig())
    assert isinstance(model, WithSecondLook)
    tlbr = np.array([[5, 5, 40, 80], [90, 5, 140, 80]], np.float32)
    beside_colours = load_network(replace(config, reid="colours"), ResourceConfig())
    assert isinstance(beside_colours, WithSecondLook)
    vectors = beside_colours.embed(frame, box, tlbr)
    np.testing.assert_allclose(np.linalg.norm(vectors[:, 3:], axis=1), np.sqrt(0.96), rtol=1e-5)
    own = SeparateModel(config, ResourceConfig()).embed(frame, box, tlbr)
    both = model.embed(frame, box, tlbr)
    np.testing.assert_allclose(both[:, : own.shape[1]], OWN_SHARE * own, atol=1e-6)
    red, blue = both[:, own.shape[1] :]
    assert red[0] == red.max() > blue[0]
    assert blue[2] == blue.max() > red[2]
    (found,) = model.detect(frame[None], [box])
    plain = SeparateModel(config, ResourceConfig()).detect(frame[None], [box])[0]
    np.testing.assert_array_equal(found.tlbr, plain.tlbr)
    assert found.embeddings.shape == (len(plain.scores), plain.embeddings.shape[1] + 3)


class Scripted:
    """Finds the boxes that are written down for each frame, whose number is in its first pixel."""

    def __init__(self, tlbr: list[np.ndarray], scores: list[np.ndarray]) -> None:
        self.tlbr, self.scores = tlbr, scores

    def detect(self, frames: np.ndarray, letterboxes: list[Letterbox]) -> list[FoundInSource]:
        numbers = [int(frame[0, 0, 0]) for frame in frames[: len(letterboxes)]]
        return [
            FoundInSource(self.tlbr[k], self.scores[k], np.ones((len(self.scores[k]), 1)), 0)
            for k in numbers
        ]


class Describer:
    """Describes a box by its frame's number and its place: every look gives another vector."""

    width = 3

    def embed(self, picture: np.ndarray, tlbr: np.ndarray) -> np.ndarray:
        number = np.full(len(tlbr), 1 + picture[0, 0, 0])
        vectors = np.column_stack([number, tlbr[:, 0] + 1, tlbr[:, 1] + 1]).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def describe(self, picture: np.ndarray, tlbr: np.ndarray) -> Described:
        return Described(self.embed(picture, tlbr))


class Judge(Describer):
    """Also says that quality grows by a hundredth from frame to frame."""

    def describe(self, picture: np.ndarray, tlbr: np.ndarray) -> Described:
        quality = np.full(len(tlbr), 0.5 + picture[0, 0, 0] / 100, np.float32)
        return Described(self.embed(picture, tlbr), quality)


def looks(
    tlbr: list[np.ndarray], scores: list[np.ndarray] | None = None, chunk: int = 16, **how: Any
) -> tuple[list[np.ndarray], list[int]]:
    """Second vectors and numbers of crops of all frames, read in chunks of that size."""
    scores = scores or [np.full(len(one), 0.9) for one in tlbr]
    model = WithSecondLook(Scripted(tlbr, scores), Describer(), only_needed=True, **how)
    frames = np.zeros((len(tlbr), 64, 128, 3), np.uint8)
    frames[:] = np.arange(len(tlbr), dtype=np.uint8)[:, None, None, None]
    found = []
    for first in range(0, len(tlbr), chunk):
        part = frames[first : first + chunk]
        found += model.detect(part, [Letterbox(128, 64, *SIZE)] * len(part))
    return [one.embeddings[:, 1:] for one in found], [one.num_crops for one in found]


def shifted(tlbr: np.ndarray, x: float) -> np.ndarray:
    return tlbr + np.array([x, 0, x, 0], np.float32)


def walk(frames: int, x: float, y: float) -> list[np.ndarray]:
    return [np.array([[x + k / 2, y, x + k / 2 + 10, y + 20]], np.float32) for k in range(frames)]


def test_a_quality_belongs_to_the_vector_and_is_kept_with_it() -> None:
    tlbr = [np.concatenate([one, shifted(one, 60)]) for one in walk(10, 5, 5)]
    scores = [np.array([0.9, 0.2])] * 10
    model = WithSecondLook(Scripted(tlbr, scores), Judge(), only_needed=True, least_score=0.5)
    frames = np.zeros((10, 64, 128, 3), np.uint8)
    frames[:] = np.arange(10, dtype=np.uint8)[:, None, None, None]
    found = model.detect(frames, [Letterbox(128, 64, *SIZE)] * 10)
    for k, one in enumerate(found):  # nobody looked at the second person
        expected = [0.5 + k // KEY_FRAMES * KEY_FRAMES / 100, 0.0]
        assert one.quality == pytest.approx(expected)
    model = WithSecondLook(Scripted(tlbr, scores), Describer(), only_needed=True)
    assert model.detect(frames, [Letterbox(128, 64, *SIZE)])[0].quality is None


def test_who_walks_alone_is_looked_at_in_every_eighth_frame() -> None:
    vectors, crops = looks(walk(20, 5, 5))
    assert crops == [int(k % KEY_FRAMES == 0) for k in range(20)]
    for k, vector in enumerate(vectors):
        np.testing.assert_array_equal(vector, vectors[k // KEY_FRAMES * KEY_FRAMES])


def test_who_appears_or_comes_close_is_looked_at_at_once() -> None:
    one, other = walk(8, 5, 5), walk(8, 60, 5)
    both = [
        np.concatenate([a, b]) if k >= 3 else a
        for k, (a, b) in enumerate(zip(one, other, strict=True))
    ]
    assert looks(both)[1] == [1, 0, 0, 1, 0, 0, 0, 0]
    beside = [np.concatenate([a, shifted(a, 10 - k)]) for k, a in enumerate(one)]
    assert looks(beside)[1] == [2, *[0] * 3, *[2] * 4]


def test_weak_detections_are_not_looked_at_and_keep_what_is_likely() -> None:
    scores = [np.array([score]) for score in (0.9, 0.4, 0.4, 0.9)]
    vectors, crops = looks(walk(4, 5, 5), scores, least_score=0.5)
    assert crops == [1, 0, 0, 0]
    for vector in vectors:
        np.testing.assert_array_equal(vector, vectors[0])
    alone, crops = looks(walk(2, 5, 5), [np.array([0.4])] * 2, least_score=0.5)
    assert crops == [0, 0]
    assert not np.any(alone)


corner = st.tuples(st.integers(0, 90), st.integers(0, 40), st.sampled_from([0.3, 0.6, 0.9]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(corner, max_size=4), min_size=1, max_size=40))
def test_nothing_depends_on_the_size_of_the_chunks(frames: list) -> None:
    tlbr = [
        np.array([[x, y, x + 20, y + 20] for x, y, _ in one], np.float32).reshape(-1, 4)
        for one in frames
    ]
    scores = [np.array([score for *_, score in one]) for one in frames]
    results = [looks(tlbr, scores, chunk, least_score=0.5) for chunk in (8, 16, 40)]
    for vectors, crops in results[1:]:
        assert crops == results[0][1]
        for one, other in zip(vectors, results[0][0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_boxes_that_are_not_finite_reach_the_caller() -> None:
    people = walk(3, 5, 5)
    people[1] = np.full((1, 4), np.nan, np.float32)
    vectors, _ = looks(people)
    assert not vectors[1].any()
    assert np.isfinite(vectors[2]).all()


def test_chunks_must_begin_at_key_frames(tmp_path: Path) -> None:
    look = str(write_mean_embedder(tmp_path / "look.onnx"))
    weights = str(write_declaration(tmp_path))
    detection = replace(detection_for(weights, reid=look), reid_mode="needed")
    config = TrackConfig(detection=detection, tracking=TrackingConfig(high_score=0.3))
    assert config.detection.reid_score == 0.3
    with pytest.raises(RunError, match="chunk-frames: got 12, expected a multiple of 8"):
        resolve_settings(config, load_network, ResourceConfig(chunk_frames=12))
    write_video(tmp_path / "v.mp4", 20)
    runs = {}
    for chunk_frames in (8, 16):
        out = tmp_path / str(chunk_frames)
        summary = reference.track(
            str(tmp_path / "v.mp4"),
            str(out),
            config,
            resources=ResourceConfig(chunk_frames=chunk_frames),
            outputs=OutputConfig(save_detections=True, save_embeddings=True),
        )
        assert summary.crops < summary.detections
        runs[chunk_frames] = [path.read_bytes() for path in sorted(out.glob("*/*.parquet"))]
    assert runs[8] == runs[16]


def test_a_look_that_is_left_to_the_refinement_changes_no_run(tmp_path: Path) -> None:
    plain = TrackConfig(detection=DetectionConfig(reid="none"))
    offline = replace(plain.detection, reid="a.onnx", reid_sha256="f" * 64, reid_mode="offline")
    assert replace(plain, detection=offline).hash() == plain.hash()
    always = replace(offline, reid_mode="always")
    assert replace(plain, detection=always).hash() != plain.hash()
    moved = replace(always, reid="b/a.onnx")
    assert replace(plain, detection=moved).hash() == replace(plain, detection=always).hash()


def test_a_model_that_cannot_describe_boxes_says_so(tmp_path: Path) -> None:
    embedder = AppearanceEmbedder(read_embedder(write_mean_embedder(tmp_path / "look.onnx")))
    model = WithSecondLook(ColourModel(DetectionConfig(), ResourceConfig()), embedder)
    with pytest.raises(ValueError, match="ColourModel cannot describe given boxes"):
        model.embed(np.zeros((64, 128, 3), np.uint8), Letterbox(128, 64, *SIZE), np.zeros((1, 4)))


def test_its_bytes_and_its_input_are_part_of_the_configuration(tmp_path: Path) -> None:
    path = write_mean_embedder(tmp_path / "look.onnx")
    (tmp_path / "look.yaml").write_text("file: look.onnx\ncolour: bgr\n")
    plain, other = inspect_reid(str(path)), inspect_reid(str(tmp_path / "look.yaml"))
    assert plain == reid_fingerprint(str(path)) != other
    weights = str(write_declaration(tmp_path))
    assert detection_for(weights, reid=str(path)).reid_sha256 == plain
    assert detection_for(weights).reid_sha256 == ""


@pytest.mark.parametrize(("look", "dim"), [("look.onnx", 3), ("colours", 164)])
def test_a_run_keeps_both_vectors_and_python_gives_the_same(
    tmp_path: Path, look: str, dim: int
) -> None:
    write_video(tmp_path / "v.mp4", 6)
    weights = str(write_declaration(tmp_path))
    if look.endswith(".onnx"):
        look = str(write_mean_embedder(tmp_path / look))
    for name, reid in (("one", "none"), ("two", look)):
        config = TrackConfig(
            detection=detection_for(weights, reid=reid), tracking=TrackingConfig(high_score=0.3)
        )
        outputs = OutputConfig(save_detections=True)
        reference.track(str(tmp_path / "v.mp4"), str(tmp_path / name), config, outputs=outputs)
    one, two = (
        pq.read_table(next((tmp_path / name / "detections").glob("*.parquet")))
        for name in ("one", "two")
    )
    assert one.column("boxes").equals(two.column("boxes"))
    widths = [table.schema.field("embeddings").type.value_type.byte_width for table in (one, two)]
    assert widths[1] == widths[0] + 2 * dim
    live = LiveDetector(weights, reid=look, conf=0.2, threads=1)
    picture = np.full((96, 160, 3), 200, np.uint8)
    assert live.detect(picture).embeddings.shape[1] == widths[1] // 2


def test_a_shipped_network_is_taken_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = replace(declaration_file.REID, folder=tmp_path)
    monkeypatch.setattr(declaration_file, "REID", shelf)
    reid_weights.save(ReidNet(CONFIGURATIONS["reid-tiny-ide"]), tmp_path / "tiny.safetensors")
    assert read_embedder("tiny").file == tmp_path / "tiny.safetensors"
    assert inspect_reid("tiny") == inspect_reid(str(tmp_path / "tiny.safetensors"))
    assert inspect_reid("tiny+colours") != inspect_reid("tiny")
    pair = tmp_path / "pair.yaml"
    pair.write_text("detector: {file: d.onnx, layout: fastestdet}\nembedder: tiny\n")
    declared = read_declaration(pair).embedder
    assert declared is not None
    assert declared.file == tmp_path / "tiny.safetensors"
    pair.write_text("detector: {file: d.onnx, layout: fastestdet}\nembedder: tinny\n")
    with pytest.raises(ValueError, match="got tinny, expected colours, tiny, or a mapping"):
        read_declaration(pair)
    text = r"^reid: tinny is neither .* \(shipped: colours, tiny\); did you mean tiny\?$"
    with pytest.raises(ValueError, match=text):
        inspect_reid("tinny")
    monkeypatch.chdir(tmp_path)
    write_mean_embedder(tmp_path / "tiny")  # a file of that name is meant, whatever it is
    with pytest.raises(ValueError, match="reid: got tiny, expected colours, a shipped model"):
        inspect_reid("tiny")


def test_what_a_card_recommends_is_used_unless_the_user_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, removed in (("plain", "  second_look: colours\n"), ("advised", "")):
        card = (JOINT.folder / "small.md").read_text().replace("name: small", f"name: {name}")
        card = card.replace(removed, "").replace(" small.", f" {name}.")
        (tmp_path / f"{name}.md").write_text(card)
        (tmp_path / f"{name}.safetensors").symlink_to(JOINT.folder / "small.safetensors")
    shelf = replace(JOINT, folder=tmp_path)
    monkeypatch.setattr(cards, "JOINT", shelf)
    monkeypatch.setattr("jde_ray.pipelines.config.JOINT", shelf)
    recommended = detection_for("advised")
    assert (recommended.reid, recommended.reid_sha256) == ("colours", reid_fingerprint("colours"))
    assert recommended.looks_again
    for chosen in (detection_for("advised", reid="none"), detection_for("plain")):
        assert (chosen.reid, chosen.reid_sha256, chosen.looks_again) == ("none", "", False)
    by_default, other = (TrackConfig(detection=DetectionConfig(weights="advised", reid=reid))
                         for reid in ("auto", "none"))  # fmt: skip
    settled = resolve_settings(by_default, load_network, ResourceConfig())
    assert settled.detection.reid == "colours"
    assert settled.hash() != resolve_settings(other, load_network, ResourceConfig()).hash()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("runs/osnet.onnx", "osnet"),
        ("runs/osnet.onnx+colours", "osnet+colours"),
        ("reid-small", "reid-small"),
        ("a+b/look.yaml", "look"),
    ],
)
def test_a_network_with_colours_has_another_name_than_without(given: str, name: str) -> None:
    assert reid_name(given) == name


def test_a_missing_file_is_named_by_its_own_flag(tmp_path: Path) -> None:
    for look in (inspect_reid, reid_fingerprint):
        with pytest.raises(ValueError, match=r"^reid: .*nope\.onnx"):
            look(str(tmp_path / "nope.onnx"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "look.yaml"),
        ("colour: red\nfile: look.onnx", "colour: got 'red'"),
        ("a: 1", "reid.a"),
    ],
)
def test_what_is_no_network_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, message: str
) -> None:
    write_video(tmp_path / "v.mp4", 2)
    place = tmp_path / "look.yaml"
    if content is not None:
        place.write_text(content)
    arguments = ["track", str(tmp_path / "v.mp4"), "--weights", str(write_declaration(tmp_path))]
    assert cli.run([*arguments, "--reid", str(place), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not (tmp_path / "out").exists()
