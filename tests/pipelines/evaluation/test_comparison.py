import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from places import DATA

from jde_ray.models.metrics.bootstrap import differences
from jde_ray.models.metrics.tracking import OVERALL, summarize
from jde_ray.pipelines.evaluation.comparison import compare
from jde_ray.pipelines.evaluation.pairing import Pairing, for_each_pairing
from jde_ray.pipelines.evaluation.tracks import score_pairing

MOT17 = DATA / "text_gt_det" / "MOT17"
NUM_FRAMES = 8


def lines(rng, end):
    """Two people who walk beside each other; some boxes are missing, and ids may move on."""
    change = rng.integers(1, NUM_FRAMES)
    return "".join(
        f"{frame},{person + (frame > change)},{40 * person + frame},1,10,20,{end}\n"
        for frame in range(1, NUM_FRAMES + 1)
        for person in (1, 2)
        if rng.random() > 0.2
    )


@pytest.fixture
def place(tmp_path):
    """Ground truth of the sequences A to D, and the results `mine` and `theirs` of them."""
    for number, name in enumerate("ABCD"):
        (tmp_path / f"{name}.gt.txt").write_text(
            "".join(
                f"{frame},{person},{40 * person + frame},1,10,20,1,1,1\n"
                for frame in range(1, NUM_FRAMES + 1)
                for person in (1, 2)
            )
        )
        for result in ("mine", "theirs"):
            (tmp_path / result).mkdir(exist_ok=True)
            rng = np.random.default_rng(number + len(result))
            (tmp_path / result / f"{name}.txt").write_text(lines(rng, "1,-1,-1,-1"))
    return tmp_path


def result(place, name, sequences="ABCD"):
    return [Pairing(s, place / name / f"{s}.txt", place / f"{s}.gt.txt") for s in sequences]


def test_each_result_has_the_scores_that_it_has_alone(place):
    results = {name: result(place, name) for name in ("mine", "theirs")}
    comparison = compare(results)
    assert list(comparison.scores) == ["mine", "theirs"]
    assert comparison.sequences == list("ABCD")
    figures = comparison.figures()
    for name, pairings in results.items():
        alone = summarize(for_each_pairing(score_pairing, pairings))
        assert figures[name] == {one: scores.figures() for one, scores in alone.items()}
    own = {
        name: {sequence: scores[sequence] for sequence in "ABCD"}
        for name, scores in comparison.scores.items()
    }
    assert comparison.differences == differences(own)
    gap = figures["theirs"][OVERALL]["HOTA"] - figures["mine"][OVERALL]["HOTA"]
    assert comparison.differences["theirs"]["HOTA"].value == gap
    assert "2000 resamples of the 4 sequences" in comparison.explanation
    assert comparison.notes([]) == []


def test_what_not_all_have_is_left_out_and_said(place):
    comparison = compare({"mine": result(place, "mine", "BCA"), "theirs": result(place, "theirs")})
    assert comparison.sequences == list("BCA")
    assert comparison.missing == {"D": ["mine"]}
    assert comparison.notes(["X"]) == [
        "not in all results, not compared: D (not in mine)",
        "without ground truth, not scored: X",
    ]
    alone = summarize(for_each_pairing(score_pairing, result(place, "theirs", "ABC")))
    assert comparison.figures()["theirs"][OVERALL] == pytest.approx(alone[OVERALL].figures())


def test_results_of_nothing_in_common_are_refused(place):
    results = {"mine": result(place, "mine", "AB"), "theirs": result(place, "theirs", "CD")}
    expected = "no sequence is in all results, got mine: A, B; theirs: C, D"
    with pytest.raises(ValueError, match=expected):
        compare(results)


@pytest.mark.parametrize(("sequences", "said"), [("A", "1 sequence is"), ("AB", "2 sequences are")])
def test_of_few_sequences_no_interval_is_made_up(place, sequences, said):
    names = ("mine", "theirs")
    comparison = compare({name: result(place, name, sequences) for name in names})
    one = comparison.differences["theirs"]["IDF1"]
    assert math.isfinite(one.value)
    assert not one.has_interval
    assert f"{said} too few to estimate an interval from" in comparison.explanation


