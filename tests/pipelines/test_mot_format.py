import os
from pathlib import Path

import numpy as np
import pytest

from models.metrics.hota import hota_counts
from models.metrics.rows import BoxRows
from models.metrics.tracking import score_sequence, summarize, without_distractors
from models.structures import Tracks
from pipelines.mot_format import (
    format_ground_truth,
    format_results,
    format_sequence_info,
    read_ground_truth,
    read_scored,
    read_sequence_info,
    rows_of_frames,
)

DATA = Path(os.environ.get("JDE_TEST_DATA", Path(__file__).parents[2] / "../shared/data"))
MOT17 = DATA / "text_gt_det" / "MOT17"


def write(tmp_path, text):
    path = tmp_path / "some.txt"
    path.write_text(text)
    return path


def test_mot17_truth_is_told_apart_by_flag_and_class(tmp_path):
    text = "1,1,11,21,5,9,1,1,0.5\n2,1,12,21,5,9,0,1,1\n1,2,1,1,5,9,0,8,1\n1,3,1,1,5,9,0,3,1\n"
    truth = read_ground_truth(write(tmp_path, text))
    assert truth.people.frame.tolist() == [0]
    assert truth.people.tlbr.tolist() == [[10, 20, 15, 29]]
    assert truth.visibility.tolist() == [0.5]
    assert truth.ignore.track_id.tolist() == [2]
    assert sorted(truth.other.track_id.tolist()) == [1, 3]


def test_mot15_truth_has_flags_only(tmp_path):
    text = "1,1,1,1,5,9,1,-1,-1,-1\n1,6,1,1,5,9,0,-1,-1,-1\n"
    truth = read_ground_truth(write(tmp_path, text))
    assert truth.people.track_id.tolist() == [1]
    assert len(truth.ignore) == len(truth.other) == 0


def test_detections_keep_ids_of_minus_one_and_float_ids_are_read(tmp_path):
    scored = read_scored(
        write(tmp_path, "3,-1,1,1,5,9,24.5,-1,-1,-1\n\n3,2.0,1,1,5,9,1,-1,-1,-1\n")
    )
    assert scored.rows.track_id.tolist() == [-1, 2]
    assert scored.rows.frame.tolist() == [2, 2]
    assert scored.scores.tolist() == [24.5, 1]


def test_an_empty_file_has_no_rows(tmp_path):
    assert len(read_ground_truth(write(tmp_path, "")).people) == 0
    assert len(read_scored(write(tmp_path, "\n")).rows) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,1,1,5,9,1\n1,x,1,1,5,9,1\n", "some.txt:2: got '1,x,1,1,5,9,1', accepted are numbers"),
        ("1,1,1,1,5\n", "some.txt:1: got 5 columns, accepted are at least 7"),
        ("1,1,1,1,5,9,1\n1,1,1,1,5,9,1,1\n", "some.txt:2: got 8 columns, lines before have 7"),
        ("0,1,1,1,5,9,1\n", "some.txt:1: .* frames from 1"),
        ("1,1,nan,1,5,9,1\n", "some.txt:1: .* finite numbers"),
    ],
)
def test_a_bad_line_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_scored(write(tmp_path, text))


def test_results_are_written_and_read_back_and_agree_with_to_mot(tmp_path):
    tlbr = np.array([[0, 0, 10, 20], [5.25, 6.5, 50, 60.75]])
    ids, scores = np.array([2, 1]), np.array([0.5, 0.25], np.float32)
    rows = rows_of_frames([(4, ids, tlbr)])
    text = format_results(rows, scores)
    read = read_scored(write(tmp_path, text))
    assert read.rows.tlbr.tolist() == tlbr[::-1].tolist()
    assert read.rows.frame.tolist() == [4, 4]
    assert read.scores.tolist() == [0.25, 0.5]
    tracks = Tracks(ids, tlbr, scores, np.arange(2))
    assert sorted(text.splitlines()) == sorted(tracks.to_mot(4))
    assert format_results(BoxRows.empty(), np.zeros(0)) == ""


def test_truth_is_written_and_read_back(tmp_path):
    rows = rows_of_frames([(0, [3], np.array([[1, 2, 11, 22.5]]))])
    truth = read_ground_truth(write(tmp_path, format_ground_truth(rows, np.array([0.125]))))
    assert truth.people.tlbr.tolist() == rows.tlbr.tolist()
    assert truth.visibility.tolist() == [0.125]


def test_sequence_info(tmp_path):
    path = tmp_path / "seqinfo.ini"
    path.write_text(
        "[Sequence]\nname=A\nimDir=img1\nframeRate=25\nseqLength=7\nimWidth=64\nimHeight=48\n"
    )
    info = read_sequence_info(path)
    assert (info.name, info.frames_per_second, info.num_frames) == ("A", 25.0, 7)
    assert (info.width, info.height, info.image_suffix) == (64, 48, ".jpg")
    path.write_text(format_sequence_info(info))
    assert read_sequence_info(path) == info
    path.write_text("[Sequence]\nname=A\n")
    with pytest.raises(ValueError, match=r"seqinfo.ini: not a readable seqinfo.ini: 'frameRate'"):
        read_sequence_info(path)


def _reference_tables():
    """`{measure: {sequence: value}}` of the official scores beside the data."""
    tables = {}
    names = []
    for line in (MOT17 / "TRACKEVAL_REFERENCE.txt").read_text().splitlines():
        cells = line.split()
        if len(cells) > 2 and cells[0].endswith(":"):
            names = cells[2:]
        elif cells and cells[0].startswith("MOT17-"):
            for name, cell in zip(names, cells[1:], strict=True):
                tables.setdefault(name, {})[cells[0].removesuffix("-FRCNN")] = cell
    return tables


@pytest.mark.data
@pytest.mark.skipif(not MOT17.is_dir(), reason=f"no MOT17 text under JDE_TEST_DATA ({DATA})")
def test_scores_equal_the_official_ones_to_the_printed_digits():
    reference = _reference_tables()
    accumulators, hota = {}, {}
    for name in ("MOT17-02", "MOT17-05", "MOT17-11"):
        truth = read_ground_truth(MOT17 / name / "gt" / "gt.txt")
        rows = read_scored(MOT17 / name / "reference_results" / "MPNTrack_FRCNN.txt").rows
        tracks = without_distractors(truth.people, rows, truth.ignore, truth.other)
        accumulators[name] = score_sequence(truth.people, rows, truth.ignore, truth.other)
        hota[name] = hota_counts(truth.people, tracks)
    scores = summarize(accumulators)
    for name, counts in hota.items():
        score = scores[name]
        measured = {
            "MOTA": score.mota,
            "IDF1": score.idf1,
            "IDP": score.idp,
            "IDR": score.idr,
            "HOTA": counts.hota,
            "DetA": counts.detection_accuracy,
            "AssA": counts.association_accuracy,
            "LocA": counts.localisation_accuracy,
        }
        for measure, value in measured.items():
            assert f"{100 * value:.5g}" == reference[measure][name], (name, measure)
        assert str(score.num_switches) == reference["IDSW"][name]
        assert str(score.num_false_positives) == reference["CLR_FP"][name]
        assert str(score.num_misses) == reference["CLR_FN"][name]
