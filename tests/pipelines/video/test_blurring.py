from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.tracking.postprocessing.coverage import CARRIED_FRAMES
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories
from jde_ray.pipelines.video.blurring import (
    CELLS,
    LEAST_CELL,
    blur,
    blur_frames,
    coverage_of,
    regions_of,
)

NOISE = np.random.default_rng(3).integers(0, 256, (120, 160, 3), np.uint8)
# a little noise on a ramp, so that no two cells of a mosaic have the same mean
RAMP = np.mgrid[:120, :160].transpose(1, 2, 0) * 1.5 + 5
RAMP = np.dstack([RAMP, RAMP[:, :, 0]]).astype(np.uint8) + NOISE // 64
corners = st.tuples(
    st.floats(-60, 180), st.floats(-60, 140), st.floats(0.5, 200), st.floats(0.5, 200)
)
boxes = st.lists(corners, max_size=5).map(
    lambda found: np.array([(x, y, x + w, y + h) for x, y, w, h in found], float).reshape(-1, 4)
)
parts = st.sampled_from(["people", "heads"])


def owners(regions: np.ndarray) -> np.ndarray:
    """Number of the last region over each pixel, -1 where there is none."""
    owner = np.full(NOISE.shape[:2], -1)
    y, x = np.mgrid[: NOISE.shape[0], : NOISE.shape[1]]
    for i, (x1, y1, x2, y2) in enumerate(regions):
        owner[(x + 1 > x1) & (x < x2) & (y + 1 > y1) & (y < y2)] = i
    return owner


@given(boxes, parts)
def test_no_pixel_outside_changes_and_no_detail_inside_stays(tlbr: np.ndarray, part) -> None:
    regions = regions_of(tlbr, part)
    before, hidden = NOISE.copy(), blur(NOISE, regions, part)
    owner = owners(regions)
    assert (before == NOISE).all()
    assert (hidden[owner < 0] == NOISE[owner < 0]).all()
    for i, region in enumerate(regions):
        rows, columns = np.nonzero(owner == i)
        if not len(rows):
            continue
        # a region is a mosaic of few colours, each of a cell that is as coarse as was promised
        side = (region[2:] - region[:2]).min()
        cell = max(LEAST_CELL, side / CELLS[part])
        high, wide = (np.ptp(at) + 1 for at in (rows, columns))
        whole = np.clip([*np.floor(region[:2]), *np.ceil(region[2:])], 0, [160, 120, 160, 120])
        most = max(1, (whole[3] - whole[1]) // cell) * max(1, (whole[2] - whole[0]) // cell)
        assert high <= whole[3] - whole[1]
        assert wide <= whole[2] - whole[0]
        assert len(np.unique(hidden[rows, columns], axis=0)) <= most


@settings(max_examples=40)
@given(corners, parts, st.integers(0, 99))
def test_pictures_that_differ_in_detail_only_become_the_same(place, part, seed: int) -> None:
    """The mosaic follows from the means of its cells, whatever the pixels of a cell are."""
    x, y, width, height = place
    regions = regions_of(np.array([[x, y, x + width, y + height]]), part)
    hidden = blur(RAMP, regions, part)
    inside = owners(regions) == 0
    dice, other = np.random.default_rng(seed), RAMP.copy()
    for colour in np.unique(hidden[inside], axis=0):
        rows, columns = np.nonzero(inside & (hidden == colour).all(axis=-1))
        other[rows, columns] = RAMP[rows, columns][dice.permutation(len(rows))]
    assert (blur(other, regions, part) == hidden).all()


def test_a_flat_colour_stays_and_a_mirrored_picture_is_taken() -> None:
    flat = np.full((50, 60, 3), (10, 200, 255), np.uint8)
    region = np.array([[5, 5, 40, 45]], float)
    assert (blur(flat, region, "people") == flat).all()
    mirrored = NOISE[::-1, ::-1]
    mirrored.flags.writeable = False
    assert blur(mirrored, region, "people").flags.c_contiguous


@pytest.mark.parametrize(
    ("box", "head"),
    [
        ((100, 100, 140, 200), (94, 88, 146, 130)),  # stands: 30 % of the height
        ((100, 100, 180, 200), (88, 80, 192, 160)),  # cut off or sits: 75 % of the width
        ((100, 100, 300, 180), (70, 50, 330, 180)),  # lies: all of it
    ],
)
def test_heads_are_the_upper_part_and_more_of_a_wide_box(box: tuple, head: tuple) -> None:
    assert regions_of(np.array([box], float), "heads")[0] == pytest.approx(head)


@given(boxes)
def test_the_region_of_a_person_holds_the_box_and_the_head(tlbr: np.ndarray) -> None:
    people, heads = (regions_of(tlbr, part) for part in ("people", "heads"))
    assert (people[:, :2] <= tlbr[:, :2]).all()
    assert (people[:, 2:] >= tlbr[:, 2:]).all()
    assert (heads[:, :2] <= tlbr[:, :2]).all()
    assert (heads[:, 2] >= tlbr[:, 2]).all()
    assert (heads[:, 3] <= tlbr[:, 3] + 1e-9).all()


@pytest.mark.parametrize("part", ["people", "heads"])
def test_a_walker_who_is_lost_for_a_while_is_hidden_in_every_frame(part) -> None:
    """The head too, although the person moves down and the box that is carried grows."""
    seen = [*range(30, 40), *range(52, 60), *range(90, 95)]
    frame = np.array(seen)
    tlbr = np.stack([20 + frame * 0.5, 1.0 * frame, 40 + frame * 0.5, 50 + 1.0 * frame], axis=1)
    tracks = Trajectories.sort(frame, np.full(len(seen), 4), tlbr, np.ones(len(seen)))
    image = np.random.default_rng(1).integers(0, 256, (240, 160, 3), np.uint8)
    frames = [(i, i / 25, image) for i in range(120)]
    hidden = list(blur_frames(frames, coverage_of(tracks, part), part))
    assert [one[:2] for one in hidden] == [one[:2] for one in frames]
    for number, _, got in hidden:
        left, top = int(20 + number * 0.5), number
        head = (slice(top, top + 15), slice(left, left + 20))
        is_near = np.abs(frame - number).min() <= CARRIED_FRAMES
        detail = np.abs(np.diff(got[head].astype(int), axis=1)).sum(axis=-1) > 0
        # a few columns of a mosaic differ from their neighbours, almost all of noise do
        assert (detail.mean() < 0.4) == is_near, number
