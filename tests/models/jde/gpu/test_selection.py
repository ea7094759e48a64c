"""Selection in fixed shapes keeps what `select` keeps, to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from jde_ray.models.jde import decode as decoding
from jde_ray.models.jde.config import CONFIGURATIONS, SMALL
from jde_ray.models.jde.decode import decode, select
from jde_ray.models.jde.gpu import selection as module
from jde_ray.models.jde.gpu.padded import TorchConvolutions
from jde_ray.models.jde.gpu.selection import HEADER, Limits, RawMaps, Selection
from jde_ray.models.jde.head import ScaleMaps

SIZE = (64, 96)
PUBLISHED = CONFIGURATIONS["darknet53-576x320"]


def random_maps(config, batch=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    maps = []
    for stride in (32, 16, 8):
        grid = (SIZE[0] // stride, SIZE[1] // stride)
        count = config.num_anchors
        shapes = ((count, 4), (count, config.score_channels), (config.embedding_dim,))
        made = (torch.randn(batch, *shape, *grid, generator=generator) for shape in shapes)
        maps.append(ScaleMaps(*made))
    return maps


def both(config, maps, limits):
    wanted = select(
        decode(config, maps), limits.score_threshold, limits.nms_threshold, limits.max_detections
    )
    own = Selection(config, SIZE, limits, TorchConvolutions(), torch.device("cpu"))
    result = own(RawMaps.of(maps))
    assert result.shape == (len(wanted), own.width)
    return wanted, own.read(result.numpy())


def check_same(wanted, found):
    for one, other in zip(wanted, found, strict=True):
        assert one.num_capped == other.num_capped
        for name in ("tlbr", "scores", "embeddings"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("config", [SMALL, PUBLISHED], ids=["sigmoid", "softmax"])
@pytest.mark.parametrize("most", [300, 4])
def test_the_same_boxes_are_kept(config, most):
    wanted, found = both(config, random_maps(config), Limits(0.6, 0.4, most))
    assert all(len(one.scores) > 2 for one in wanted)
    assert any(one.num_capped for one in wanted) == (most == 4)
    check_same(wanted, found)


def test_frames_without_people_and_full_ones_mix():
    maps = random_maps(SMALL)
    for one in maps:
        one.score[0] = -9.0
        one.score[2] = 9.0  # equal scores: the first row comes first
    wanted, found = both(SMALL, maps, Limits(0.5, 0.9, 300))
    assert [len(one.scores) > 0 for one in wanted] == [False, True, True]
    check_same(wanted, found)


def test_no_more_candidates_are_compared_than_in_select(monkeypatch):
    for place in (decoding, module):
        monkeypatch.setattr(place, "MAX_CANDIDATES", 7)
    wanted, found = both(SMALL, random_maps(SMALL), Limits(0.2, 0.9, 300))
    assert max(len(one.scores) for one in wanted) == 7
    check_same(wanted, found)


def test_numbers_that_are_not_finite_are_told():
    maps = random_maps(SMALL)
    maps[1].score[1, 0, 0, 2, 3] = torch.nan
    own = Selection(SMALL, SIZE, Limits(), TorchConvolutions(), torch.device("cpu"))
    found = own.read(own(RawMaps.of(maps)).numpy())
    assert [str(one) for one in found if isinstance(one, FloatingPointError)] == [
        "the network's scores of image 1 are not finite"
    ]
    assert [len(one.scores) for one in (found[0], found[2])] == [
        len(one.scores) for one in both(SMALL, random_maps(SMALL), Limits())[1][::2]
    ]
    maps = random_maps(SMALL)
    own = Selection(SMALL, SIZE, Limits(), TorchConvolutions(), torch.device("cpu"))
    maps[0].score[2, 0, 0, 0, 1], maps[0].box[2, 0, 2, 0, 1] = 9.0, torch.inf
    result = own(RawMaps.of(maps)).numpy()
    assert result[:, 3].tolist() == [1, 1, 0]
    assert str(own.read(result)[2]) == "the network's boxes of image 2 are not finite"
    maps[0].score[2, 0, 0, 0, 1] = -9.0  # a box that nobody asks for may be anything
    assert own(RawMaps.of(maps)).numpy()[:, :HEADER][:, 3].tolist() == [1, 1, 1]
