"""Labelled pictures of every layout as something that a network is scored on."""

import json

import cv2
import numpy as np
import pytest

from jde_ray.pipelines.training.data.scored_lists import read_scored
from jde_ray.pipelines.training.source import Source

PEOPLE = {  # by picture: centre, size and identity, as shares
    0: [(0.5, 0.5, 0.2, 0.4, 7), (0.25, 0.5, 0.1, 0.2, -1)],
    1: [],
    2: [(0.6, 0.5, 0.2, 0.4, 7)],
}
WIDTH, HEIGHT = 80, 40


def corners(number):
    boxes = [(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h, _ in PEOPLE[number]]
    return np.array(boxes).reshape(-1, 4)


def pictures(folder):
    folder.mkdir(parents=True)
    for number in PEOPLE:
        picture = np.full((HEIGHT, WIDTH, 3), 40 * number, np.uint8)
        cv2.imwrite(str(folder / f"{number}.jpg"), picture)


def unified(root):
    pictures(root / "SET" / "images")
    labels = root / "SET" / "labels_with_ids"
    labels.mkdir()
    for number, people in PEOPLE.items():
        rows = [f"0 {identity} {x} {y} {w} {h}\n" for x, y, w, h, identity in people]
        (labels / f"{number}.txt").write_text("".join(rows))
    names = [f"SET/images/{number}.jpg\n" for number in PEOPLE]
    (root / "set.val").write_text("".join(names))
    return Source(kind="list", path="set.val")


def boxes(root):
    pictures(root / "park" / "images")
    rows = ["image,x1,y1,x2,y2,id"]
    for number, people in PEOPLE.items():
        for box, (*_, identity) in zip(corners(number), people, strict=True):
            x1, y1, x2, y2 = box * np.tile([WIDTH, HEIGHT], 2)
            rows.append(f"{number}.jpg,{x1},{y1},{x2},{y2},{identity}")
    rows.append("2.jpg,0,0,20,20,-2")  # a group
    (root / "park" / "park.csv").write_text("\n".join(rows) + "\n")
    return Source(kind="boxes", path="park")


def coco(root):
    pictures(root / "images")
    images = [{"id": n, "file_name": f"{n}.jpg", "width": WIDTH, "height": HEIGHT} for n in PEOPLE]
    annotations = []
    for number, people in PEOPLE.items():
        for box, (*_, identity) in zip(corners(number), people, strict=True):
            x1, y1, x2, y2 = (box * np.tile([WIDTH, HEIGHT], 2)).tolist()
            one = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0}
            one |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": 1}
            annotations.append(one | ({"track_id": identity} if identity >= 0 else {}))
    whole = {"images": images, "annotations": annotations}
    whole["categories"] = [{"id": 1, "name": "person"}]
    (root / "set.json").write_text(json.dumps(whole))
    return Source(kind="coco", path="set.json")


@pytest.mark.parametrize("write", [unified, boxes, coco])
def test_labels_of_every_layout_are_the_same_people(tmp_path, write):
    one = read_scored(tmp_path, write(tmp_path))
    assert len(one.frames.pictures) == 3  # the one without people too
    people = one.truth.people
    assert people.frame.tolist() == [0, 0, 2]
    assert people.track_id.tolist() == [7, -1, 7]
    wanted = np.concatenate([corners(0), corners(2)])
    np.testing.assert_allclose(people.tlbr, wanted, atol=1e-6)
    assert len(one.truth.ignore) == (write is boxes)
    assert one.wanting("embeddings").people.track_id.tolist() == [7, 7]
    assert len(one.wanting("boxes").people) == 0


def test_every_second_picture_and_what_is_wrong(tmp_path):
    source = unified(tmp_path)
    half = read_scored(tmp_path, Source(kind="list", path=source.path, every=2))
    assert half.truth.people.frame.tolist() == [0, 0, 1]
    (tmp_path / "SET" / "labels_with_ids" / "2.txt").write_text("0 7 0.5 0.5\n")
    with pytest.raises(ValueError, match=r"^labels: .*2\.txt") as refused:
        read_scored(tmp_path, source)
    assert "skip-bad" not in str(refused.value)  # which `jde eval` does not have
    (tmp_path / "walk.xml").write_text("<annotations/>")
    with pytest.raises(ValueError, match="annotates a video file; expected images/ beside it"):
        read_scored(tmp_path, Source(kind="cvat", path="walk.xml"))
