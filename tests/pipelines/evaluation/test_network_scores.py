import json

import cv2
import numpy as np
import pytest

from jde_ray.jobs.cli import run
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.pipelines.evaluation.detections import detection_scores
from jde_ray.pipelines.evaluation.frame_sources import find_frames
from jde_ray.pipelines.evaluation.network_scores import (
    PUBLISHED_SCORE,
    network_config,
    sequence_frames,
)
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.tracking.network_readings import read_here

SCENE = StreetScene(seed=3, width=640, height=360, frames_per_second=2.0, num_frames=4)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory):
    """A rendered street as a MOTChallenge sequence."""
    folder = tmp_path_factory.mktemp("mot") / "STREET"
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    lines = []
    for frame, (image, truth) in enumerate(render(SCENE), start=1):
        cv2.imwrite(str(folder / "img1" / f"{frame:06}.jpg"), image[:, :, ::-1])
        for i, (x1, y1, x2, y2) in zip(truth.track_id, truth.tlbr, strict=True):
            box = f"{x1 + 1:.1f},{y1 + 1:.1f},{x2 - x1:.1f},{y2 - y1:.1f}"
            lines.append(f"{frame},{i},{box},1,1,1\n")
    (folder / "gt" / "gt.txt").write_text("".join(lines))
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=STREET\nimDir=img1\nframeRate=2\nseqLength=4\nimWidth=640\n"
        "imHeight=360\nimExt=.jpg\n"
    )
    return folder


def sample_embeddings(pairing, weights="small", every=1):
    one = sequence_frames(pairing, every=every)
    readings = read_here([one.wanting("embeddings")], network_config(weights, every=every))
    return one.embeddings(readings[one.name])


def test_people_are_read_where_the_truth_says_they_are(sequence):
    frames = find_frames(sequence.parent)
    assert list(frames) == ["STREET"]
    known = sample_embeddings(Pairing("STREET", frames["STREET"], sequence / "gt" / "gt.txt"))
    assert known.embeddings.shape == (len(known.identities), 128)
    assert len(known.identities) > 5
    assert np.linalg.norm(known.embeddings.astype(np.float32), axis=1) == pytest.approx(1, abs=1e-2)
    fewer = sample_embeddings(Pairing("STREET", sequence, sequence / "gt" / "gt.txt"), every=2)
    assert 0 < len(fewer.identities) < len(known.identities)


def test_a_network_is_scored_as_a_detector_in_one_step(sequence):
    """As published: what a run saves from .3 on, but with the protocol's own overlap."""
    pairing = Pairing("STREET", sequence, sequence / "gt" / "gt.txt")
    one = sequence_frames(pairing, every=2)
    readings = read_here([one.wanting("boxes")], network_config(every=2))["STREET"]
    found = one.boxes(readings, PUBLISHED_SCORE)
    assert len(found.boxes) == 2
    assert all((scores > PUBLISHED_SCORE).all() for scores in found.scores)
    assert detection_scores({"STREET": found})["OVERALL"].average_precision > 0.5
    assert sum(map(len, found.truths)) > len(found.truths[0]) > 0
    assert len(readings.vectors) == 0  # nobody asked for them
    low = one.boxes(readings)
    assert sum(map(len, low.scores)) > sum(map(len, found.scores))


def test_the_command_scores_a_network_as_a_detector(sequence, capsys):
    arguments = ["--gt", str(sequence.parent), "--detections", "--weights", "small", "--every", "4"]
    assert run(["eval", str(sequence.parent), *arguments]) == 0
    output = capsys.readouterr().out
    assert "AP of images" in output
    assert "STREET" in output
    assert "By height" in output  # of frames whose size the decoder tells
    assert run(["eval", str(sequence.parent), *arguments, "--weights", "nowhere"]) == 2
    assert "weights: nowhere is neither a file" in capsys.readouterr().err


