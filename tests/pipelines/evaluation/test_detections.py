from pathlib import Path

import numpy as np
import pytest

from jde_ray.models.structures import Detections
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.evaluation.detections import class_tables, collect_boxes, detection_scores
from jde_ray.pipelines.evaluation.embeddings import collect_embeddings, embedding_scores
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.formats.detection_rows import read_detections
from jde_ray.pipelines.formats.detections import SavedFrame
from jde_ray.pipelines.output.result_files import RowWriter
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video

PEOPLE = {1: (0, 0, 10, 20), 2: (100, 0, 110, 20)}


def save(folder, frames, name="SEQ", facts=None):
    """A file of detections/ as a run writes it, of frames of (boxes, scores, embeddings)."""
    video = Video("/videos/a.mp4", name)
    writer = RowWriter(folder / "rows", video, 4, OutputConfig(save_detections=True))
    for index, (boxes, scores, embeddings) in enumerate(frames):
        found = Detections(
            np.array(boxes, np.float32).reshape(-1, 4),
            np.array(scores, np.float32),
            np.array(embeddings, np.float32).reshape(-1, 4),
        )
        writer.write_detections(SavedFrame(index, index / 10, found))
    writer.commit(open_store(str(folder)), facts or {})
    return folder / "detections" / f"{video.video_id}.parquet"


@pytest.fixture
def pairing(tmp_path):
    one, two = np.eye(4)[:2]
    boxes = [PEOPLE[1], PEOPLE[2], (300, 0, 310, 20)]
    frames = [(boxes, [0.9, 0.8, 0.7], [one, two, one]), ([], [], []), ([PEOPLE[2]], [0.6], [two])]
    truth = tmp_path / "gt.txt"
    lines = [(frame, person) for frame in (1, 2, 3) for person in PEOPLE]
    text = "".join(
        f"{frame},{p},{PEOPLE[p][0] + 1},{PEOPLE[p][1] + 1},10,20,1,1,1\n" for frame, p in lines
    )
    truth.write_text(text)
    return Pairing("SEQ", save(tmp_path, frames), truth)


def test_saved_detections_come_back(pairing):
    found = read_detections(pairing.predictions)
    assert found.rows.frame.tolist() == [0, 0, 0, 2]
    assert found.rows.tlbr[3].tolist() == list(PEOPLE[2])
    assert found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7, 0.6])
    assert found.embeddings.tolist() == np.eye(4)[[0, 1, 0, 1]].tolist()


def test_average_precision_over_the_frames(pairing):
    scores = detection_scores({"SEQ": collect_boxes(pairing)})
    assert scores["SEQ"].num_truth == 6
    assert scores["SEQ"].num_detections == 4
    assert scores["OVERALL"].average_precision == pytest.approx((2 + 3 / 4) / 6)
    assert scores["OVERALL"].num_published_images == 2
    assert scores["OVERALL"].published_mean == pytest.approx((1 + 0.5) / 2)


def test_detections_on_distractors_are_left_out(pairing):
    with pairing.truth.open("a") as file:
        file.write("1,9,301,1,10,20,0,8,1\n")
    scores = detection_scores({"SEQ": collect_boxes(pairing)})
    assert scores["SEQ"].num_detections == 3
    assert scores["SEQ"].precision == 1


def test_public_detections_have_an_average_precision_and_no_embeddings(pairing, tmp_path):
    text = tmp_path / "det.txt"
    text.write_text("1,-1,1,1,10,20,24.5,-1,-1,-1\n1,-1,101,1,10,20,3,-1,-1,-1\n")
    public = Pairing("SEQ", text, pairing.truth)
    assert detection_scores({"SEQ": collect_boxes(public)})["SEQ"].recall == pytest.approx(2 / 6)
    with pytest.raises(ValueError, match=r"det.txt: no embeddings"):
        collect_embeddings(public)


def test_people_take_the_embeddings_of_what_found_them(pairing):
    known = collect_embeddings(pairing)
    assert known.identities.tolist() == [1, 2, 2]
    assert known.embeddings.tolist() == np.eye(4)[[0, 1, 1]].tolist()
    scores = embedding_scores({"SEQ": known})
    assert scores["SEQ"].num_positive_pairs == 1
    assert scores["OVERALL"].true_positive_rates.tolist() == [1.0] * 6


