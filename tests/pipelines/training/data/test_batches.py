from dataclasses import replace
from itertools import chain

import numpy as np
import pytest
import torch

from jde_ray.pipelines.training.data.batches import TrainingSet, collate, share_of_batch
from jde_ray.pipelines.training.data.labelled_image import LabelledImage, ListedImage
from jde_ray.pipelines.training.settings import Augmentation


def picture(group, identity, size=(120, 160), sequence=""):
    rng = np.random.default_rng(identity)
    return LabelledImage(
        rng.integers(0, 255, (*size, 3), dtype=np.uint8),
        np.array([[20, 20, 60, 110]], np.float32),
        np.array([identity]),
        np.zeros(1, bool),
        group,
        appearance=np.full((1, 4), 0.5, np.float32),
        origin=f"{identity}.jpg",
        sequence=sequence,
    )


def training_set(collage_share=0.3, seed=0, aspects=(), images=None, **changes):
    if images is None:
        crops = [picture(1, 10 + i, (128, 48)) for i in range(4)]
        images = [picture(0, i) for i in range(3)] + crops
    return TrainingSet(
        images,
        [1.0, 1.0],
        {1},
        **{
            "size": (160, 96),
            "aspects": aspects,
            "batch": 6,
            "augmentation": Augmentation(),
            "collage_share": collage_share,
            "seed": seed,
            **changes,
        },
    )


def batches(stream, count):
    iterator = iter(stream)
    return [next(iterator) for _ in range(count)]


def test_batches_take_the_shapes_of_the_given_aspects():
    stream = training_set(aspects=(16 / 9, 9 / 16))
    wide = {batch[0].image.shape[1] > batch[0].image.shape[0] for batch in batches(stream, 20)}
    assert wide == {True, False}


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


def test_crops_appear_only_in_collages_and_teach_no_detection():
    seen = set()
    for batch in batches(training_set(), 10):
        for example in batch:
            of_crops = set(example.identity.tolist()) & {10, 11, 12, 13}
            assert bool(of_crops) == (not example.learns_detection)
            seen |= of_crops
    assert seen == {10, 11, 12, 13}


def same(a, b):
    np.testing.assert_array_equal(a.image, b.image)
    np.testing.assert_array_equal(a.tlbr, b.tlbr)


def test_a_batch_depends_on_seed_and_step_alone():
    stream = training_set(seed=5)
    in_order = batches(stream, 4)
    alone = training_set(seed=5).batch_at(3)
    for a, b in zip(in_order[3], alone, strict=True):
        same(a, b)
    other = training_set(seed=6).batch_at(3)
    assert any(a.image.tobytes() != b.image.tobytes() for a, b in zip(alone, other, strict=True))


def test_data_processes_together_make_the_same_batches_in_order():
    whole = training_set()
    stream = whole.from_step(2)
    assert whole.first_step == 0
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2, collate_fn=list)
    iterator = iter(loader)
    for step in (2, 3, 4, 5):
        for a, b in zip(next(iterator), training_set().batch_at(step), strict=True):
            same(a, b)


def plain(**changes):
    """Augmentation that leaves each image recognisable by its one identity."""
    return Augmentation(mosaic=0.0, scale=(0.3, 0.3), translation=0.0, min_height_px=1.0, **changes)


def identities(stream, steps, ranks=1):
    return [
        [e.identity.tolist() for r in range(ranks) for e in stream.batch_at(step, r, ranks)]
        for step in steps
    ]


def test_an_epoch_takes_every_image_once_and_the_next_in_another_order():
    images = [picture(0, i) for i in range(12)]
    options = {"images": images, "sampling": "epoch", "augmentation": plain()}
    stream = training_set(0.0, **options)
    assert stream.steps_per_epoch == 2
    first, second = identities(stream, (0, 1)), identities(stream, (2, 3))
    assert sorted(chain(*first)) == sorted(chain(*second)) == [[i] for i in range(12)]
    assert first != second


