import numpy as np

from pipelines.augmentation import Augmentation, Example, clipped, jitter_colour, warp
from pipelines.labelled_images import LabelledImage


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


def test_boxes_follow_the_pixels():
    augmentation = Augmentation(rotation_degrees=0.0, scale=(0.4, 0.9))
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
        np.testing.assert_allclose(box, pixels, atol=2.0)
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