def test_ids_of_two_sequences_are_different_people(pairing):
    known = collect_embeddings(pairing)
    scores = embedding_scores({"A": known, "B": known})
    assert (scores["A"].num_identities, scores["OVERALL"].num_identities) == (2, 4)
    assert scores["OVERALL"].num_positive_pairs == 2
    assert scores["OVERALL"].true_positive_rates[-1] < 1  # the same vectors, another person


def test_nothing_found_has_no_rates(pairing, tmp_path):
    empty = Pairing("E", save(tmp_path / "e", [([], [], [])], "E"), pairing.truth)
    assert len(collect_embeddings(empty).identities) == 0
    assert np.isnan(embedding_scores({"E": collect_embeddings(empty)})["OVERALL"].at(0.1))
    assert detection_scores({"E": collect_boxes(empty)})["E"].recall == 0
    both = embedding_scores({"E": collect_embeddings(empty), "SEQ": collect_embeddings(pairing)})
    assert both["OVERALL"].num_embeddings == 3


def test_other_files_and_missing_truth_are_refused(pairing, tmp_path):
    other = tmp_path / "x.parquet"
    other.write_text("no")
    with pytest.raises(ValueError, match=r"not a file of detections/"):
        read_detections(other)
    with pytest.raises(ValueError, match=r"gt: no ground truth of S"):
        collect_boxes(Pairing("S", Path("a"), None))


def tables_of(**pairings):
    boxes = {name: collect_boxes(one) for name, one in pairings.items()}
    return {table.key: table for table in class_tables(boxes)}


def test_who_is_found_goes_by_height_if_the_size_of_the_frames_is_known(pairing, tmp_path):
    assert list(tables_of(SEQ=pairing)) == ["by_overlap"]  # everyone is visible by 1
    boxes = [([PEOPLE[1]], [0.9], np.eye(4)[:1])]
    facts = {"width": "288", "height": "160"}  # half of 576x320: people are 40 px high there
    small = Pairing("SMALL", save(tmp_path / "s", boxes, "SMALL", facts), pairing.truth)
    table = tables_of(SEQ=pairing, SMALL=small)["by_height"]
    assert list(table.figures) == ["SMALL", "OVERALL"]
    assert table.note.endswith("Left out, without a known size of the frames: SEQ.")
    lines = table.figures["SMALL"]
    assert (lines["30 to 45"]["boxes"], lines["< 30"]["boxes"]) == (6, 0)
    assert lines["30 to 45"]["AP"] == pytest.approx(100 / 6)


def test_public_detections_take_the_size_of_their_sequence(pairing, tmp_path):
    folder = tmp_path / "NAME"
    (folder / "gt").mkdir(parents=True)
    (folder / "gt" / "gt.txt").write_text(pairing.truth.read_text())
    text = folder / "det.txt"
    text.write_text("1,-1,1,1,10,20,24.5,-1,-1,-1\n")
    public = Pairing("NAME", text, folder / "gt" / "gt.txt")
    assert "by_height" not in tables_of(NAME=public)
    (folder / "seqinfo.ini").write_text(
        "[Sequence]\nname=NAME\nframeRate=10\nseqLength=3\nimWidth=192\nimHeight=100\n"
    )
    assert tables_of(NAME=public)["by_height"].figures["OVERALL"]["45 to 70"]["boxes"] == 6


def test_sequences_without_visible_shares_are_left_out_of_their_table(pairing, tmp_path):
    hidden = tmp_path / "hidden.txt"
    hidden.write_text(pairing.truth.read_text().replace("10,20,1,1,1", "10,20,1,1,.3"))
    half = Pairing("HALF", pairing.predictions, hidden)
    table = tables_of(SEQ=pairing, HALF=half)["by_visible_share"]
    assert list(table.figures) == ["HALF", "OVERALL"]
    assert table.figures["OVERALL"][".25 to .5"]["boxes"] == 6
    assert table.note.endswith("Left out, without a known visible share: SEQ.")
