"""`--reid`: both vectors of every detection, in runs and in Python."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import ColourModel
from made_videos import write_video
from onnx_models import write_declaration, write_mean_embedder

from jde_ray import Detector as LiveDetector
from jde_ray.jobs import cli
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.sde.declaration import read_embedder
from jde_ray.models.sde.network import AppearanceEmbedder
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.pipelines.config import (
    DetectionConfig,
    OutputConfig,
    ResourceConfig,
    TrackConfig,
)
from jde_ray.pipelines.detection.networks import SeparateModel, load_network
from jde_ray.pipelines.detection.second_look import WithSecondLook, joined
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.detection.weights import inspect_reid, reid_fingerprint
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
    own = SeparateModel(config, ResourceConfig()).embed(frame, box, tlbr)
    both = model.embed(frame, box, tlbr)
    np.testing.assert_allclose(both[:, : own.shape[1]], 0.6 * own, atol=1e-6)
    red, blue = both[:, own.shape[1] :]
    assert red[0] == red.max() > blue[0]
    assert blue[2] == blue.max() > red[2]
    (found,) = model.detect(frame[None], [box])
    plain = SeparateModel(config, ResourceConfig()).detect(frame[None], [box])[0]
    np.testing.assert_array_equal(found.tlbr, plain.tlbr)
    assert found.embeddings.shape == (len(plain.scores), plain.embeddings.shape[1] + 3)


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


def test_a_run_keeps_both_vectors_and_python_gives_the_same(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", 6)
    weights = str(write_declaration(tmp_path))
    look = str(write_mean_embedder(tmp_path / "look.onnx"))
    for name, reid in (("one", ""), ("two", look)):
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
    assert widths[1] == widths[0] + 2 * 3
    live = LiveDetector(weights, reid=look, conf=0.2, threads=1)
    picture = np.full((96, 160, 3), 200, np.uint8)
    assert live.detect(picture).embeddings.shape[1] == widths[1] // 2


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
