"""Validation on a rendered sequence, with a network that sees the truth."""

import math
import shutil

import cv2
import numpy as np
import pytest
import torch
from two_stage import network, write

from jde_ray.models.jde.config import SMALL
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.weights import save
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.detection.finders import input_size
from jde_ray.pipelines.evaluation.detections import detection_scores
from jde_ray.pipelines.evaluation.network_scores import LEAST_SCORE
from jde_ray.pipelines.formats.mot import format_ground_truth
from jde_ray.pipelines.formats.sequence_info import SequenceInfo, format_sequence_info
from jde_ray.pipelines.training.curves import goodness, headline
from jde_ray.pipelines.training.settings import ValidationConfig
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.training.validation import NMS, Validation, _progress
from jde_ray.pipelines.video.image_folder import list_images


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("sequences")
    folder = root / "STREET-01"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    scene = StreetScene(seed=3, width=320, height=192, frames_per_second=5.0, num_frames=6)
    frames, ids, boxes = [], [], []
    for index, (image, truth) in enumerate(render(scene)):
        cv2.imwrite(str(folder / "img1" / f"{index + 1:06d}.jpg"), image[:, :, ::-1])
        frames += [index] * len(truth.track_id)
        ids += truth.track_id.tolist()
        boxes += truth.tlbr.tolist()
    rows = BoxRows(np.array(frames), np.array(ids), np.array(boxes, np.float64).reshape(-1, 4))
    (folder / "gt" / "gt.txt").write_text(format_ground_truth(rows, np.ones(len(rows))))
    info = SequenceInfo("STREET-01", 5.0, 6, 320, 192, "img1", ".jpg")
    (folder / "seqinfo.ini").write_text(format_sequence_info(info))
    return root


def config(**changes):
    settings = {"sequences": ("STREET-01",), "every_epochs": 1, "every": 2}
    return ValidationConfig(**{**settings, **changes})


def test_a_network_that_knows_nothing_finds_nobody_and_stays_as_it_was(root):
    torch.manual_seed(0)
    model = JDE(SMALL).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    lines: list[str] = []
    scores = Validation(config(), root, lines.append)(model)
    assert lines == ["validating STREET-01, 1 of 1"]
    assert list(scores) == ["STREET-01", "OVERALL"]
    assert set(scores["OVERALL"]) == {"ap", "tpr_at_far", "mota", "idf1", "id_switches"}
    assert scores["OVERALL"]["ap"] < 0.05
    assert scores["OVERALL"]["mota"] == 0.0
    assert "ap 0.0" in headline(scores)
    assert model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_shipped_network_is_far_better(root):
    from jde_ray.models.jde import weights

    scores = Validation(config(), root)(weights.load("small"))
    overall = scores["OVERALL"]
    assert overall["ap"] > 0.2
    assert overall["tpr_at_far"] > 0.3
    assert -1 < overall["mota"] <= 1


@pytest.mark.parametrize("name", ["frcnn-small", "jde-frcnn-small"])
def test_a_two_stage_network_is_scored_and_a_detector_has_no_embeddings_to_score(root, name):
    model = network(name, size=(128, 96)).train()
    scores = Validation(config(max_frames=4), root)(model)
    assert model.training
    assert list(scores) == ["STREET-01", "OVERALL"]
    measured = {"ap", "mota", "idf1", "id_switches"}
    if model.config.embedding_dim:
        measured |= {"tpr_at_far"}
    assert set(scores["STREET-01"]) == measured
    overall = scores["OVERALL"]
    assert math.isnan(overall["tpr_at_far"]) == (not model.config.embedding_dim)
    assert not any(math.isnan(overall[figure]) for figure in measured)
    assert ("tpr_at_far" in headline(scores)) == bool(model.config.embedding_dim)


def test_a_detector_reads_the_boxes_that_it_finds(root, tmp_path):
    model = network(size=(128, 96))
    write(tmp_path, size=(128, 96))
    validation = Validation(config(every=1, max_frames=2), root)
    (one,) = validation.for_boxes
    readings = validation.read(model, one, tmp_path / "frcnn-small.safetensors")
    frame = cv2.imread(str(root / "STREET-01" / "img1" / "000001.jpg"))[:, :, ::-1]
    box = Letterbox(320, 192, *input_size(model, 320, 192))
    (wanted,) = model.detect(torch.from_numpy(box.apply(frame)[None]), LEAST_SCORE, NMS, 300)
    first = readings.found.frame == 0
    np.testing.assert_allclose(readings.scores[first], wanted.scores, atol=1e-5)
    np.testing.assert_allclose(readings.found.tlbr[first], box.to_source(wanted.tlbr), atol=1e-2)
    assert len(readings.known) == 0
    assert set(readings.sizes[:, 0]) == {0, 1}


