import pytest

from jde_ray.pipelines.parallel import for_each, reporting


def double(number):
    if number < 0:
        raise ValueError(f"got {number}")
    return 2 * number


@pytest.mark.ray
def test_here_and_on_ray_alike(ray_cluster):
    numbers = list(range(20))
    assert for_each(double, numbers[:3]) == [0, 2, 4]
    assert for_each(double, numbers) == for_each(double, numbers, ray_cluster)
    assert for_each(double, [], ray_cluster) == []


@pytest.mark.ray
def test_every_item_is_reported_here_and_on_ray(ray_cluster):
    for address in (None, ray_cluster):
        seen = []
        with reporting(lambda done, of, seen=seen: seen.append((done, of))):
            for_each(double, [1, 2, 3], address)
        for_each(double, [1], address)  # outside, nobody listens
        assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.ray
def test_the_first_refusal_in_order_is_raised(ray_cluster):
    for address in (None, ray_cluster):
        with pytest.raises(ValueError, match=r"^got -5$"):
            for_each(double, [1, -5, 2, -1], address)
