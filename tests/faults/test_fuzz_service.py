"""Runs `fuzz_service.py` for a moment, and for minutes if the slow test is named."""

from __future__ import annotations

import pytest
from faults.fuzz_service import fuzz


def test_random_requests_and_sockets_are_answered_or_refused() -> None:
    assert fuzz(seed=1, seconds=1.5) > 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 5))
def test_many_random_requests_and_sockets_are_answered_or_refused(seed: int) -> None:
    assert fuzz(seed, seconds=60) > 50
