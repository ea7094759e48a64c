import hashlib

import numpy as np
import pytest

from jde_ray.models.boxes import iou_matrix
from jde_ray.models.synthetic.render import render
from jde_ray.models.synthetic.scene import StreetScene

SMALL = StreetScene(7, width=320, height=180, num_frames=60, num_people=10, frames_per_second=10)


@pytest.fixture(scope="module")
def clip():
    return list(render(SMALL))


def digest(frames):
    return hashlib.sha256(b"".join(image.tobytes() for image, _ in frames)).hexdigest()


def short(seed):
    return StreetScene(seed, width=160, height=96, num_frames=4, num_people=4)


def test_same_seed_gives_the_same_bytes_and_another_seed_does_not():
    assert digest(render(short(1))) == digest(render(short(1)))
    assert digest(render(short(1))) != digest(render(short(2)))


def test_frames_are_rgb_images_of_the_size_asked_for(clip):
    assert len(clip) == SMALL.num_frames
    for image, _ in clip:
        assert image.shape == (180, 320, 3)
        assert image.dtype == np.uint8
        assert image.std() > 10


def test_boxes_lie_inside_the_image_and_visibility_in_0_to_1(clip):
    for _, truth in clip:
        assert truth.tlbr.shape == (len(truth.track_id), 4)
        assert (truth.tlbr[:, :2] >= 0).all()
        assert (truth.tlbr[:, 2:] <= (320, 180)).all()
        assert (truth.tlbr[:, 2:] > truth.tlbr[:, :2]).all()
        assert ((truth.visibility >= 0) & (truth.visibility <= 1)).all()


def test_ids_are_one_per_frame_and_boxes_move_smoothly(clip):
    last = {}
    for frame_index, (_, truth) in enumerate(clip):
        assert len(set(truth.track_id)) == len(truth.track_id)
        assert (truth.track_id >= 1).all()
        for track_id, box in zip(truth.track_id.tolist(), truth.tlbr, strict=True):
            if track_id in last and last[track_id][0] == frame_index - 1:
                step = np.abs((box[:2] + box[2:]) - (last[track_id][1][:2] + last[track_id][1][2:]))
                assert (step / 2 <= 0.35 * (box[3] - box[1]) + 3).all()
            last[track_id] = (frame_index, box)
    assert len(last) >= SMALL.num_people


def test_people_hide_and_cross_each_other(clip):
    hidden = sum(int((truth.visibility < 0.5).sum()) for _, truth in clip)
    assert hidden > 10
    order = {}
    crossings = 0
    for _, truth in clip:
        centres = dict(zip(truth.track_id.tolist(), truth.tlbr[:, ::2].mean(axis=1), strict=True))
        overlaps = iou_matrix(truth.tlbr, truth.tlbr)
        for i, a in enumerate(truth.track_id.tolist()):
            for j, b in enumerate(truth.track_id.tolist()):
                left = bool(centres[a] < centres[b])
                if a < b and order.get((a, b), left) != left and overlaps[i, j] > 0:
                    crossings += 1
                order[a, b] = left
    assert crossings >= 3


def test_people_enter_and_leave(clip):
    present = [set(truth.track_id.tolist()) for _, truth in clip]
    assert present[0] - present[-1]
    assert present[-1] - present[0]


def test_without_people_the_street_is_the_same_and_the_boxes_hold_what_differs():
    size = {"width": 320, "height": 180, "num_frames": 1}
    image, truth = next(render(StreetScene(3, num_people=8, **size)))
    empty, nobody = next(render(StreetScene(3, num_people=0, **size)))
    assert len(nobody.track_id) == 0
    difference = np.abs(image.astype(int) - empty).max(axis=2)
    inside = np.zeros(difference.shape, bool)
    for x0, y0, x1, y1 in truth.tlbr.round().astype(int):
        inside[y0:y1, x0:x1] = True
    assert inside.any()
    assert difference[inside].mean() > 20
    assert difference[~inside].mean() < 5  # shadows


@pytest.mark.parametrize(("name", "value"), [("width", 8), ("num_people", -1), ("seed", -3)])
def test_a_value_out_of_range_is_named(name, value):
    with pytest.raises(ValueError, match=f"{name}: got {value}, expected"):
        StreetScene(**({"seed": 0} | {name: value}))
