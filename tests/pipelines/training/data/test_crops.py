from dataclasses import replace

import numpy as np
import pytest
import torch
from plain_views import PLAIN, as_found

from jde_ray.pipelines.training.crop_settings import CropConfig, CropViews
from jde_ray.pipelines.training.data.crop_batches import CropStream
from jde_ray.pipelines.training.data.crop_views import NUM_CHANCES, make_views
from jde_ray.pipelines.training.data.crops import cut, cut_crops
from jde_ray.pipelines.training.data.labelled_image import LabelledImage

SIZE = (32, 64)
CONFIG = CropConfig(sightings=2, neighbours=2, far=0.0)


def image(people, *, group=0, ignore=(), vectors=None, origin="a.jpg"):
    """A grey picture with a row of people, whose colour is their number."""
    picture = np.full((120, 60 * len(people) + 10, 3), 128, np.uint8)
    tlbr = []
    for place, person in enumerate(people):
        left = 10 + 60 * place
        picture[20:100, left : left + 40] = 20 + 10 * max(person, 0)
        tlbr.append((left, 20, left + 40, 100))
    return LabelledImage(
        picture,
        np.array(tlbr, np.float32),
        np.array(people, np.int64),
        np.isin(np.arange(len(people)), ignore),
        group,
        appearance=np.zeros((0, 0), np.float32) if vectors is None else np.float32(vectors),
        origin=origin,
    )


def sequence(people, frames, group=0):
    return [image(people, group=group, origin=f"{group}-{frame}.jpg") for frame in range(frames)]


def test_a_box_is_cut_with_its_surroundings_and_the_border_is_repeated_beyond_the_image():
    picture = np.zeros((40, 20, 3), np.uint8)
    picture[:, :10] = 200
    crop = cut(picture, np.array([0, 10, 10, 30], np.float32), 2.0, (20, 40))
    assert (crop[:, :15] == 200).all()  # the box, and what is left of the image
    assert (crop[:, 15:] == 0).all()
    whole = cut(picture, np.array([0, 0, 20, 40], np.float32), 1.0, (20, 40))
    np.testing.assert_array_equal(whole, picture)


def test_ignored_small_unknown_and_rare_people_are_left_out_and_the_rest_are_numbered():
    images = [image([3, 7, 9], ignore=[2]), image([7, 3, 5, -1])]
    images.append(replace(image([5]), tlbr=np.array([[10, 20, 20, 30]], np.float32)))
    table = cut_crops(images, CONFIG, SIZE)
    assert table.identity.tolist() == [0, 1, 1, 0]
    assert table.num_identities == 2
    assert table.pixels.shape == (4, 3, round(64 * 1.3), round(32 * 1.3))
    centre = table.pixels[:, 0, 40, 20].tolist()
    assert centre == [50, 90, 90, 50]


def test_unknown_people_are_kept_for_the_teacher_whose_vectors_are_centred():
    vectors = [[1, 0, 1], [0, 1, 1], [1, 1, 1]]
    images = [image([0, 1, -1], vectors=vectors), image([0, 1, -1])]
    without = cut_crops(images, CONFIG, SIZE)
    assert (without.identity >= 0).all()
    table = cut_crops(images, replace(CONFIG, unknown=0.25), SIZE)
    assert table.identity.tolist() == [0, 1, -1, 0, 1]
    assert table.teacher.norm(dim=1).tolist() == pytest.approx([1, 1, 1, 0, 0])
    assert (table.teacher[0] @ table.teacher[1]).item() < 0  # although their cosine was .5
    stream = CropStream(table, [1.0], replace(CONFIG, unknown=0.25), batch=8)
    batch = stream.batch_at(0)
    assert (stream.num_people, stream.num_unknown) == (3, 2)
    assert batch.identity.tolist()[6:] == [-1, -1]


def test_too_few_people_or_too_small_a_batch_are_refused_in_one_line():
    with pytest.raises(ValueError, match="identities: got 1 people to learn from, an embedder"):
        cut_crops([image([4]), image([4, 5])], CONFIG, SIZE)
    table = cut_crops(sequence([0, 1], 2), CONFIG, SIZE)
    with pytest.raises(ValueError, match="batch: got 3 with 0 unknown ones, expected two people"):
        CropStream(table, [1.0], CONFIG, batch=3)


def streams(config=CONFIG, **settings):
    images = sequence([0, 1, 2], 12, 0) + sequence([10, 11], 3, 1)
    return CropStream(cut_crops(images, config, SIZE), [3.0, 1.0], config, batch=8, **settings)


