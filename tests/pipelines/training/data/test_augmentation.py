import numpy as np
import pytest

from jde_ray.pipelines.training.data.augmentation import Example, clipped, jitter_colour, warp
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.settings import Augmentation

PAPER = {
    "fit": "letterbox",
    "scale": (0.5, 1.2),
    "aspect": 0.0,
    "rotation_degrees": 5.0,
    "shear_degrees": 2.0,
    "translation": 0.1,
    "hull": True,
}


def square_scene():
    """A white square on black and its box: where the pixels go, the box must follow."""
    image = np.zeros((200, 300, 3), np.uint8)
    image[60:140, 100:150] = 255
    return LabelledImage(
        image,
        np.array([[100, 60, 150, 140]], np.float32),
        np.array([1]),
        np.zeros(1, bool),
        0,
    )


@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"rotation_degrees": 0.0, "scale": (0.4, 0.9)}, 2.0),
        ({"rotation_degrees": 0.0, "scale": (0.5, 1.2), "fit": "letterbox", "aspect": 0.0}, 2.0),
        ({**PAPER, "rotation_degrees": 0.0, "shear_degrees": 0.0}, 2.0),
        (PAPER, 3.0),  # the hull of a turned square is cut off a little
    ],
    ids=["cover", "letterbox", "shift", "paper"],
)
def test_boxes_follow_the_pixels(changes, tolerance):
    augmentation = Augmentation(**changes)
    rng = np.random.default_rng(0)
    checked = 0
    for _ in range(60):
        image, tlbr = warp(square_scene(), 300, 200, augmentation, rng)
        rows, columns = np.nonzero(image[:, :, 0] > 200)
        box = tlbr[0]
        if box.min() < 2 or box[2] > 298 or box[3] > 198:
            continue
        checked += 1
        pixels = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        np.testing.assert_allclose(box, pixels, atol=tolerance)
    assert checked > 20


def test_colour_changes_but_shape_does_not():
    rng = np.random.default_rng(1)
    image = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    out = jitter_colour(image, Augmentation(), rng)
    assert out.shape == image.shape
    assert out.dtype == np.uint8
    assert (out != image).any()


def test_boxes_are_cut_at_the_window_and_small_rests_are_ignored():
    boxes = np.array([[10, 10, 30, 60], [-40, 10, 10, 60], [-30, 10, -5, 60], [20, 20, 24, 26]])
    example = Example(
        np.zeros((64, 64, 3), np.uint8),
        boxes.astype(np.float32),
        np.arange(4),
        np.zeros(4, bool),
        np.zeros((4, 2), np.float32),
        True,
    )
    cut = clipped(example, 0, 0, 64, 64, Augmentation())
    assert cut.identity.tolist() == [0, 1, 3]  # box 2 lies outside
    assert cut.ignore.tolist() == [False, True, True]  # a fifth is left; 6 px tall
    assert cut.tlbr[1].tolist() == [0, 10, 10, 60]


@pytest.mark.parametrize("hull", [True, False])
def test_turned_and_sheared_boxes_keep_the_person_in_their_middle(hull):
    settings = {**PAPER, "rotation_degrees": 30.0, "shear_degrees": 10.0, "hull": hull}
    rng, num_whole = np.random.default_rng(0), 0
    for _ in range(40):
        image, tlbr = warp(square_scene(), 300, 200, Augmentation(**settings), rng)
        rows, columns = np.nonzero(image[:, :, 0] > 200)
        box = tlbr[0]
        if columns.min() < 2 or columns.max() > 297 or rows.min() < 2 or rows.max() > 197:
            continue
        middle = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]
        np.testing.assert_allclose(middle, [columns.mean() + 0.5, rows.mean() + 0.5], atol=2.0)
        num_whole += 1
    assert num_whole >= 20


def test_flips_are_as_many_as_asked_for():
    scene = square_scene()  # left of the middle
    for share in (0.0, 1.0):
        settings = Augmentation(flip=share, rotation_degrees=0.0, translation=0.0, scale=(1, 1))
        _, tlbr = warp(scene, 300, 200, settings, np.random.default_rng(0))
        assert (tlbr[0, [0, 2]].mean() > 150) == bool(share)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mosaic": 1.5}, "augmentation mosaic: got 1.5, expected 0 to 1"),
        ({"fit": "squash"}, "expected cover | letterbox"),
        ({"scale": (1.2, 0.5)}, "augmentation scale"),
        ({"multi_scale": ()}, "augmentation multi_scale"),
    ],
)
def test_ranges_are_checked(changes, message):
    with pytest.raises(ValueError, match=message):
        Augmentation(**changes)
