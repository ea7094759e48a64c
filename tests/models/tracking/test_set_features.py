"""The feature of a set of pictures that come one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.tracking.set_features import with_pictures


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def feature(vectors, quality):
    """The feature of one set, and the length of its sum, after all pictures."""
    features, lengths = vectors[:1], np.zeros(1)
    for number in range(len(vectors)):
        one = slice(number, number + 1)
        features, lengths = with_pictures(features, lengths, vectors[one], quality[one])
    return features[0], lengths[0]


def pictures(seed, number=6, width=5):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(number, width))).astype(np.float32)
    return vectors, rng.uniform(0.01, 1, number).astype(np.float32)


def test_equal_qualities_give_the_mean():
    vectors, _ = pictures(0)
    found, length = feature(vectors, np.full(6, 0.3, np.float32))
    np.testing.assert_allclose(found, unit(vectors.sum(axis=0)), atol=1e-6)
    assert length == pytest.approx(0.3 * np.linalg.norm(vectors.sum(axis=0)), rel=1e-6)


def test_a_picture_of_quality_0_has_no_effect_wherever_it_stands():
    vectors, quality = pictures(1)
    expected = feature(vectors, quality)
    for place in range(7):
        more = np.insert(vectors, place, unit(np.ones(5)), axis=0)
        found = feature(more, np.insert(quality, place, 0.0))
        np.testing.assert_array_equal(found[0], expected[0])
        assert found[1] == expected[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.permutations(range(6)))
def test_the_order_does_not_matter(seed, order):
    vectors, quality = pictures(seed)
    expected = unit((vectors * quality[:, None]).sum(axis=0))
    for one in (list(range(6)), order):
        np.testing.assert_allclose(feature(vectors[one], quality[one])[0], expected, atol=2e-5)


def test_it_equals_the_feature_that_the_network_learns_by():
    torch = pytest.importorskip("torch")
    from jde_ray.models.reid.sets import set_features

    vectors, quality = pictures(2)
    tensors = torch.from_numpy(vectors), torch.from_numpy(quality)
    expected = set_features(*tensors, torch.zeros(6, dtype=torch.int64), 1)[0]
    np.testing.assert_allclose(feature(vectors, quality)[0], expected, atol=1e-6)


def test_a_sum_of_nothing_keeps_what_there_was():
    vectors = np.array([[1.0, 0], [0, 1]], np.float32)
    none = np.zeros(2, np.float32)
    features, lengths = with_pictures(vectors, np.zeros(2), vectors[::-1], none)
    assert (features.tolist(), lengths.tolist()) == (vectors.tolist(), [0, 0])
    features, lengths = with_pictures(vectors, np.ones(2), -vectors, none + 1)
    assert (features.tolist(), lengths.tolist()) == (vectors.tolist(), [0, 0])
    assert with_pictures(vectors[:, :0], np.zeros(2), vectors[:, :0], none + 1)[0].shape == (2, 0)
