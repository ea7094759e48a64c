import cv2
import numpy as np
import pytest

from pipelines.labelled_images import (
    LabelledImage,
    Source,
    add_pseudo_labels,
    read_source,
    render_scenes,
    with_unique_identities,
)


def write_image(path, size=(80, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(path), rng.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def sequence(tmp_path):
    folder = tmp_path / "SEQ-01"
    for number in range(1, 5):
        write_image(folder / "img1" / f"{number:06d}.jpg", (200, 100))
    rows = [
        "1,7,11,21,30,60,1,1,1.0",  # a pedestrian
        "1,8,50,21,30,60,1,1,0.1",  # nearly hidden
        "1,9,90,21,30,60,0,8,1.0",  # a distractor
        "1,3,120,21,30,60,1,3,1.0",  # a car: not ours
        "3,7,13,21,30,60,1,1,1.0",
    ]
    (folder / "gt").mkdir()
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")
    return folder


def test_a_sequence_is_read_with_the_benchmarks_rules(sequence):
    source = Source(kind="sequence", path=sequence.name, every=2)
    first, second = read_source(sequence.parent, source, 0, 100)
    assert first.image.shape == (50, 100, 3)
    np.testing.assert_allclose(first.tlbr[0], [5, 10, 20, 40])  # 1-based px, halved
    assert first.ignore.tolist() == [False, True, True]
    assert second.identity.tolist() == [7]


def test_boxes_of_a_csv_and_images_without_rows(tmp_path):
    folder = tmp_path / "park"
    write_image(folder / "images" / "a.jpg")
    write_image(folder / "images" / "b.jpg")
    (folder / "park.csv").write_text("image,x1,y1,x2,y2,id\na.jpg,1,2,30,50,-1\na.jpg,5,5,9,40,4\n")
    a, b = read_source(tmp_path, Source(kind="boxes", path="park", squashed=True), 2, 500)
    assert a.tlbr.tolist() == [[1, 2, 30, 50], [5, 5, 9, 40]]
    assert a.identity.tolist() == [-1, 4]
    assert a.squashed
    assert len(b.tlbr) == 0


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (Source(kind="nonsense", path="park"), "source kind: got 'nonsense'"),
        (Source(kind="frames", path="nothing.mp4"), "no image found"),
    ],
)
def test_a_source_that_cannot_be_read_is_named(tmp_path, source, message):
    with pytest.raises(ValueError, match=message):
        read_source(tmp_path, source, 0, 500)


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


def test_rendered_scenes_carry_truth():
    images = render_scenes(1, 3)
    assert len(images) == 4
    assert sum(len(image.tlbr) for image in images) > 10
    assert all(image.group == 3 for image in images)