def test_a_batch_holds_k_sightings_of_p_people_and_depends_on_seed_and_step_alone():
    stream = streams()
    for step in range(6):
        identity = stream.batch_at(step).identity.reshape(4, 2)
        assert (identity[:, 0] == identity[:, 1]).all()
        assert len(set(identity[:, 0].tolist())) == 4  # nobody twice
    first, again = stream.batch_at(3), streams().batch_at(3)
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.chances, again.chances)
    assert not torch.equal(first.chances, streams(seed=1).batch_at(3).chances)
    steps = stream.from_step(2)
    assert [next(steps)[0], next(steps)[0]] == [2, 3]


def test_neighbours_come_from_one_source_and_sources_are_drawn_by_weight():
    config = replace(CONFIG, neighbours=2)
    stream = CropStream(
        cut_crops(sequence([0, 1, 2], 4, 0) + sequence([10, 11, 12], 4, 1), config, SIZE),
        [9.0, 1.0],
        config,
        batch=4,
    )
    pairs = [stream.batch_at(step).identity[::2].tolist() for step in range(60)]
    assert all((a < 3) == (b < 3) for a, b in pairs)
    assert 0.75 < np.mean([a < 3 for a, _ in pairs]) < 1


def test_sightings_are_farther_apart_in_time_if_that_is_wanted():
    def mean_distance(far):
        config = replace(CONFIG, far=far)
        stream = CropStream(cut_crops(sequence([0, 1], 30), config, SIZE), [1.0], config, batch=4)
        apart = []
        for step in range(60):
            times = [int(name[2:-4]) for name in stream.batch_at(step).origins]
            apart += [abs(times[0] - times[1]), abs(times[2] - times[3])]
        assert min(apart) > 0  # different sightings
        return np.mean(apart)

    assert mean_distance(1.0) > 1.2 * mean_distance(0.0)


def test_without_a_change_a_view_is_the_box():
    table = cut_crops(sequence([0, 5], 2), CONFIG, SIZE)
    crops = as_found(table.pixels, CONFIG.context, SIZE)
    assert crops.shape == (4, 3, 64, 32)
    inner = crops[:, :, 2:-2, 2:-2]
    expected = torch.tensor([20.0, 70, 20, 70]) / 255
    torch.testing.assert_close(inner.mean((1, 2, 3)), expected, atol=1e-3, rtol=0)


def views(number=64, **changes):
    settings = replace(PLAIN, **changes)
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (number, 3, 83, 42), dtype=np.uint8))
    chances = torch.from_numpy(rng.random((number, NUM_CHANCES), np.float32))
    plain = as_found(pixels, 1.3, SIZE)
    return make_views(pixels, chances, settings, 1.3, SIZE, 2), plain


def test_flipped_views_are_mirrored_and_about_half_of_them():
    seen, plain = views(flip=0.5)
    mirrored = (seen - plain.flip(3)).abs().amax((1, 2, 3)) < 1e-4
    same = (seen - plain).abs().amax((1, 2, 3)) < 1e-4
    assert (mirrored ^ same).all()
    assert 0.3 < mirrored.float().mean() < 0.7


def test_hidden_parts_are_plain_or_another_person_s_and_the_rest_is_as_it_was():
    seen, plain = views(erase=1.0)
    changed = ((seen - plain).abs() > 1e-6).any(1)
    share = changed.float().mean((1, 2))
    assert (share > 0).all()
    assert share.max() <= 0.6
    others = plain.roll(2, 0)
    from_others = ((seen - others).abs() < 1e-6).all(1) & changed
    whole = from_others.sum((1, 2)) == changed.sum((1, 2))
    assert 0.2 < whole.float().mean() < 0.8  # the others are plain


def test_light_and_coarseness_keep_values_in_range_and_differ_between_the_crops():
    seen, plain = views(light=0.5, tint=0.2, saturation=(0.2, 1.6), coarse=0.5)
    assert seen.min() >= 0
    assert seen.max() <= 1
    difference = (seen - plain).abs().mean((1, 2, 3))
    assert len(set(difference.tolist())) == len(difference)
    coarse, _ = views(coarse=1.0)
    assert coarse.std() < 0.8 * plain.std()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sightings": 1}, "crops sightings: got 1, expected 2 or more"),
        ({"context": 0.5}, "crops context: got 0.5, expected 1 to 2"),
        ({"unknown": 1.0}, "crops unknown: got 1.0, expected 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_refused_in_one_line(settings, message):
    with pytest.raises(ValueError, match=message):
        CropConfig(**settings)
    with pytest.raises(ValueError, match="views flip: got 2, expected 0 to 1"):
        CropViews(flip=2)
