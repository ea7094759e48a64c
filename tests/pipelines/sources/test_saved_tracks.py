import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.pipelines.evaluation.ground_truth import TruthRules, find_truths, read_truth
from jde_ray.pipelines.evaluation.pairing import pair
from jde_ray.pipelines.formats.tracks import read_scored_tracks, read_tracks
from jde_ray.pipelines.names import sequence_name
from jde_ray.pipelines.sources.saved_tracks import by_all_names, find_tracks

COLUMNS = ("frame", "track_id", "x1", "y1", "x2", "y2")


def write_tracks(path, rows, columns=COLUMNS):
    table = np.array(rows, np.float64).reshape(-1, len(columns))
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(zip(columns, table.T, strict=True))), path)
    return path


def touch(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_the_id_loses_its_hash_only():
    assert sequence_name("MOT16-11-0123abcd0123abcd") == "MOT16-11"
    assert sequence_name("MOT16-11-0123abcd") == "MOT16-11"  # of an older version
    assert sequence_name("MOT16-11") == "MOT16-11"
    assert sequence_name("street-12345678x") == "street-12345678x"


def test_tracks_are_found_wherever_people_keep_them(tmp_path):
    run = touch(tmp_path / "out" / "tracks" / "A-0123abcd.parquet")
    touch(tmp_path / "out" / "mot" / "A-0123abcd.txt")
    assert find_tracks(tmp_path / "out") == {"A": run}
    assert find_tracks(tmp_path / "out" / "tracks") == {"A": run}
    assert find_tracks(run) == {"A": run}
    text = touch(tmp_path / "sort" / "data" / "MOT17-02-FRCNN.txt")
    for place in (text, text.parent, text.parent.parent):
        assert find_tracks(place) == {"MOT17-02-FRCNN": text}


def test_places_without_tracks_and_two_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"tracks: no Parquet file and no MOT text file in"):
        find_tracks(tmp_path)
    with pytest.raises(ValueError, match=r"expected \.parquet and \.txt"):
        find_tracks(touch(tmp_path / "a.csv"))
    with pytest.raises(ValueError, match=r"tracks: \S+nix.txt does not exist"):
        find_tracks(tmp_path / "nix.txt")
    files = [touch(tmp_path / "t" / f"a-0000000{number}.parquet") for number in "12"]
    tracks = find_tracks(tmp_path / "t")
    assert list(tracks.values()) == files
    touch(tmp_path / "gt" / "a.gt.txt")
    with pytest.raises(ValueError, match=r"a-00000001.parquet and \S+a-00000002.parquet are both"):
        pair(tracks, tmp_path / "gt")
    touch(tmp_path / "data" / "a" / "det" / "det.txt")
    touch(tmp_path / "data" / "b" / "a" / "det" / "det.txt")
    with pytest.raises(ValueError, match=r"are both of a$"):
        find_tracks(tmp_path / "data", "detections")


@pytest.mark.parametrize("suffix", ["", "-0123abcd", "-0123456789abcdef"])
@pytest.mark.parametrize("days", [("cam-20230101",), ("cam-20230101", "cam-20230102")])
def test_a_date_in_a_name_is_no_hash(tmp_path, days, suffix):
    truths = [touch(tmp_path / "gt" / day / "gt" / "gt.txt") for day in days]
    for day in days:
        touch(tmp_path / "t" / f"{day}{suffix}.txt")
    pairings, unscored = pair(find_tracks(tmp_path / "t"), tmp_path / "gt")
    assert [(p.name, p.truth) for p in pairings] == list(zip(days, truths, strict=True))
    assert not unscored


def test_truth_in_parquet_goes_by_all_of_its_name_or_without_the_hash(tmp_path):
    dated = touch(tmp_path / "gt" / "cam-20230101.parquet")
    ours = touch(tmp_path / "gt" / "pool-0123456789abcdef.parquet")
    street = touch(tmp_path / "gt" / "Straße (1)" / "gt" / "gt.txt")
    for name in ("cam-20230101.txt", "pool-0123abcd.parquet", "Straße-1-0123456789abcdef.txt"):
        touch(tmp_path / name / "tracks" / name)
    found = {
        name: pair(find_tracks(tmp_path / name), tmp_path / "gt")[0][0].truth
        for name in ("cam-20230101.txt", "pool-0123abcd.parquet", "Straße-1-0123456789abcdef.txt")
    }
    assert list(found.values()) == [dated, ours, street]


