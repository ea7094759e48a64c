import numpy as np
import pytest
from box_rows import make
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.metrics.clear import clear_counts
from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.switches import (
    GAP_CLASSES,
    KINDS,
    LONG_GAP,
    NEAR,
    count_kinds,
    find_switches,
    overlap_with_others,
)

FAR = 100  # pixels between two people who have nothing to do with each other


def standing(people, frames=60):
    """Truth of people who stand at x for all frames, by id."""
    return make(*[(f, person, x) for f in range(frames) for person, x in people.items()])


def tracked(**spans):
    """Tracks from text: `a="0-9@0 12@100"` is track 1 (a) at x 0 in frames 0 to 9, ..."""
    rows = []
    for name, text in spans.items():
        for span in text.split():
            frames, _, x = span.partition("@")
            first, _, last = frames.partition("-")
            rows += [
                (f, ord(name) - 96, float(x)) for f in range(int(first), int(last or first) + 1)
            ]
    return make(*rows)


def kinds(truth, tracks, **how):
    return [(one.frame, one.person, one.kind) for one in find_switches(truth, tracks, **how)]


def test_two_people_exchange_their_ids():
    truth = standing({1: 0, 2: FAR}, 20)
    tracks = tracked(a=f"0-9@0 10-19@{FAR}", b=f"0-9@{FAR} 13-19@0")
    first, second = find_switches(truth, tracks)
    assert (first.person, first.before, first.after, first.gap, first.kind) == (2, 2, 1, 1, "swap")
    assert (second.person, second.before, second.after, second.gap) == (1, 1, 2, 4)
    assert (second.frame, second.last_frame, second.kind) == (13, 9, "swap")
    assert (first.wrong_frames, second.wrong_frames) == (10, 7)


def test_an_exchange_that_takes_longer_is_no_swap():
    truth = standing({1: 0, 2: FAR}, 40)
    late = 10 + NEAR + 1
    tracks = tracked(a=f"0-9@0 10-39@{FAR}", b=f"0-9@{FAR} {late}-39@0")
    assert [kind for *_, kind in kinds(truth, tracks)] == ["another's id", "taken over"]


def test_an_id_that_goes_to_another_person_is_taken_over():
    truth = standing({1: 0, 2: FAR}, 20)
    tracks = tracked(a=f"0-9@0 10-19@{FAR}", b=f"0-9@{FAR}", c="10-19@0")
    assert kinds(truth, tracks) == [(10, 1, "taken over"), (10, 2, "another's id")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{10 + LONG_GAP}-59@0", "after a gap"),
        (f"{9 + LONG_GAP}-59@0", "born again"),
        ("10-59@0", "born again"),
    ],
)
def test_a_new_id_is_born_again_or_comes_after_a_gap(text, expected):
    # somebody else is seen all the time
    truth, other = standing({1: 0, 2: FAR}), f"0-59@{FAR}"
    (one,) = find_switches(truth, tracked(a="0-9@0", b=text, o=other))
    assert (one.kind, one.gap) == (expected, int(text.partition("-")[0]) - 9)
    assert one.wrong_frames == 60 - one.frame


def test_a_new_id_in_an_overlap_is_told_from_one_without_a_reason():
    truth = make(
        *[(f, 1, 0) for f in range(20)],
        *[(f, 2, 6 if 10 <= f <= 11 else FAR) for f in range(20)],  # IoU 4 / 16 while near
    )
    tracks = tracked(a="0-9@0", b="13-19@0", o=f"0-9@{FAR} 10-11@6 12-19@{FAR}")
    (one,) = find_switches(truth, tracks)
    assert (one.kind, one.gap) == ("in an overlap", 4)
    assert (one.overlap_before, one.overlap_after) == (0, 0)  # it came and went in between
    touching = tracked(a="0-10@0", b="11-19@0", o=f"0-9@{FAR} 10-11@6 12-19@{FAR}")
    (one,) = find_switches(truth, touching)
    assert (one.kind, one.overlap_before, one.overlap_after) == ("in an overlap", 0.25, 0.25)


def test_tracks_side_by_side_on_one_person_are_second_tracks():
    truth = standing({1: 0}, 20)
    tracks = tracked(a="0-9@0 14-19@0", b="5-13@0")  # b begins as a false box
    found = find_switches(truth, tracks)
    assert [(one.frame, one.kind, one.wrong_frames) for one in found] == [
        (10, "second track", 4),
        (14, "second track", 0),  # back to its own id
    ]


