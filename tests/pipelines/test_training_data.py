import numpy as np
import torch

from pipelines.augmentation import Augmentation
from pipelines.labelled_images import LabelledImage
from pipelines.training_data import TrainingSet, collate


def picture(group, identity, size=(120, 160)):
    rng = np.random.default_rng(identity)
    return LabelledImage(
        rng.integers(0, 255, (*size, 3), dtype=np.uint8),
        np.array([[20, 20, 60, 110]], np.float32),
        np.array([identity]),
        np.zeros(1, bool),
        group,
        appearance=np.full((1, 4), 0.5, np.float32),
    )


def training_set(collage_share=0.3, seed=0, aspects=()):
    images = [picture(0, i) for i in range(3)] + [picture(1, 10 + i, (128, 48)) for i in range(4)]
    return TrainingSet(
        images,
        [1.0, 1.0],
        {1},
        size=(160, 96),
        aspects=aspects,
        batch=6,
        augmentation=Augmentation(),
        collage_share=collage_share,
        seed=seed,
    )


def batches(stream, count):
    iterator = iter(stream)
    return [next(iterator) for _ in range(count)]


def test_boxes_lie_in_their_images_and_fields_agree():
    for batch in batches(training_set(), 10):
        shapes = {example.image.shape for example in batch}
        assert len(shapes) == 1
        height, width = shapes.pop()[:2]
        assert height % 32 == width % 32 == 0
        for example in batch:
            assert len(example.tlbr) == len(example.identity) == len(example.ignore)
            assert (example.tlbr >= 0).all()
            assert (example.tlbr[:, 2] <= width).all()
            assert (example.tlbr[:, 3] <= height).all()


def test_batches_take_the_shapes_that_videos_will_have():
    seen = {batch[0].image.shape[:2] for batch in batches(training_set(aspects=(1.7, 0.6)), 30)}
    assert seen == {(96, 160), (64, 128), (160, 96), (128, 64)}


def test_crops_appear_only_in_collages_and_teach_no_detection():
    seen = set()
    for batch in batches(training_set(), 10):
        for example in batch:
            of_crops = set(example.identity.tolist()) & {10, 11, 12, 13}
            assert bool(of_crops) == (not example.learns_detection)
            seen |= of_crops
    assert seen == {10, 11, 12, 13}


def test_the_same_seed_gives_the_same_batches():
    first, second = (batches(training_set(seed=5), 2) for _ in range(2))
    for a, b in zip(first[1], second[1], strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        np.testing.assert_array_equal(a.tlbr, b.tlbr)


def test_collated_labels_name_their_image():
    (batch,) = batches(training_set(), 1)
    images, labels = collate(batch)
    assert images.dtype == torch.uint8
    assert images.shape[0] == 6
    assert len(labels.image) == len(labels.tlbr) == sum(len(e.tlbr) for e in batch)
    for index, example in enumerate(batch):
        mine = labels.image == index
        np.testing.assert_allclose(labels.tlbr[mine].numpy(), example.tlbr)
        assert bool(labels.learns_detection[index]) == example.learns_detection
