import math

import numpy as np
import pytest

from jde_ray.models.synthetic.appearance import sample_appearance
from jde_ray.models.synthetic.body import stride_length_m, walking_pose
from jde_ray.models.synthetic.person import draw_person
from jde_ray.models.synthetic.props import draw_prop

LIGHT = (0.5, 0.6, 0.62)


@pytest.fixture
def who():
    return sample_appearance(np.random.default_rng(4))


@pytest.mark.parametrize("phase", [-1.0, 0.0, 0.25, 0.6])
def test_a_person_stands_on_the_ground_and_is_as_tall_as_they_are(who, phase):
    sprite = draw_person(who, phase, math.pi / 2, LIGHT, 60)
    _, top, _, bottom = sprite.extent
    assert (sprite.foot[1] - top) / 60 == pytest.approx(who.height_m, abs=0.13)
    assert bottom == pytest.approx(sprite.foot[1], abs=4)


def test_alpha_covers_the_colour(who):
    image = draw_person(who, 0.1, 0.3, LIGHT, 60).levels[0]
    assert (image[..., :3] <= image[..., 3:]).all()


def test_one_foot_is_always_on_the_ground_and_legs_alternate(who):
    for phase in np.linspace(0, 1, 16, endpoint=False):
        joints = walking_pose(who, float(phase)).joints
        assert min(joints[n][2] for n in ("ankle_l", "ankle_r", "toe_l", "toe_r")) < 0.06
    here, half = walking_pose(who, 0.1).joints, walking_pose(who, 0.6).joints
    assert here["ankle_l"][1] == pytest.approx(half["ankle_r"][1])
    assert 0.8 < stride_length_m(who) < 1.8


def test_front_and_back_differ_and_levels_halve(who):
    front, back = (draw_person(who, -1, heading, LIGHT, 60) for heading in (math.pi, 0.0))
    assert not np.array_equal(front.levels[0], back.levels[0])
    assert front.levels[1].shape[0] == front.levels[0].shape[0] // 2


@pytest.mark.parametrize(
    "kind", ["lamp", "bin", "sign", "tree", "car", "bollard", "pillar", "bench", "hydrant"]
)
def test_props_are_drawn_and_repeatable(kind):
    sprite = draw_prop(kind, 5, 30)
    assert sprite.area > 20
    assert np.array_equal(sprite.levels[0], draw_prop(kind, 5, 30).levels[0])
    assert (sprite.levels[0][..., :3] <= sprite.levels[0][..., 3:]).all()
