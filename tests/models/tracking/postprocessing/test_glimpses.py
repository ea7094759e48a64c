from __future__ import annotations

import numpy as np
import pytest
from planted_tracks import Crowd

from jde_ray.models.tracking.postprocessing import glimpses as glimpses_module
from jde_ray.models.tracking.postprocessing.glimpses import (
    Glimpses,
    cleanness,
    covered,
    take_glimpses,
    unit,
)
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories


def test_glimpses_tile_the_rows_and_end_at_gaps() -> None:
    crowd = Crowd()
    crowd.walk(0, 3, range(12), 0)
    crowd.walk(0, 3, range(15, 18), 0)
    crowd.walk(1, 5, range(10, 15), 300)
    tracks, _, _ = crowd.build()
    found = take_glimpses(tracks)
    assert found.start.tolist() == [0, 5, 10, 12, 15]
    assert found.end.tolist() == [5, 10, 12, 15, 20]
    assert found.first_frame.tolist() == [0, 5, 10, 15, 10]
    assert found.last_frame.tolist() == [4, 9, 11, 17, 14]
    assert found.missing(1).tolist() == [0, 0, 0, 3, 0]
    assert found.new_track().tolist() == [True, False, False, False, True]


def test_sums_are_of_unit_vectors_by_cleanness(monkeypatch: pytest.MonkeyPatch) -> None:
    crowd = Crowd()
    for number in range(3):
        crowd.walk(number, number, range(23), 15.0 * number)  # they cover each other
    dice = np.random.default_rng(1)
    tracks, looks, _ = crowd.build(dice.permutation(69))
    weight = cleanness(tracks)
    assert len(np.unique(weight.round(3))) > 10
    expected = unit(looks[tracks.source].astype(float)) * weight[:, None]
    for rows in (7, 1 << 15):
        monkeypatch.setattr(glimpses_module, "_CHUNK", rows)
        found = take_glimpses(tracks, looks)
        sums = [expected[a:b].sum(axis=0) for a, b in zip(found.start, found.end, strict=True)]
        assert found.sums == pytest.approx(np.array(sums), abs=1e-5)


def test_what_covers_a_box() -> None:
    tlbr = np.array([[0, 0, 10, 20], [5, 0, 15, 20], [5, 10, 15, 30], [0, 0, 10, 20]], float)
    frame = np.array([0, 0, 1, 2])
    tracks = Trajectories.sort(frame, np.arange(4), tlbr, np.ones(4))
    assert covered(tracks).tolist() == [0.5, 0.5, 0, 0]
    assert cleanness(tracks) == pytest.approx([0.251, 0.251, 1.001, 1.001])


def test_shapes_are_checked() -> None:
    two, three = np.zeros(2, int), np.zeros(3, int)
    with pytest.raises(ValueError, match=r"glimpses: got lengths \[2, 3, 2, 2\], expected 2"):
        Glimpses(two, two, three, two, two)
    with pytest.raises(ValueError, match="glimpses: got 3 sums, expected 2"):
        Glimpses(two, two, two, two, two, np.zeros((3, 4)))
