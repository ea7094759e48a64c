"""Training on what was annotated in CVAT, or is listed in a COCO file."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_videos import read_number, write_video
from planted_out import SIZE, video_of, write_tracks

from jde_ray.pipelines.conversion.convert import ConvertConfig, convert
from jde_ray.pipelines.formats.exchange import cvat
from jde_ray.pipelines.formats.exchange.video_tracks import Choices
from jde_ray.pipelines.formats.label_files import BadDataError, LabelErrors
from jde_ray.pipelines.training.data.sources import read_source
from jde_ray.pipelines.training.source import Source

ROWS = [
    (0, 4, 10.0, 5.0, 30.0, 55.0, 0.9),
    (1, 4, 12.0, 5.0, 32.0, 55.0, 0.9),
    (3, 6, 40.0, 5.0, 60.0, 55.0, 0.9),
]
SMALL = (96, 64)


def write_cvat(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    video = video_of(ROWS, size=SMALL, num_frames=5)
    ((_, text),) = cvat.write(video, Choices()).items()
    (folder / "annotations.xml").write_bytes(text)
    return folder


def write_coco(tmp_path: Path, *uris: str) -> Path:
    """Two conversions' worth of frames and their pictures, as ffmpeg would extract them."""
    for uri in uris:
        write_tracks(tmp_path / "run", ROWS, uri, num_frames=4)
    folder = tmp_path / "coco"
    convert(str(tmp_path / "run"), str(folder), ConvertConfig(to="coco"))
    for uri in uris:
        place = folder / "images" / Path(uri).stem
        place.mkdir(parents=True)
        for frame in range(1, 5):
            picture = np.full((SIZE[1], SIZE[0], 3), 10 * frame, np.uint8)
            cv2.imwrite(str(place / f"{frame:06d}.jpg"), picture)
    return folder / "annotations.json"


def test_frames_of_a_coco_file_are_read_with_their_people(tmp_path: Path):
    write_coco(tmp_path, "/v/door.mp4")
    source = Source(kind="coco", path="coco/annotations.json", video=True)
    images = read_source(tmp_path, source, 3, 320)
    assert [len(image.tlbr) for image in images] == [1, 1, 0, 1]
    assert [image.identity.tolist() for image in images] == [[4], [4], [], [6]]
    assert len({image.sequence for image in images}) == 1
    opened = images[1].open()
    assert opened.image.shape == (180, 320, 3)
    np.testing.assert_allclose(opened.tlbr, [[6, 2.5, 16, 27.5]], atol=0.01)
    assert opened.image.mean() == pytest.approx(20, abs=2)
    every = Source(kind="coco", path="coco/annotations.json", every=3)
    assert [image.identity.tolist() for image in read_source(tmp_path, every, 0, 320)] == [[4], [6]]


def test_one_number_in_two_videos_is_two_people(tmp_path: Path):
    write_coco(tmp_path, "/v/door.mp4", "/v/hall.mp4")
    images = read_source(tmp_path, Source(kind="coco", path="coco/annotations.json"), 0, 320)
    people = [image.identity.tolist() for image in images]
    assert people == [[0], [0], [], [1], [2], [2], [], [3]]


def test_crowds_are_ignored_and_other_classes_are_background(tmp_path: Path):
    path = write_coco(tmp_path, "/v/door.mp4")
    content = json.loads(path.read_text())
    content["categories"].append({"id": 2, "name": "dog"})
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["category_id"] = 2
    del content["annotations"][2]["track_id"]
    path.write_text(json.dumps(content))
    images = read_source(tmp_path, Source(kind="coco", path="coco/annotations.json"), 0, 320)
    assert [image.ignore.tolist() for image in images] == [[True], [], [], [False]]
    assert images[3].identity.tolist() == [-1]


def test_what_is_missing_or_outside_names_the_file(tmp_path: Path):
    path = write_coco(tmp_path, "/v/door.mp4")
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = [5000, 5, 10, 10]
    path.write_text(json.dumps(content))
    (tmp_path / "coco" / "images" / "door" / "000002.jpg").unlink()
    source = Source(kind="coco", path="coco/annotations.json", identities=6)
    with pytest.raises(BadDataError) as caught:
        read_source(tmp_path, source, 0, 320)
    for text in (
        "missing image: there is no door/000002.jpg",
        "box outside the image: frame 0 (from 0): got 5000,5,5010,15",
        "identity: frame 3 (from 0): got 6, expected below 6",
    ):
        assert text in str(caught.value)
    problems = LabelErrors()
    images = read_source(tmp_path, source, 0, 320, problems)
    assert [image.identity.tolist() for image in images] == [[], [], [-1]]
    assert sum(problems.counts.values()) == 3


def test_a_video_beside_its_cvat_file_is_decoded(tmp_path: Path):
    folder = write_cvat(tmp_path / "door")
    write_video(folder / "door.mp4", 5, size=SMALL)
    source = Source(kind="cvat", path="door/annotations.xml")
    images = read_source(tmp_path, source, 1, 48)
    assert [read_number(image.image) for image in images] == [0, 1, 2, 3, 4]
    assert [image.identity.tolist() for image in images] == [[4], [4], [], [6], []]
    np.testing.assert_allclose(images[1].tlbr, [[6, 2.5, 16, 27.5]])  # halved
    assert {image.sequence for image in images} == {str(folder / "door.mp4")}
    alone = Source(kind="cvat", path="door/annotations.xml", every=2, video=False)
    assert [image.sequence for image in read_source(tmp_path, alone, 1, 48)] == [""] * 3


def test_frames_that_cvat_exported_are_used_first(tmp_path: Path):
    folder = write_cvat(tmp_path / "door")
    (folder / "images").mkdir()
    for frame in range(4):
        picture = np.full((SMALL[1], SMALL[0], 3), 50 * frame, np.uint8)
        cv2.imwrite(str(folder / "images" / f"frame_{frame:06d}.PNG"), picture)
    images = read_source(tmp_path, Source(kind="cvat", path="door/annotations.xml"), 1, 96)
    assert [image.identity.tolist() for image in images] == [[4], [4], [], [6]]
    opened = images[3].open()
    assert opened.image.mean() == 150
    np.testing.assert_allclose(opened.tlbr, [[40, 5, 60, 55]], atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "path", "message"),
    [
        ("cvat", "door/annotations.xml", "there is no images/ and no door.mp4 beside it"),
        ("cvat", "door/none.xml", "not a readable XML file"),
        ("coco", "door/none.json", "not a readable COCO file"),
    ],
)
def test_a_source_that_is_not_there_is_one_line(tmp_path: Path, kind: str, path: str, message: str):
    write_cvat(tmp_path / "door")
    with pytest.raises(BadDataError, match=message) as caught:
        read_source(tmp_path, Source(kind=kind, path=path), 0, 320)
    assert "\n" not in str(caught.value)
