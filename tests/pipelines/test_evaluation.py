import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.evaluation import find_truth, read_tracks, score_run, sequence_name


def write_tracks(path, rows):
    columns = ("frame", "track_id", "x1", "y1", "x2", "y2")
    table = np.array(rows, np.float64).reshape(-1, 6)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(dict(zip(columns, table.T, strict=True))), path)


@pytest.fixture
def truth(tmp_path):
    folder = tmp_path / "gt" / "train" / "SEQ-01" / "gt"
    folder.mkdir(parents=True)
    lines = [f"{f},1,{10 + f},21,30,60,1,1,1" for f in range(1, 6)]
    (folder / "gt.txt").write_text("\n".join(lines) + "\n")
    return tmp_path / "gt"


def perfect():  # 0-based frames and pixels
    return [(f, 4, 9 + f + 1, 20, 39 + f + 1, 80) for f in range(5)]


def test_the_id_loses_its_hash_only():
    assert sequence_name("MOT16-11-0123abcd") == "MOT16-11"


def test_a_perfect_run_scores_one(tmp_path, truth):
    path = tmp_path / "tracks" / "SEQ-01-0123abcd.parquet"
    write_tracks(path, perfect())
    scores, without = score_run([path], truth)
    assert not without
    for name in ("SEQ-01", "OVERALL"):
        assert scores[name].clear.mota == 1
        assert scores[name].clear.idf1 == 1
        assert scores[name].hota.hota == pytest.approx(1)


def test_a_run_that_found_nobody_scores_zero_and_does_not_fail(tmp_path, truth):
    path = tmp_path / "SEQ-01-0123abcd.parquet"
    write_tracks(path, [])
    scores, _ = score_run([path], truth)
    assert scores["SEQ-01"].clear.mota == 0
    assert scores["SEQ-01"].clear.num_misses == 5
    assert scores["SEQ-01"].hota.hota == 0


def test_videos_without_truth_are_named(tmp_path, truth):
    path = tmp_path / "other-0123abcd.parquet"
    write_tracks(path, perfect())
    assert score_run([path], truth) == ({}, ["other"])


def test_truth_beside_a_video_is_found_by_its_name(tmp_path):
    (tmp_path / "park.gt.txt").write_text("1,1,1,1,5,5,1,1,1\n")
    assert find_truth(tmp_path, "park") == tmp_path / "park.gt.txt"
    assert find_truth(tmp_path, "pool") is None


def test_rows_come_back_as_they_were_written(tmp_path):
    write_tracks(tmp_path / "a-00000000.parquet", perfect())
    rows = read_tracks(tmp_path / "a-00000000.parquet")
    assert rows.frame.tolist() == [0, 1, 2, 3, 4]
    assert rows.track_id.tolist() == [4] * 5
    assert rows.tlbr[0].tolist() == [10, 20, 40, 80]
