"""The fast conversion of float16 against numpy's, for every number that there is."""

import numpy as np
import pytest

from jde_ray.models.half_floats import to_single

ALL = np.arange(1 << 16, dtype=np.uint16).view(np.float16)


@pytest.mark.filterwarnings("error")
def test_every_finite_number_has_the_bits_of_numpys_conversion() -> None:
    finite = ALL[np.isfinite(ALL)]
    expected = finite.astype(np.float32)
    np.testing.assert_array_equal(to_single(finite).view(np.uint32), expected.view(np.uint32))


def test_infinity_and_nan_stay_what_they_are() -> None:
    np.testing.assert_array_equal(to_single(ALL), ALL.astype(np.float32))


@pytest.mark.parametrize("shape", [(0,), (0, 8), (5, 0), (3, 8)])
def test_the_shape_is_kept(shape: tuple[int, ...]) -> None:
    assert to_single(np.ones(shape, np.float16)).shape == shape


def test_the_source_is_not_changed() -> None:
    source = np.array([-1.5, 2.0], np.float16)
    assert to_single(source).tolist() == [-1.5, 2.0]
    assert source.tolist() == [-1.5, 2.0]
