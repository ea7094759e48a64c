import pytest
from places import DATA

from jde_ray.models.metrics.tracking import summarize
from jde_ray.pipelines.evaluation.pairing import Pairing, for_each_pairing
from jde_ray.pipelines.evaluation.tracks import score_pairing

MOT17 = DATA / "text_gt_det" / "MOT17"


def line(frame, track_id, x, end="1,-1,-1,-1"):
    return f"{frame},{track_id},{x},21,30,60,{end}\n"


@pytest.fixture
def pairing(tmp_path):
    truth, tracks = tmp_path / "gt.txt", tmp_path / "SEQ-01.txt"
    truth.write_text("".join(line(f, 1, 10 + f, "1,1,1") for f in range(1, 6)))
    tracks.write_text("".join(line(f, 4, 10 + f) for f in range(1, 6)))
    return Pairing("SEQ-01", tracks, truth)


def test_a_perfect_run_scores_100(pairing):
    figures = score_pairing(pairing).figures()
    assert figures["MOTA"] == figures["IDF1"] == 100
    assert figures["HOTA"] == pytest.approx(100)


def test_a_run_that_found_nobody_scores_zero_and_does_not_fail(pairing):
    pairing.predictions.write_text("")
    figures = score_pairing(pairing).figures()
    assert figures["MOTA"] == figures["Rcll"] == figures["HOTA"] == 0
    assert figures["FN"] == 5


def test_distractors_are_nobodys_fault(pairing):
    with pairing.truth.open("a") as file:
        file.write(line(1, 2, 500, "0,8,1"))
    with pairing.predictions.open("a") as file:
        file.write(line(1, 9, 500))
    assert score_pairing(pairing).figures()["FP"] == 0


def test_a_sequence_without_truth_is_refused(pairing):
    with pytest.raises(ValueError, match=r"gt: no ground truth of SEQ-01"):
        score_pairing(Pairing("SEQ-01", pairing.predictions, None))


@pytest.mark.ray
def test_tasks_give_what_this_process_gives_in_the_order_asked(pairing, tmp_path, ray_cluster):
    other = tmp_path / "B.txt"
    other.write_text(line(1, 4, 11))
    both = [Pairing("B", other, pairing.truth), pairing]
    here = for_each_pairing(score_pairing, both)
    there = for_each_pairing(score_pairing, both, address=ray_cluster)
    assert list(here) == list(there) == ["B", "SEQ-01"]
    for name, scores in here.items():
        assert there[name].figures() == scores.figures()
    other.write_text(line(0, 4, 11))
    with pytest.raises(ValueError, match=r"B.txt:1: .* frames from 1"):
        for_each_pairing(score_pairing, both, address=ray_cluster)


def _reference_tables():
    """`{measure: {sequence: value}}` of the official scores beside the data."""
    tables = {}
    names = []
    for text in (MOT17 / "TRACKEVAL_REFERENCE.txt").read_text().splitlines():
        cells = text.split()
        if len(cells) > 2 and cells[0].endswith(":"):
            names = cells[2:]
        elif cells and cells[0].startswith("MOT17-"):
            for name, cell in zip(names, cells[1:], strict=True):
                tables.setdefault(name, {})[cells[0].removesuffix("-FRCNN")] = cell
    return tables


@pytest.mark.data
@pytest.mark.skipif(not MOT17.is_dir(), reason=f"no MOT17 text under JDE_TEST_DATA ({DATA})")
@pytest.mark.parametrize("name", ["MOT17-02", "MOT17-04", "MOT17-05", "MOT17-11"])
def test_scores_equal_the_official_ones_to_the_printed_digits(name):
    reference = {measure: values[name] for measure, values in _reference_tables().items()}
    results = MOT17 / name / "reference_results" / "MPNTrack_FRCNN.txt"
    scores = score_pairing(Pairing(name, results, MOT17 / name / "gt" / "gt.txt"))
    official = {"Prcn": "CLR_Pr", "Rcll": "CLR_Re", "IDs": "IDSW", "FP": "CLR_FP", "FN": "CLR_FN"}
    figures = scores.figures()
    assert len(figures) == 18
    for ours, value in figures.items():
        theirs = reference[official.get(ours, ours)]
        assert (f"{value:.5g}" if isinstance(value, float) else str(value)) == theirs, ours
    overall = summarize({name: scores})["OVERALL"].figures()
    assert overall == figures