def test_truth_is_found_by_name(tmp_path):
    mot = touch(tmp_path / "MOT16" / "train" / "MOT16-02" / "gt" / "gt.txt")
    park = touch(tmp_path / "videos" / "park.gt.txt")
    ours = touch(tmp_path / "ours" / "pool-0123abcd.parquet")
    touch(tmp_path / "MOT16" / "train" / "MOT16-02" / "img1" / "gt" / "gt.txt")
    assert find_truths(tmp_path) == {
        "MOT16-02": [mot],
        "park": [park],
        "pool-0123abcd": [ours],
    }
    assert by_all_names(find_truths(tmp_path))["pool"] == [ours]
    assert list(find_truths(mot.parents[1])) == ["MOT16-02"]  # the folder of the sequence itself


def test_pairs_and_what_is_left(tmp_path):
    gt = tmp_path / "gt"
    a, b = touch(gt / "A" / "gt" / "gt.txt"), touch(gt / "B" / "gt" / "gt.txt")
    tracks = {"A": tmp_path / "A.txt", "C": tmp_path / "C.txt"}
    pairings, unscored = pair(tracks, gt)
    assert [(p.name, p.truth) for p in pairings] == [("A", a), ("C", None)]
    assert unscored == ["B"]
    only, _ = pair({"C": tracks["C"]}, b)
    assert only[0].truth == b
    with pytest.raises(ValueError, match=r"is one sequence, beside tracks of 2"):
        pair(tracks, b)
    with pytest.raises(ValueError, match=r"is neither a folder nor a file"):
        pair(tracks, tmp_path / "nowhere")
    touch(gt / "other" / "A" / "gt" / "gt.txt")
    with pytest.raises(ValueError, match=r"are both of A"):
        pair(tracks, gt)


def test_truth_in_our_schema_and_hidden_people(tmp_path):
    rows = [(0, 1, 0, 0, 10, 20), (1, 1, 1, 0, 11, 20)]
    truth = read_truth(write_tracks(tmp_path / "a.parquet", rows))
    assert len(truth.people) == 2
    text = touch(tmp_path / "a.gt.txt", "1,1,1,1,5,9,1,1,0.1\n1,2,30,1,5,9,1,1,0.9\n")
    half = read_truth(text, TruthRules(min_visibility=0.5))
    assert half.people.track_id.tolist() == [2]
    assert half.ignore.track_id.tolist() == [1]
    assert len(read_truth(text).people) == 2
    with pytest.raises(ValueError, match=r"min-visibility: got 2, expected 0 to 1"):
        TruthRules(min_visibility=2)


def test_rows_come_back_as_they_were_written(tmp_path):
    path = write_tracks(tmp_path / "a.parquet", [(0, 4, 10, 20, 40, 80), (1, 4, 11, 20, 41, 80)])
    rows, scores = read_scored_tracks(path)
    assert rows.frame.tolist() == [0, 1]
    assert rows.track_id.tolist() == [4, 4]
    assert rows.tlbr[0].tolist() == [10, 20, 40, 80]
    assert scores.tolist() == [1, 1]
    with_scores = write_tracks(
        tmp_path / "b.parquet", [(0, 4, 1, 2, 4, 8, 0.5)], (*COLUMNS, "score")
    )
    assert read_scored_tracks(with_scores)[1].tolist() == [0.5]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, 2, 0, 0, np.nan, 9), r"a.parquet: row 1: got 1, 2, 0, 0, nan, 9"),
        ((-1, 2, 0, 0, 5, 9), "row 1: .*frames from 0"),
        ((0, 1, 5, 5, 9, 9), "got id 1 twice in frame 0"),
        ((1, 1.5, 0, 0, 5, 9), "row 1: got 1, 1.5, .*, whole ids"),
        ((1.5, 1, 0, 0, 5, 9), "row 1: got 1.5, 1, .*frames from 0 to 99999999"),
        ((1, 1e300, 0, 0, 5, 9), r"row 1: got 1, 1e\+300"),
        ((1e300, 1, 0, 0, 5, 9), r"row 1: got 1e\+300, 1"),
        ((1, 1, 0, 0, 1e308, 9), "row 1: .*finite boxes"),
    ],
)
def test_broken_parquet_rows_are_refused(tmp_path, row, message):
    path = write_tracks(tmp_path / "a.parquet", [(0, 1, 0, 0, 5, 9), row])
    with pytest.raises(ValueError, match=message):
        read_tracks(path)


def test_other_parquet_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"not a readable Parquet file"):
        read_tracks(touch(tmp_path / "a.parquet", "no"))
    with pytest.raises(ValueError, match=r"no column x1"):
        read_tracks(write_tracks(tmp_path / "b.parquet", [(0, 1)], ("frame", "track_id")))
    path = write_tracks(tmp_path / "c.parquet", [(0, 1, 0, 0, 5, 9)])
    table = pq.read_table(path)
    pq.write_table(table.append_column("x1", table.column("x1")), path)
    with pytest.raises(ValueError, match=r"c\.parquet: got 2 columns x1, expected one"):
        read_tracks(path)
