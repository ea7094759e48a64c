"""A run that was told to look at less is scored on what it looked at."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.evaluation.frames_seen import FramesSeen, frames_seen, limited
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.evaluation.tracks import score_pairing
from jde_ray.pipelines.formats.mot import GroundTruth


def write_run(out, frames, *, number=None, **settings):
    """OUT of a run whose one person stands still in these frames; path of its tracks."""
    (out / "tracks").mkdir(parents=True)
    (out / "run.json").write_text(json.dumps({"config_hash": "0", "config": settings}))
    columns = {"frame": frames, "track_id": [1] * len(frames)}
    columns |= {
        name: [side] * len(frames)
        for name, side in zip(("x1", "y1", "x2", "y2"), (0, 0, 10, 20), strict=True)
    }
    table = pa.table(columns)
    if number is not None:
        table = table.replace_schema_metadata({"num_frames": str(number)})
    path = out / "tracks" / "SEQ-0123abcd.parquet"
    pq.write_table(table, path)
    return path


def truth_of_ten(tmp_path):
    text = tmp_path / "gt.txt"
    text.write_text("".join(f"{frame},1,1,1,10,20,1,1,1\n" for frame in range(1, 11)))
    return text


@pytest.mark.parametrize(
    ("settings", "frames", "number", "misses"),
    [
        ({"max_frames": None, "vid_stride": 1}, [0, 1, 2, 3], 10, 6),
        ({"max_frames": 4, "vid_stride": 1}, [0, 1, 2, 3], 4, 0),
        ({"max_frames": 4, "vid_stride": 1}, [0, 1, 3], 4, 1),
        ({"max_frames": 4, "vid_stride": 1}, [0, 1, 2, 3], None, 0),
        ({"max_frames": 3, "vid_stride": 2}, [0, 2, 4], 3, 0),
        ({"max_frames": None, "vid_stride": 3}, [0, 3, 6, 9], 4, 0),
        ({"max_frames": 99, "vid_stride": 1}, [0, 1, 2, 3], 4, 6),  # the video ended: a real miss
    ],
    ids=str,
)
def test_people_of_frames_that_nobody_looked_at_are_not_missed(
    tmp_path, settings, frames, number, misses
):
    tracks = write_run(tmp_path / "out", frames, number=number, **settings)
    scores = score_pairing(Pairing("SEQ", tracks, truth_of_ten(tmp_path)))
    assert scores.figures()["FN"] == misses
    assert scores.figures()["FP"] == 0


def test_mot_text_of_a_run_is_scored_as_its_parquet(tmp_path):
    tracks = write_run(tmp_path / "out", [0, 1], number=2, max_frames=2)
    text = tmp_path / "out" / "mot" / tracks.with_suffix(".txt").name
    text.parent.mkdir()
    text.write_text("1,1,1,1,10,20,1,-1,-1,-1\n2,1,1,1,10,20,1,-1,-1,-1\n")
    assert score_pairing(Pairing("SEQ", text, truth_of_ten(tmp_path))).figures()["MOTA"] == 100
    alone = tmp_path / "elsewhere" / "SEQ.txt"
    alone.parent.mkdir()
    alone.write_text(text.read_text())
    assert frames_seen(alone) is None


def test_visibility_goes_with_the_people():
    frames = np.arange(6)
    rows = BoxRows(frames, frames, np.zeros((6, 4)))
    part = FramesSeen(2, 2).truth(GroundTruth(rows, frames / 10, rows, rows[:0]))
    assert part.people.frame.tolist() == part.ignore.frame.tolist() == [0, 2]
    assert part.visibility.tolist() == [0, 0.2]
    assert limited(5, 1, None) is None
    assert str(FramesSeen(2, 2)) == "1 of 2 frames, the first 2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "[" * 100_000,
        '{"config": 3}',
        *(
            f'{{"config_hash": "0", "config": {{{setting}}}}}'
            for setting in (
                '"vid_stride": "x"',
                '"vid_stride": 0',
                f'"vid_stride": {10**30}',
                '"max_frames": "a"',
                '"max_frames": -1',
            )
        ),
    ],
)
def test_a_record_that_says_nothing_is_refused_in_one_line(tmp_path, text):
    tracks = write_run(tmp_path / "out", [0])
    (tmp_path / "out" / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json: not the record of a run") as caught:
        frames_seen(tracks)
    assert "\n" not in str(caught.value)