def test_trainers_share_a_steps_batch_without_overlap():
    images = [picture(0, i) for i in range(12)]
    stream = training_set(0.0, images=images, sampling="epoch", augmentation=plain())
    whole = identities(stream, (0, 1))
    assert identities(stream, (0, 1), ranks=3) == whole
    sizes = {e.image.shape for rank in range(3) for e in stream.batch_at(0, rank, 3)}
    assert len(sizes) == 1


def test_pairs_are_neighbouring_frames_of_one_sequence():
    images = [picture(0, i, sequence="a") for i in range(4)]
    images += [picture(0, i, sequence="b") for i in range(4, 7)] + [picture(0, 7)]
    stream = training_set(0.0, images=images, sampling="pairs", augmentation=plain())
    seen = set()
    for batch in identities(stream, range(30)):
        numbers = [identity for (identity,) in batch]
        assert all(b == a + 1 for a, b in zip(numbers[::2], numbers[1::2], strict=True))
        seen |= set(zip(numbers[::2], numbers[1::2], strict=True))
    assert seen == {(0, 1), (1, 2), (2, 3), (4, 5), (5, 6)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": "pairs", "batch": 5}, "batch: got 5, expected an even number"),
        ({"sampling": "pairs"}, "no source has two frames of one video .*`video: true`"),
        ({"images": [picture(1, 3)]}, "got only crops of people"),
    ],
)
def test_what_cannot_be_sampled_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        training_set(**changes)


def test_no_pair_is_torn_over_trainers():
    images = [picture(0, i, sequence="a") for i in range(9)]
    stream = training_set(0.0, images=images, sampling="pairs", batch=8, augmentation=plain())
    for rank in range(2):
        (first,), (second,), (third,), (fourth,) = (
            e.identity.tolist() for e in stream.batch_at(0, rank, 2)
        )
        assert (second, fourth) == (first + 1, third + 1)
    with pytest.raises(ValueError, match="batch: got 8, expected an even number for each of 8"):
        stream.batch_at(0, 0, 8)
    with pytest.raises(ValueError, match="batch: got 6, expected an even number for each of 2"):
        share_of_batch(6, 2, "pairs")
    with pytest.raises(ValueError, match="batch: got 6, expected a multiple of --num-trainers 4"):
        share_of_batch(6, 4, "epoch")
    assert share_of_batch(6, 2, "epoch") == 3


def test_pasted_people_are_labelled_and_visible():
    images = [
        replace(picture(0, i), image=np.full((120, 160, 3), 40 * i, np.uint8)) for i in (0, 5)
    ]
    stream = training_set(0.0, images=images, augmentation=plain(copy_paste=1.0))
    examples = [e for batch in batches(stream, 10) for e in batch]
    assert max(len(e.tlbr) for e in examples) > 1
    assert all(len(e.tlbr) == len(e.identity) == len(e.ignore) for e in examples)
    assert all(len(e.appearance) == len(e.tlbr) for e in examples)


def test_an_image_that_cannot_be_read_stops_or_is_replaced(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    nobody = np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, bool)
    empty = np.zeros((0, 4), np.float32)
    bad = ListedImage(tmp_path / "bad.jpg", *nobody, 0, 160, appearance=empty)
    images = [bad, picture(0, 1)]
    options = {"images": images, "augmentation": plain(), "sampling": "epoch", "batch": 2}
    with pytest.raises(ValueError, match=r"bad.jpg is missing or no image"):
        training_set(0.0, **options).batch_at(0)
    names = [e.origin for e in training_set(0.0, skip_bad=True, **options).batch_at(0)]
    assert names == ["1.jpg", "1.jpg"]


def test_collated_labels_name_their_image():
    (batch,) = batches(training_set(), 1)
    made = collate(batch)
    assert made.images.dtype == torch.uint8
    assert made.images.shape[0] == 6
    labels = made.labels
    assert len(labels.image) == len(labels.tlbr) == sum(len(e.tlbr) for e in batch)
    for index, example in enumerate(batch):
        mine = labels.image == index
        np.testing.assert_allclose(labels.tlbr[mine].numpy(), example.tlbr)
        assert bool(labels.learns_detection[index]) == example.learns_detection
    assert made.origins == tuple(e.origin for e in batch)
