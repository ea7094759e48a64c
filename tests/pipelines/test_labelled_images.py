import numpy as np

from pipelines.labelled_images import LabelledImage, add_pseudo_labels, with_unique_identities


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


def test_ignored_boxes_have_no_identity():
    images, count = with_unique_identities([[labelled(0, [5, 6], [True, False])]])
    assert count == 1
    assert images[0].identity.tolist() == [-1, 0]


class FixedDetector:
    def detect(self, image, score_threshold):
        boxes = np.array([[1, 1, 5, 7], [20, 1, 30, 40], [50, 1, 60, 40]], np.float32)
        return boxes, np.array([0.9, 0.8, 0.3], np.float32)


def test_pseudo_labels_add_people_and_ignore_what_is_unsure():
    image = add_pseudo_labels(labelled(0, [5]), FixedDetector(), 0.5)
    assert image.identity.tolist() == [5, -1, -1]
    assert image.ignore.tolist() == [False, False, True]
