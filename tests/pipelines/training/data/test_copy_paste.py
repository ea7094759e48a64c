import numpy as np

from jde_ray.pipelines.training.data.augmentation import Example
from jde_ray.pipelines.training.data.copy_paste import paste_people
from jde_ray.pipelines.training.data.labelled_image import LabelledImage


def donor(tlbr, ignore=None):
    count = len(tlbr)
    return LabelledImage(
        np.full((100, 100, 3), 200, np.uint8),
        np.array(tlbr, np.float32).reshape(-1, 4),
        np.arange(7, 7 + count),
        np.array(ignore or [False] * count),
        0,
        appearance=np.full((count, 2), 0.5, np.float32),
    )


def street(tlbr=()):
    count = len(tlbr)
    return Example(
        np.zeros((120, 160, 3), np.uint8),
        np.array(tlbr, np.float32).reshape(-1, 4),
        np.full(count, -1),
        np.zeros(count, bool),
        np.zeros((count, 2), np.float32),
        True,
    )


def test_who_is_pasted_is_seen_in_the_box_with_identity_and_vector():
    before = street()
    after = paste_people(before, donor([[10, 10, 40, 90]]), np.random.default_rng(0), most=1)
    assert after.identity.tolist() == [7]
    assert after.appearance.tolist() == [[0.5, 0.5]]
    left, top, right, bottom = after.tlbr[0].astype(int)
    middle = after.image[(top + bottom) // 2, (left + right) // 2]
    assert (middle == 200).all()
    outside = np.ones((120, 160), bool)
    outside[top:bottom, left:right] = False
    assert (after.image[outside] == 0).all()
    assert (before.image == 0).all()


def test_people_who_are_ignored_small_cut_or_overlapped_are_not_cut_out():
    unfit = [[10, 10, 40, 90], [60, 10, 80, 30], [-5, 10, 20, 90]]
    for boxes, ignore in (
        ([unfit[0]], [True]),
        ([unfit[1]], None),
        ([unfit[2]], None),
        ([[10, 10, 40, 90], [15, 10, 45, 90]], None),
        ([], None),
    ):
        after = paste_people(street(), donor(boxes, ignore), np.random.default_rng(0))
        assert len(after.tlbr) == 0


def test_who_is_covered_becomes_an_ignored_region():
    hidden = 0
    for seed in range(60):
        people = street([[60, 40, 90, 110]])
        after = paste_people(people, donor([[10, 10, 60, 90]]), np.random.default_rng(seed), most=1)
        x1, y1 = np.maximum(after.tlbr[0, :2], after.tlbr[-1, :2])
        x2, y2 = np.minimum(after.tlbr[0, 2:], after.tlbr[-1, 2:])
        covered = max(0, x2 - x1) * max(0, y2 - y1) / (30 * 70)
        assert after.ignore[0] == (covered > 0.6)
        assert not after.ignore[-1]
        hidden += bool(after.ignore[0])
    assert 0 < hidden < 60


def test_crowding_puts_people_beside_somebody():
    somebody = street([[70, 40, 90, 100]])
    gaps = {0.0: [], 1.0: []}
    for crowding, distances in gaps.items():
        for seed in range(40):
            rng = np.random.default_rng(seed)
            after = paste_people(somebody, donor([[10, 10, 40, 90]]), rng, 1, crowding)
            pasted = after.tlbr[-1]
            distances.append(abs(float(pasted[0] + pasted[2]) / 2 - 80))
            assert 0 <= pasted[0] < pasted[2] <= 160
            assert 0 <= pasted[1] < pasted[3] <= 120
    assert max(gaps[1.0]) <= 20  # nine tenths of a width, and rounding
    assert max(gaps[0.0]) > 30
