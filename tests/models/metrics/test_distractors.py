from box_rows import make

from jde_ray.models.metrics.distractors import on_distractor, without_distractors
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import score_sequence


def test_tracks_on_distractors_are_left_out_and_those_on_people_are_not():
    truth, ignore = make((0, 1, 0)), make((0, 5, 100))
    tracks = make((0, 1, 0), (0, 2, 101), (0, 3, 300))
    left = without_distractors(truth, tracks, ignore, BoxRows.empty())
    assert left.track_id.tolist() == [1, 3]
    assert on_distractor(truth, tracks, ignore, BoxRows.empty()).tolist() == [False, True, False]
    score = score_sequence(truth, tracks, ignore).clear
    assert (score.num_false_positives, score.num_misses) == (1, 0)


def test_a_person_beside_a_distractor_keeps_the_track_that_fits_best():
    truth, ignore = make((0, 1, 0)), make((0, 5, 3))
    tracks = make((0, 1, 0))
    assert len(without_distractors(truth, tracks, ignore, BoxRows.empty())) == 1
    nobody = BoxRows.empty()
    assert len(without_distractors(nobody, tracks, ignore, nobody)) == 0
    assert len(without_distractors(nobody, tracks, ignore, truth)) == 1


def test_without_distractors_in_the_file_nothing_is_left_out():
    tracks = make((0, 1, 0))
    assert len(without_distractors(tracks, tracks, BoxRows.empty(), BoxRows.empty())) == 1