@pytest.mark.parametrize("suffix", ["png", "JPG"])
def test_pictures_of_every_kind_that_tracking_reads_are_looked_at(root, tmp_path, suffix):
    folder = tmp_path / "STREET-01"
    shutil.copytree(root / "STREET-01" / "gt", folder / "gt")
    (folder / "img1").mkdir()
    for path in sorted((root / "STREET-01" / "img1").iterdir())[:2]:
        image = cv2.imread(str(path))
        name = "9" if path.stem == "000001" else "10"  # by number, not by text
        cv2.imwrite(str(folder / "img1" / f"{name}.{suffix}"), image)
    validation = Validation(config(every=1), tmp_path)
    assert [path.stem for path in list_images(str(folder))] == ["9", "10"]
    torch.manual_seed(0)
    model = JDE(SMALL).eval()
    save(model, tmp_path / "network.safetensors")
    (one,) = validation.for_boxes
    boxes = one.boxes(validation.read(model, one, tmp_path / "network.safetensors"))
    assert sum(len(truth) for truth in boxes.truths) > 0
    assert not math.isnan(detection_scores({"STREET-01": boxes})["OVERALL"].average_precision)


def test_a_sequence_without_pictures_is_named(tmp_path):
    for name in ("img1", "gt"):
        (tmp_path / "EMPTY" / name).mkdir(parents=True)
    (tmp_path / "EMPTY" / "gt" / "gt.txt").write_text("1,1,1,1,10,20,1,1,1\n")
    with pytest.raises(ValueError, match=r"validation: .*EMPTY/img1 holds no picture"):
        Validation(config(sequences=("EMPTY",)), tmp_path)


def test_a_limit_of_frames_cuts_the_truth_too(root):
    validation = Validation(config(max_frames=2), root)
    assert validation.truths[0].people.frame.max() == 1


def test_sequences_that_are_missing_are_named(root):
    with pytest.raises(ValueError, match=r"NOWHERE lacks gt/gt.txt or img1"):
        Validation(config(sequences=("NOWHERE",)), root)


def test_the_time_left_is_that_of_the_sequences_before(monkeypatch):
    monkeypatch.setattr("time.monotonic", lambda: 110.0)
    assert _progress("B", 1, 3, 100.0) == "validating B, 2 of 3; about 20 s left"


@pytest.fixture(scope="module")
def lists(root):
    """The frames of the street as two lists of the unified layout."""
    folder = root / "STREET-01"
    (root / "A" / "images").mkdir(parents=True)
    (root / "A" / "labels_with_ids").mkdir()
    names = []
    truth = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",", ndmin=2)
    for path in list_images(str(folder)):
        shutil.copy(path, root / "A" / "images")
        rows = truth[truth[:, 0] == int(path.stem)]
        centre = (rows[:, 2:4] - 1 + rows[:, 4:6] / 2) / [320, 192]
        text = [
            f"0 {int(row[1])} {x} {y} {row[4] / 320} {row[5] / 192}\n"
            for row, (x, y) in zip(rows, centre, strict=True)
        ]
        (root / "A" / "labels_with_ids" / f"{path.stem}.txt").write_text("".join(text))
        names.append(f"A/images/{path.name}\n")
    (root / "a.val").write_text("".join(names[:2]))
    (root / "b.val").write_text("".join(names[3:5]))
    return tuple(Source(kind="list", path=name) for name in ("a.val", "b.val"))


def test_lists_are_scored_instead_of_the_sequences_frames(root, lists):
    from jde_ray.models.jde import weights

    settings = {"sequences": (), "detection": lists[:1], "embedding": lists}
    scores = Validation(config(**settings), root)(weights.load("small"))
    assert list(scores) == ["a.val", "b.val", "OVERALL"]
    assert set(scores["a.val"]) == {"ap", "tpr_at_far"}
    assert set(scores["b.val"]) == {"tpr_at_far"}
    overall = scores["OVERALL"]
    assert overall["ap"] == scores["a.val"]["ap"] > 0.2
    assert 0.3 < overall["tpr_at_far"] <= 1  # over both lists together
    assert math.isnan(overall["id_switches"])
    assert "mota" not in headline(scores)


def test_a_list_that_is_missing_or_named_twice_is_refused(root, lists):
    gone = Source(kind="list", path="nowhere.val")
    with pytest.raises(ValueError, match=r"nowhere\.val"):
        Validation(config(sequences=(), detection=(gone,)), root)
    twice = (lists[0], Source(kind="list", path=lists[0].path, every=2))
    with pytest.raises(ValueError, match=r"lists: two are named a\.val"):
        Validation(config(sequences=(), embedding=twice), root)


def test_fewer_switches_are_better():
    assert goodness("id_switches", 3) > goodness("id_switches", 4)
    assert goodness("ap", 0.4) > goodness("ap", 0.3)
    scores = {"OVERALL": {"ap": 0.5, "mota": float("nan"), "id_switches": 7}}
    assert headline(scores) == "ap 50.0  id_switches 7"
