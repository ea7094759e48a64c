"""Sets of pictures, and means inside a person's mask."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from jde_ray.models.reid.sets import QualityBranch, ellipse, halves, masked_mean, set_features
from jde_ray.pipelines.training.data.copy_paste import _ellipse

SETS = torch.tensor([0, 1, 0, 1, 0])


def vectors():
    torch.manual_seed(0)
    return F.normalize(torch.randn(5, 4), dim=1)


def test_equal_qualities_give_the_mean():
    x = vectors()
    features = set_features(x, torch.full((5,), 0.3), SETS, 2)
    for number in range(2):
        mean = F.normalize(x[number == SETS].mean(0), dim=0)
        torch.testing.assert_close(features[number], mean)


def test_a_picture_of_quality_0_has_no_effect_and_the_order_does_not_matter():
    x, quality = vectors(), torch.tensor([0.2, 0.9, 0.0, 0.4, 0.7])
    whole = set_features(x, quality, SETS, 2)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(set_features(x[others], quality[others], SETS[others], 2), whole)
    order = torch.tensor([4, 3, 1, 0, 2])
    torch.testing.assert_close(set_features(x[order], quality[order], SETS[order], 2), whole)
    by_hand = F.normalize(0.2 * x[0] + 0.7 * x[4], dim=0)
    torch.testing.assert_close(whole[0], by_hand)
    assert set_features(x, quality, SETS, 3)[2].tolist() == [0] * 4  # an empty set


def test_each_person_s_pictures_are_two_sets_whatever_their_order():
    identity = torch.tensor([7, 3, 7, 7, 3, 7, 9])
    sets, people = halves(identity)
    assert people[sets].tolist() == identity.tolist()
    assert people.tolist() == [3, 3, 7, 7, 9]
    assert sets.tolist() == [2, 0, 2, 3, 1, 3, 4]


def test_qualities_are_equal_before_they_have_learned():
    branch = QualityBranch()
    quality = branch(torch.rand(3, 3, 32, 16))
    assert quality.tolist() == [0.5] * 3
    assert (
        sum(p.numel() for p in branch.parameters()) == 3 * 64 * 49 + 2 * (64 * 64 * 9) + 4 * 64 + 1
    )


def test_the_mean_is_taken_inside_the_mask_or_everywhere_if_it_is_empty():
    torch.manual_seed(0)
    features = torch.rand(2, 3, 4, 2)
    mask = torch.zeros(2, 4, 2)
    mask[0, 1:3, 0] = 1.0
    found = masked_mean(features, mask)
    torch.testing.assert_close(found[0], features[0, :, 1:3, 0].mean(1))
    torch.testing.assert_close(found[1], features[1].mean((1, 2)))
    changed = features.clone()
    changed[0, :, 0] = 9.0  # outside the person
    torch.testing.assert_close(masked_mean(changed, mask)[0], found[0])


@pytest.mark.parametrize(("height", "width"), [(12, 6), (16, 8), (8, 4)])
def test_the_ellipse_is_that_of_pasted_people(height, width):
    prior = ellipse(height, width, torch.device("cpu"))
    np.testing.assert_allclose(prior.numpy(), _ellipse(width, height), atol=1e-6)
    assert prior[0, 0] < 0.5 < prior[height // 2, width // 2]
