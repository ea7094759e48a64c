import numpy as np
import pytest

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.structures import Tracks
from jde_ray.pipelines.formats.mot import (
    format_ground_truth,
    format_results,
    read_ground_truth,
    read_results,
    read_scored,
    rows_of_frames,
)


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


def test_a_visibility_of_minus_one_hides_nobody(tmp_path):
    """Tools write -1 for what nobody has judged; all people counted as hidden, without a word."""
    path = write(tmp_path, "1,7,10,20,30,40,1,1,-1\n1,8,50,20,30,40,1,1,0.25\n")
    assert read_ground_truth(path).visibility.tolist() == [1.0, 0.25]


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
        ("1,1,1,1,5,9,1\n1,x,1,1,5,9,1\n", "some.txt:2: got '1,x,1,1,5,9,1', expected numbers"),
        ("1,1,1,1,5\n", "some.txt:1: got 5 columns, expected at least 7"),
        ("1,1,1,1,5,9,1\n1,1,1,1,5,9,1,1\n", "some.txt:2: got 8 columns, lines before have 7"),
        ("0,1,1,1,5,9,1\n", "some.txt:1: .* frames from 1"),
        ("1,1,nan,1,5,9,1\n", "some.txt:1: .* finite numbers"),
        ("\n1e300,1,1,1,5,9,1\n", r"some.txt:2: got frame 1.*e\+300, expected 1 to 100000000"),
        ("100000001,1,1,1,5,9,1\n", "some.txt:1: got frame 100000001, expected 1 to 100000000"),
        (
            "1,18446744073709551616,1,1,5,9,1\n",
            "some.txt:1: got id 1.84467440737096e.19, expected up",
        ),
        ("1,1,1,1,1e308,9,1\n", r"some.txt:1: got '1,1,1,1,1e308,9,1', .* below 1e\+09 pixels"),
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1,1,1,5,9,1,1,0.5\n", "some.txt:1: got 9 columns, expected 7 or 10"),
        ("1,1,1,1,5,9,1,-1,-1,-1\n1,2,1,1,5,9,1\n", "some.txt:2: got 7 columns, lines before"),
        ("0,1,1,1,5,9,1\n", "some.txt:1: .* frames from 1"),
        ("1.5,1,1,1,5,9,1\n", "some.txt:1: .* frames from 1"),
        ("1,1,1,nan,5,9,1\n", "some.txt:1: .* finite numbers"),
        ("\n1,-1,1,1,5,9,1\n", "some.txt:2: got id -1, expected whole numbers from 0"),
        ("1,1.5,1,1,5,9,1\n", "some.txt:1: got id 1.5"),
        ("1,4,1,1,5,9,1\n2,4,1,1,5,9,1\n\n1,4,9,9,5,9,1\n", "some.txt:4: got id 4 twice in f.* 1"),
        ("1,a,1,1,5,9,1\n", "some.txt:1: .* expected numbers"),
    ],
)
def test_results_that_no_server_would_take_are_refused_with_their_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message) as caught:
        read_results(write(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_results_may_be_separated_by_spaces_and_out_of_order(tmp_path):
    read = read_results(write(tmp_path, "2 7.0 1 1 5 9 0.5 -1 -1 -1\n1 7.0 1 1 5 9 1 -1 -1 -1\n"))
    assert read.rows.frame.tolist() == [1, 0]
    assert read.rows.track_id.tolist() == [7, 7]


def test_truth_that_says_an_id_twice_is_refused(tmp_path):
    text = "1,1,1,1,5,9,1,1,1\n1,1,2,2,5,9,1,1,1\n"
    with pytest.raises(ValueError, match=r"some.txt:2: got id 1 twice in frame 1"):
        read_ground_truth(write(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,1.2,1,1,5,9,1,1,1\n2,1.7,1,1,5,9,1,1,1\n", "some.txt:1: got id 1.2, expected whole"),
        ("1,1,1,1,5,9,1,1,1\n1,1.5,1,1,5,9,1,1,1\n", "some.txt:2: got id 1.5, expected whole"),
        ("1,9007199254740993,1,1,5,9,1,1,1\n", "some.txt:1: got id 9.007.*up to 9007199254740991"),
        ("1,9223372036854775808,1,1,5,9,1,1,1\n", "some.txt:1: got id 9.2233720368547"),
    ],
)
def test_truth_whose_ids_are_no_whole_numbers_is_refused_with_its_line(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_ground_truth(write(tmp_path, text))


def test_ids_may_be_written_with_a_point_and_the_text_may_begin_with_a_mark(tmp_path):
    path = write(tmp_path, "")
    path.write_text("1,3.0,1,1,5,9,1,1,1\n", encoding="utf-8-sig")
    assert read_ground_truth(path).people.track_id.tolist() == [3]
    assert read_scored(path).rows.frame.tolist() == [0]


def test_the_rules_of_mot15_and_mot20_differ(tmp_path):
    text = "1,1,1,1,5,9,1,1,1\n1,2,1,1,5,9,0,6,1\n1,3,1,1,5,9,0,1,1\n1,4,1,1,5,9,0,8,1\n"
    path = write(tmp_path, text)
    for benchmark, ignored, other in (("auto", [4], [3, 2]), ("MOT20", [2, 4], [3])):
        truth = read_ground_truth(path, benchmark)
        assert truth.people.track_id.tolist() == [1]
        assert truth.ignore.track_id.tolist() == ignored
        assert sorted(truth.other.track_id.tolist()) == sorted(other)
    mot15 = read_ground_truth(path, "MOT15")
    assert len(mot15.ignore) == len(mot15.other) == 0
    folder = tmp_path / "MOT20-01" / "gt"
    folder.mkdir(parents=True)
    (folder / "gt.txt").write_text(text)
    assert read_ground_truth(folder / "gt.txt").ignore.track_id.tolist() == [2, 4]