def test_a_sequence_that_results_name_differently_goes_by_its_ground_truth(place):
    truth = place / "A.gt.txt"
    results = {name: [Pairing(name, place / name / "A.txt", truth)] for name in ("mine", "theirs")}
    assert compare(results).sequences == ["A"]


def write_run(out, source, **config):
    """OUT of a run with these settings, of the rows of a MOT text file in its frames."""
    stride, most = config.get("vid_stride", 1), config.get("max_frames")
    rows = np.loadtxt(source, delimiter=",")
    frame = rows[:, 0].astype(int) - 1
    seen = (frame % stride == 0) & (frame < (most or NUM_FRAMES) * stride)
    left, top, wide, tall = rows[seen, 2:6].T
    columns = {
        "frame": frame[seen], "track_id": rows[seen, 1].astype(int), "x1": left - 1, "y1": top - 1,
        "x2": left - 1 + wide, "y2": top - 1 + tall,
    }  # fmt: skip
    table = pa.table(columns).replace_schema_metadata({"num_frames": str(most or NUM_FRAMES)})
    (out / "tracks").mkdir(parents=True)
    pq.write_table(table, out / "tracks" / "A-00000000.parquet")
    (out / "run.json").write_text(
        json.dumps({"config_hash": "0", "config": {"max_frames": most, **config}})
    )
    return [Pairing("A", out / "tracks" / "A-00000000.parquet", out.parent / "A.gt.txt")]


def test_results_of_different_frames_are_compared_on_those_that_all_have(place):
    source = place / "mine" / "A.txt"
    whole = result(place, "mine", "A")
    some = write_run(place / "some", source, vid_stride=2)
    first = write_run(place / "first", source, max_frames=5)
    comparison = compare({"whole": whole, "some": some, "first": first})
    figures = comparison.figures()
    # of the same tracks, in the frames 0, 2 and 4
    assert figures["whole"] == figures["some"] == figures["first"]
    own = figures["whole"]["A"]
    matched = round(own["Rcll"] / 100 * 6)
    assert matched + own["FN"] == 6
    assert comparison.frames == {"A": "1 of 2 frames, the first 5"}
    assert comparison.notes([]) == [
        "scored on the frames that all runs processed: A (1 of 2 frames, the first 5)"
    ]
    alone = compare({"some": some, "again": some})
    assert alone.figures()["some"]["A"] == score_pairing(some[0]).figures()


@pytest.mark.data
@pytest.mark.skipif(not MOT17.is_dir(), reason=f"no MOT17 text under JDE_TEST_DATA ({DATA})")
def test_a_published_result_is_clearly_better_than_itself_with_gaps(tmp_path):
    names = ("MOT17-02", "MOT17-05", "MOT17-11")
    results = {"published": [], "gaps": []}
    for name in names:
        published = MOT17 / name / "reference_results" / "MPNTrack_FRCNN.txt"
        rows = published.read_text().splitlines(keepends=True)
        gaps = tmp_path / f"{name}.txt"
        gaps.write_text("".join(row for row in rows if int(float(row.split(",")[0])) % 4))
        for result, path in (("published", published), ("gaps", gaps)):
            results[result].append(Pairing(name, path, MOT17 / name / "gt" / "gt.txt"))
    comparison = compare(results)
    overall = comparison.figures()["published"][OVERALL]
    official = {"IDs": 25 + 20 + 10, "FP": 133 + 380 + 146, "FN": 9635 + 2602 + 2660}
    assert {name: overall[name] for name in official} == official
    boxes = 8946 + 9635 + 4315 + 2602 + 6776 + 2660
    assert overall["MOTA"] == pytest.approx(100 * (1 - sum(official.values()) / boxes))
    assert overall["IDF1"] == pytest.approx(
        100 * 2 * (7591 + 3671 + 6258)
        / (2 * (7591 + 3671 + 6258) + 10990 + 3246 + 3178 + 1488 + 1024 + 664)
    )  # fmt: skip
    for name in ("HOTA", "MOTA", "IDF1", "Rcll"):
        one = comparison.differences["gaps"][name]
        assert one.low <= one.value <= one.high < 0
        assert one.is_clear
