"""Runs the kill campaign: `JDE_KILLS=200 JDE_SEED=7 pytest -m slow <this file>`.

The seed is printed; it decides which process dies when, but not how far the run is by then.
"""

from __future__ import annotations

import os
import random
import re
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from campaign import Campaign  # type: ignore[import-not-found]

pytestmark = [pytest.mark.ray, pytest.mark.slow]


def test_kills_cost_no_row_and_every_end_is_explained(tmp_path: Path) -> None:
    seed = int(os.environ.get("JDE_SEED", random.SystemRandom().randrange(10**6)))
    num_kills = int(os.environ.get("JDE_KILLS", "12"))
    sys.stdout.write(f"JDE_SEED={seed} JDE_KILLS={num_kills}\n")
    campaign = Campaign(tmp_path, seed)
    campaign.log = lambda line: sys.stdout.write(f"{line}\n")
    found = campaign.kill(num_kills)
    sys.stdout.write(f"kills {dict(found.kills)}, exit codes {dict(found.ends)}\n")
    assert found.wrong == []
    assert sum(found.kills.values()) >= num_kills


def test_a_node_of_two_is_lost_and_the_run_ends_on_what_is_left(tmp_path: Path) -> None:
    """Detectors held every CPU that was left, and decoders waited for one for ever."""
    campaign = Campaign(tmp_path, 0)
    campaign.story("nodes", ["node"], address="cluster")
    assert campaign.found.wrong == []
    assert campaign.found.kills["node"] > 0


@pytest.mark.parametrize(
    ("mutation", "kinds", "twins", "expected"),
    [
        ("create-only", ["SIGSTOP"], 2, "committed twice"),
        ("retry", ["association"], 1, "missing"),
    ],
)
def test_without_one_of_its_promises_the_oracle_finds_something(
    tmp_path: Path, mutation: str, kinds: list[str], twins: int, expected: str
) -> None:
    """Fencing cannot be seen this way: what an old attempt delivers is the same, and is taken once.

    `test_associate` holds it.
    """
    campaign = Campaign(tmp_path, 1, {"JDE_MUTATION": mutation})
    for story in range(3):
        campaign.story(f"story-{story}", kinds, twins=twins)
        if campaign.found.wrong:
            break
    assert re.search(expected, "\n".join(campaign.found.wrong)), campaign.found
