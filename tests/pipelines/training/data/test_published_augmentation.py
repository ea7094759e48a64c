"""Views against figures that the original's own code gave for the same random numbers."""

import numpy as np
import places
import pytest
from places import ROOT

from jde_ray.pipelines.training.data.batches import TrainingSet
from jde_ray.pipelines.training.data.labelled_image import LabelledImage
from jde_ray.pipelines.training.data.published_augmentation import published_view
from jde_ray.pipelines.training.recipe_file import read_recipe
from jde_ray.pipelines.training.settings import Augmentation

GOLDEN = places.GOLDEN / "augmentation.npz"


class Drawn:
    """The recorded random numbers, one after the other."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def random(self):
        return next(self.numbers)


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN))


@pytest.fixture(scope="module")
def recipe():
    return read_recipe(ROOT / "jobs" / "recipes" / "train_published.yaml")


def scene(golden):
    image = golden["image"]
    size = np.array([image.shape[1], image.shape[0]])
    centre, sides = golden["labels"][:, 2:4], golden["labels"][:, 4:6]
    tlbr = np.concatenate([(centre - sides / 2) * size, (centre + sides / 2) * size], 1)
    return LabelledImage(
        image,
        tlbr.astype(np.float32),
        golden["labels"][:, 1].astype(np.int64),
        np.zeros(len(tlbr), bool),
        0,
        appearance=np.arange(len(tlbr), dtype=np.float32)[:, None].repeat(3, 1),
        origin="a.jpg",
    )


def test_boxes_and_pixels_are_those_of_the_published_code(golden, recipe):
    width, height = golden["size"].tolist()
    for number, draws in enumerate(golden["draws"]):
        numbers = Drawn(draws)
        view = published_view(scene(golden), width, height, recipe.augmentation, numbers)
        rows = golden["rows"][golden["rows"][:, 0] == number]
        assert view.identity.tolist() == rows[:, 1].astype(int).tolist()
        np.testing.assert_allclose(view.tlbr, rows[:, 2:], atol=2e-3)
        apart = np.abs(view.image[::4, ::4].astype(int) - golden["pictures"][number])
        assert apart.mean() < 0.1  # OpenCV's versions differ in low bits
        assert apart.max() <= 8
        assert next(numbers.numbers, None) is None  # none is left over


def test_the_border_keeps_the_grey_of_inference(golden):
    darker = Augmentation(published=True, scale=(0.5, 0.5), value=0.5, flip=0.0)
    view = published_view(scene(golden), 192, 128, darker, np.random.default_rng(0))
    assert (view.image[0] == 128).all()


def test_a_training_set_takes_these_views_and_vectors_follow(golden):
    taught = scene(golden)
    settings = Augmentation(published=True, mosaic=0.0, multi_scale=(1.0,), translation=0.1)
    stream = TrainingSet([taught], [1.0], set(), size=(192, 128), batch=1, augmentation=settings)
    (example,) = stream.batch_at(0)
    assert 0 < len(example.tlbr) < len(taught.tlbr)
    assert not example.ignore.any()  # what is left out is background
    assert example.appearance[:, 0].tolist() == example.identity.tolist()


def test_a_picture_without_people_has_no_boxes(golden):
    alone = LabelledImage(
        golden["image"], np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool), 0
    )
    view = published_view(alone, 192, 128, Augmentation(published=True), np.random.default_rng(0))
    assert view.tlbr.shape == (0, 4)
