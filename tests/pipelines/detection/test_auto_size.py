"""`--size auto`: which sizes there are for a video, and which one its people need."""

import numpy as np
import pytest

from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.pipelines.detection.auto_size import SMALL_SHARE, WANTED_HEIGHT, candidates, choose

SMALL = (576, 320)
OPTIONS = candidates((1920, 1080), SMALL, rect=True)


def test_large_frames_have_all_sizes_beginning_with_the_one_without_auto():
    assert [size for _, size in OPTIONS] == [(576, 320), (768, 448), (960, 544), (1152, 640)]
    upright = candidates((1080, 1920), SMALL, rect=True)
    assert [size for _, size in upright] == [size[::-1] for _, size in OPTIONS]
    kept = candidates((1080, 1920), SMALL, rect=False)
    assert [size for _, size in kept] == [(576, 320), (768, 448), (960, 544), (1152, 640)]


@pytest.mark.parametrize(
    ("source", "larger"),
    [
        ((960, 540), [(768, 448), (960, 544)]),
        ((800, 450), [(768, 448)]),  # its own size, 800x480, is hardly larger
        ((640, 480), [(640, 480)]),
        ((1224, 370), [(1088, 320), (1248, 384)]),
        ((320, 240), []),
    ],
)
def test_no_larger_size_enlarges_the_frames(source, larger):
    (scale, first), *rest = candidates(source, SMALL, rect=True)
    assert (scale, first) == (1.0, fitted_size(*source, SMALL))
    assert [size for _, size in rest] == larger
    at_first = Letterbox(*source, *first).ratio
    for scale, size in rest:
        ratio = Letterbox(*source, *size).ratio
        assert ratio == pytest.approx(scale * at_first)
        assert ratio <= 1.02  # sides are multiples of 32


def test_frames_of_the_weights_own_size_leave_no_choice():
    options = candidates((576, 320), SMALL, rect=True)
    chosen = choose(options, np.array([5.0]))
    assert (chosen.size, chosen.why) == (SMALL, "the frames have no more pixels")


def test_the_farthest_quarter_of_the_people_decides():
    near, far = np.full(6, 200.0), np.full(2, 20.0)
    assert len(far) == SMALL_SHARE * 8
    assert choose(OPTIONS, np.concatenate([near, near[:1], far[:1]])).size == (576, 320)
    chosen = choose(OPTIONS, np.concatenate([near, far]))
    assert chosen.size == (1152, 640)
    assert chosen.why == ("a quarter of 8 boxes in the first frames is up to 20 px high at 576x320")


@pytest.mark.parametrize("step", range(4))
def test_the_smallest_sufficient_size_is_taken(step):
    scale, size = OPTIONS[step]
    enough = np.full(5, WANTED_HEIGHT / scale + 1e-9)
    assert choose(OPTIONS, enough).size == size
    if step < 3:
        assert choose(OPTIONS, enough - 0.01).size == OPTIONS[step + 1][1]


def test_without_people_the_size_of_the_weights_stays():
    chosen = choose(OPTIONS, np.zeros(0))
    assert (chosen.size, chosen.why) == (SMALL, "nobody was found in the first frames")
