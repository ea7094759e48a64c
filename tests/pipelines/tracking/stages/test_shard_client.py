from __future__ import annotations

from collections import Counter

from jde_ray.pipelines.tracking.stages.shard_client import shard_name, shard_of


def test_owners_are_the_same_everywhere_and_share_the_load() -> None:
    assert shard_of("MOT16-11-0a1b2c3d", 7) == 4  # not Python's hash, which is salted
    load = Counter(shard_of(f"video-{i}", 8) for i in range(4000))
    assert set(load) == set(range(8))
    assert max(load.values()) < 1.3 * min(load.values())


def test_names_tell_runs_and_passes_apart() -> None:
    names = {shard_name(attempt_id, i) for attempt_id in ("r1-0", "r1-1", "r2-0") for i in range(2)}
    assert len(names) == 6
