"""Pools between limits; those of fixed sizes are in tests/pipelines/test_cluster.py."""

from __future__ import annotations

import pytest

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.tracking.pools import Pools, size_pools


def pools(cpus: float, gpus: float = 0, **sizes: object) -> Pools:
    return size_pools(ResourceConfig(**sizes), {"CPU": cpus, "GPU": gpus})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cpus", "gpus", "size", "expected"),
    [
        (2, 0, (1, 8), 1),  # a whole CPU each, as those that come later shall have
        (4, 0, (1, 8), 3),
        (64, 0, (1, 8), 8),
        (2, 0, (4, 8), 4),
        (8, 1, (1, 8), 1),
        (32, 4, (1, 8), 4),
        (32, 4, (1, 2), 2),
        (8, 1, (2, 8), 2),  # the second waits for a machine
    ],
)
def test_a_pool_between_limits_starts_with_those_that_fit(
    cpus: int, gpus: int, size: tuple[int, int], expected: int
) -> None:
    found = pools(cpus, gpus, num_detectors=size)
    assert (found.num_detectors, found.detector_limits, found.follow) == (expected, size, True)
    assert found.num_decoders is None  # as many as find CPUs
    if gpus or expected <= cpus - 1:
        assert found.detector_cpus == 1


@pytest.mark.parametrize("size", [None, 3])
def test_other_pools_stay_as_they_are(size: int | None) -> None:
    found = pools(4, num_detectors=size)
    assert found.detector_limits == (3, 3)
    assert not found.follow
    assert found.num_decoders == 1
    assert found == pools(4, num_detectors=(3, 3))


def test_detectors_leave_room_for_the_least_decoders() -> None:
    found = pools(8, num_detectors=7, num_decoders=(3, 6))
    assert found.num_decoders == 6
    assert found.num_detectors * found.detector_cpus + 3 * found.decoder_cpus <= 8
    assert pools(8, num_detectors=(1, 20), num_decoders=(3, 6)).num_detectors == 5
    assert pools(8, num_detectors=(1, 20), num_decoders=4).num_decoders == 4


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ((8, 1), "num-detectors: got 8-1, expected MIN-MAX with MIN <= MAX"),
        ((0, 4), "num-detectors: got 0, expected 1 to 4096"),
    ],
)
def test_limits_that_make_no_sense_are_refused(size: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResourceConfig(num_detectors=size)


@pytest.mark.parametrize(
    ("start", "limits", "later", "expected"),
    [
        ((2, 0), (1, 8), (2, 0), 1),  # one detector, one decoder
        ((4, 0), (1, 8), (2, 0), 1),  # after a loss
        ((2, 0), (1, 8), (8, 0), 1),  # the new CPUs are for detectors
        ((2, 0), (1, 2), (8, 0), 6),  # of which there are enough
        ((8, 1), (1, 8), (8, 1), 7),
        ((8, 1), (1, 8), (40, 2), 38),
        ((8, 1), (1, 8), (32, 0), 31),  # the last GPU has gone
    ],
)
def test_decoders_leave_detectors_their_places_on_any_cluster(
    start: tuple[int, int], limits: tuple[int, int], later: tuple[int, int], expected: int
) -> None:
    found = pools(*start, num_detectors=limits)
    assert found.decoders_on({"CPU": later[0], "GPU": later[1]}) == expected


@pytest.mark.parametrize(("gpus", "graphs", "calls"), [(0, True, 1), (1, False, 1), (1, True, 2)])
def test_a_detector_works_on_two_rows_where_they_are_queued(
    gpus: int, graphs: bool, calls: int
) -> None:
    pool = pools(8, gpus).detectors(graphs=graphs)["compute"]
    assert pool.max_concurrent_calls_per_actor == calls
    assert pool.enable_true_multi_threading == (calls > 1)
    assert pool.max_tasks_in_flight_per_actor == calls + 1  # one is fetched meanwhile