def test_what_cannot_be_read_is_one_line(sequence, tmp_path):
    truth = sequence / "gt" / "gt.txt"
    with pytest.raises(ValueError, match="weights: nowhere is neither a file nor a shipped"):
        sample_embeddings(Pairing("STREET", sequence, truth), weights="nowhere")
    with pytest.raises(ValueError, match="gt: no ground truth of STREET"):
        sample_embeddings(Pairing("STREET", sequence, None))
    broken = tmp_path / "STREET"
    (broken / "img1").mkdir(parents=True)
    (broken / "seqinfo.ini").write_text((sequence / "seqinfo.ini").read_text())
    good = (sequence / "img1" / "000001.jpg").read_bytes()
    (broken / "img1" / "000001.jpg").write_bytes(good)
    (broken / "img1" / "000002.jpg").write_bytes(good[: len(good) // 2])
    with pytest.raises(ValueError, match="STREET: truncated"):
        sample_embeddings(Pairing("STREET", broken, truth))


@pytest.fixture(scope="module")
def lists(sequence, tmp_path_factory):
    """The street's frames as two lists of the unified layout, with a picture without people."""
    root = tmp_path_factory.mktemp("lists")
    (root / "images").mkdir()
    (root / "labels_with_ids").mkdir()
    names = []
    for frame, (_, truth) in enumerate(render(SCENE), start=1):
        picture = (sequence / "img1" / f"{frame:06}.jpg").read_bytes()
        (root / "images" / f"{frame}.jpg").write_bytes(picture)
        centre, size = (
            (truth.tlbr[:, :2] + truth.tlbr[:, 2:]) / 2,
            truth.tlbr[:, 2:] - truth.tlbr[:, :2],
        )
        rows = np.concatenate([centre, size], 1) / [640, 360, 640, 360]
        text = [
            f"0 {i} {' '.join(map(str, row))}\n"
            for i, row in zip(truth.track_id, rows.tolist(), strict=True)
        ]
        (root / "labels_with_ids" / f"{frame}.txt").write_text("".join(text))
        names.append(f"images/{frame}.jpg\n")
    cv2.imwrite(str(root / "images" / "empty.jpg"), np.full((90, 160, 3), 127, np.uint8))
    (root / "labels_with_ids" / "empty.txt").write_text("")
    (root / "a.val").write_text("".join([*names[:2], "images/empty.jpg\n"]))
    (root / "b.val").write_text("".join(names[2:]))
    return root


def test_lists_are_scored_together(lists, tmp_path, capsys):
    common = ["--labels", "unified", "--weights", "small", "--json", str(tmp_path / "scores.json")]
    names = [str(lists / "a.val"), str(lists / "b.val")]
    assert run(["eval", *names, *common, "--embeddings"]) == 0
    capsys.readouterr()
    scores = json.loads((tmp_path / "scores.json").read_text())
    people = {name: own["people"] for name, own in scores["sequences"].items()}
    assert list(people) == ["a.val", "b.val"]
    # the same numbers in two lists are different people
    assert scores["overall"]["people"] == sum(people.values())
    assert scores["overall"]["TPR@1e-1"] > 50
    assert run(["eval", names[0], *common, "--detections"]) == 0
    assert "AP from .05" in capsys.readouterr().out
    figures = json.loads((tmp_path / "scores.json").read_text())["overall"]
    assert figures["AP from .05"] >= figures["AP"] > 50
    assert figures["images"] == 2  # the published mean has no picture without people


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "small", "--detections"], "gt: got neither --gt nor --labels"),
        (["--gt", "x", "--labels", "unified", "--weights", "small"], "got --gt and --labels"),
        (["--labels", "unified", "--detections"], "labels: got unified without --weights"),
        (["--labels", "voc", "--weights", "small", "--detections"], "labels: got voc, expected"),
        (
            ["--labels", "unified", "--weights", "small", "--detections", "--skip-missing"],
            "skip-missing: got True with --labels, expected it with --gt",
        ),
        (["--gt", "x", "--data", "y", "--detections"], "data: got y, expected it with --labels"),
    ],
)
def test_labels_that_do_not_fit_are_refused(lists, arguments, message, capsys):
    assert run(["eval", str(lists / "a.val"), *arguments]) == 2
    assert message in capsys.readouterr().err