def test_a_short_theft_does_not_hide_what_the_first_switch_did():
    truth = standing({1: 0}, 60)
    tracks = tracked(a="0-9@0 30@0", b="10-29@0 31-59@0")
    first, back, again = find_switches(truth, tracks)
    assert (first.wrong_frames, back.wrong_frames, again.wrong_frames) == (49, 0, 0)


def test_gaps_count_processed_frames():
    truth = make(*[(f, 1, 0) for f in range(0, 90, 3)], *[(f, 2, FAR) for f in range(0, 90, 3)])
    tracks = make(
        (0, 1, 0), *[(f, 2, 0) for f in range(12, 90, 3)], *[(f, 9, FAR) for f in range(0, 90, 3)]
    )
    (one,) = find_switches(truth, tracks, stride=3)
    assert (one.gap, one.kind) == (4, "born again")
    (one,) = find_switches(truth, tracks)
    assert (one.gap, one.kind) == (12, "after a gap")


def test_camera_motion_is_that_of_the_background_at_the_person():
    truth, tracks = standing({1: 0}, 20), tracked(a="0-9@0", b="10-19@0")
    grows = np.array([[1.1, 0, 0], [0, 1.1, 3]])  # the centre, 5 and 10, moves by .5 and 4
    (one,) = find_switches(truth, tracks, camera_motion={10: grows})
    assert one.camera_motion == pytest.approx(np.hypot(0.5, 4))
    (one,) = find_switches(truth, tracks, camera_motion={9: grows})
    assert one.camera_motion is None
    with pytest.raises(ValueError, match=r"camera_motion: got shape \(3, 3\), expected \(2, 3\)"):
        find_switches(truth, tracks, camera_motion={10: np.eye(3)})


def test_the_overlap_of_people_is_that_with_the_nearest_in_the_same_frame():
    people = make((0, 1, 0), (0, 2, 5), (0, 3, 50), (1, 1, 0), (1, 2, 0))
    assert overlap_with_others(people) == pytest.approx([1 / 3, 1 / 3, 0, 1, 1])
    assert len(overlap_with_others(BoxRows.empty())) == 0


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), stride=st.sampled_from([1, 2]))
def test_the_kinds_split_all_switches_that_clear_counts(seed, stride):
    random = np.random.default_rng(seed)
    truth = make(
        *[(stride * f, p, 6 * p + random.normal(0, 4)) for f in range(40) for p in range(4)
          if random.random() < 0.8]
    )  # fmt: skip
    # boxes near people with ids at random, each id once a frame, and boxes of nobody
    rows = []
    for frame in np.unique(truth.frame):
        here = truth[truth.frame == frame]
        ids = random.permutation(7)
        rows += [
            (frame, ids[i], here.tlbr[i, 0] + random.normal(0, 1.5))
            for i in range(len(here))
            if random.random() < 0.7
        ]
        rows.append((frame, ids[6], random.uniform(0, 60)))
    tracks = make(*rows)
    found = find_switches(truth, tracks, stride=stride)
    assert len(found) == clear_counts(truth, tracks).num_switches > 0
    table = count_kinds(found)
    assert table["all"]["all"] == sum(table[kind]["all"] for kind in KINDS) == len(found)
    for row in table.values():
        assert row["all"] == sum(row[name] for name in GAP_CLASSES)
    assert all(one.before != one.after and one.gap >= 1 for one in found)


def test_every_match_under_a_wrong_id_has_one_cause():
    random = np.random.default_rng(4)
    truth = standing({1: 0, 2: FAR}, 50)
    ids = np.array([random.permutation(5)[:2] for _ in range(50)])
    tracks = make(*[(f, ids[f, k], k * FAR) for f in range(50) for k in range(2)])
    wrong = sum(int((ids[:, k] != ids[0, k]).sum()) for k in range(2))
    found = find_switches(truth, tracks)
    assert sum(one.wrong_frames for one in found) == wrong > 50


def test_nobody_switches_without_tracks_or_people():
    assert find_switches(standing({1: 0}), BoxRows.empty()) == []
    assert find_switches(BoxRows.empty(), tracked(a="0-9@0")) == []
    assert count_kinds([])["all"]["all"] == 0
