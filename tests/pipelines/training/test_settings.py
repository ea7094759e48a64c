"""The processes of a training, as the command line or a person's own code asks for them."""

import pytest

from jde_ray.pipelines.training.settings import TrainerConfig


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads: got 0, expected 1 or more"),
        ({"workers": -1}, "workers: got -1, expected 0 or more"),
        ({"num_trainers": 0}, "num_trainers: got 0, expected 1 or more"),
        ({"max_failures": -1}, "max_failures: got -1, expected 0 or more"),
        ({"device": "tpu"}, r"device: got 'tpu', expected auto \| cpu \| cuda"),
    ],
)
def test_trainers_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TrainerConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, False), ({"num_trainers": 2}, True), ({"address": "auto"}, True)],
)
def test_only_several_trainers_or_an_address_need_ray(settings, expected):
    assert TrainerConfig(**settings).on_ray == expected
