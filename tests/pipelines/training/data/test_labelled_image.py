from dataclasses import replace

import numpy as np
from places import ROOT

from jde_ray.pipelines.training.data.labelled_image import (
    LEAST_TO_KNOW_PX,
    LabelledImage,
    tell_apart,
    with_unique_identities,
)
from jde_ray.pipelines.training.data.teaching import add_pseudo_labels
from jde_ray.pipelines.training.recipe_file import read_recipe


def labelled(group, identity, ignore=None):
    count = len(identity)
    return LabelledImage(
        np.zeros((8, 8, 3), np.uint8),
        np.tile(np.array([[1, 1, 5, 7]], np.float32), (count, 1)),
        np.array(identity),
        np.zeros(count, bool) if ignore is None else np.array(ignore),
        group,
    )


def test_one_number_is_one_person_in_one_source_only():
    groups = [[labelled(0, [5, -1]), labelled(0, [5, 6])], [labelled(1, [5])]]
    images, count = with_unique_identities(groups)
    assert count == 3
    assert [image.identity.tolist() for image in images] == [[0, -1], [0, 1], [2]]


def test_strangers_are_persons_of_their_own_if_they_are_large_enough():
    high, low = (labelled(0, identity) for identity in ([-1, 7, -1, -1], [-1, 2]))
    tall = np.array([[0, 0, 9, LEAST_TO_KNOW_PX]] * 3 + [[0, 0, 9, LEAST_TO_KNOW_PX - 1]])
    high = replace(high, tlbr=tall.astype(np.float32), ignore=np.array([False, False, True, False]))
    found = tell_apart([high, low, replace(high, identity=np.full(4, -1))])
    assert [one.identity.tolist() for one in found] == [[8, 7, -1, -1], [-1, 2], [9, 10, -1, -1]]
    assert high.identity.tolist() == [-1, 7, -1, -1]  # not changed


def test_ignored_boxes_have_no_identity():
    images, count = with_unique_identities([[labelled(0, [5, 6], [True, False])]])
    assert count == 1
    assert images[0].identity.tolist() == [-1, 0]


def test_declared_numbers_stay_what_they_are_as_in_the_published_code():
    groups = [[labelled(0, [3, 1]), labelled(0, [0])], [labelled(1, [2, -1])], [labelled(2, [0])]]
    images, count = with_unique_identities(groups, [5, None, 3])
    # behind the five of the first source comes the only person of the second, then three
    assert [image.identity.tolist() for image in images] == [[3, 1], [0], [5, -1], [6]]
    assert count == 5 + 1 + 3 + 1


def test_the_published_lists_give_the_published_classifiers_classes():
    recipe = read_recipe(ROOT / "jobs" / "recipes" / "train_published.yaml")
    declared = [source.identities for source in recipe.sources]
    # one person of the last list with people: 547 + 1043 + 0 + 11931 numbers lie before PRW's
    groups = [[] for _ in declared]
    groups[4] = [labelled(4, [932])]
    (image,), count = with_unique_identities(groups, declared)
    assert count == 14455
    assert image.identity.tolist() == [547 + 1043 + 11931 + 932]


class FixedDetector:
    def detect(self, image, score_threshold):
        boxes = np.array([[1, 1, 5, 7], [20, 1, 30, 40], [50, 1, 60, 40]], np.float32)
        return boxes, np.array([0.9, 0.8, 0.3], np.float32)


def test_pseudo_labels_add_people_and_ignore_what_is_unsure():
    image = add_pseudo_labels(labelled(0, [5]), FixedDetector(), 0.5)
    assert image.identity.tolist() == [5, -1, -1]
    assert image.ignore.tolist() == [False, False, True]
