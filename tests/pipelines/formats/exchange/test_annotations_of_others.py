"""CVAT's and COCO's files as other tools write them, and files that are not what they seem."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jde_ray.pipelines.formats.exchange.annotated import raise_refusal
from jde_ray.pipelines.formats.exchange.coco_reader import read_coco, video_names
from jde_ray.pipelines.formats.exchange.cvat_reader import read_cvat

# as CVAT exports it: every frame, `keyframe` 0 where it interpolated, two labels
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>7</id><name>door &amp; "gate"</name><size>10</size><mode>interpolation</mode>
    <labels><label><name>person</name><color>#c06060</color><attributes><attribute>
      <name>hat</name></attribute></attributes></label><label><name>dog</name></label></labels>
    <original_size><width>640</width><height>360</height></original_size>
    <source>door.mp4</source></task><dumped>2026-01-01</dumped></meta>
  <track id="0" label="person" source="manual">
    <box frame="2" keyframe="1" outside="0" occluded="0" xtl="10.00" ytl="20.00" xbr="30.00" ybr="60.00" z_order="0">
      <attribute name="hat">no</attribute></box>
    <box frame="3" keyframe="0" outside="0" occluded="0" xtl="12.00" ytl="20.00" xbr="32.00" ybr="60.00" z_order="0"/>
    <box frame="4" keyframe="1" outside="1" occluded="0" xtl="12.00" ytl="20.00" xbr="32.00" ybr="60.00" z_order="0"/>
    <box frame="6" keyframe="1" outside="0" occluded="1" xtl="50.00" ytl="20.00" xbr="70.00" ybr="60.00" z_order="0"/>
    <box frame="8" keyframe="1" outside="0" occluded="1" xtl="54.00" ytl="24.00" xbr="74.00" ybr="64.00" z_order="0"/>
  </track>
  <track id="1" label="dog" source="manual">
    <box frame="2" keyframe="1" outside="0" occluded="0" xtl="1.00" ytl="2.00" xbr="3.00" ybr="4.00" z_order="0"/>
  </track>
</annotations>
"""  # noqa: E501
COCO: dict[str, Any] = {
    "images": [
        {"id": 9, "file_name": "frame_000000.png", "width": 640, "height": 360},
        {"id": 4, "file_name": "frame_000001.png", "width": 640, "height": 360},
    ],
    "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
    "annotations": [
        {"id": 1, "image_id": 4, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 0,
         "attributes": {"track_id": 5, "occluded": False}},
        {"id": 2, "image_id": 9, "category_id": 2, "bbox": [1, 2, 3, 4], "instance_id": 6},
        {"id": 3, "image_id": 9, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 1},
    ],
}  # fmt: skip


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def cvat(tmp_path: Path, text: str) -> Any:
    return read_cvat(write(tmp_path / "a.xml", text), raise_refusal("a.xml"))


def test_a_cvat_export_is_read_with_gaps_and_labels(tmp_path: Path):
    found = cvat(tmp_path, CVAT)
    assert found.source == "door.mp4"
    rows, is_person = found.video.rows, found.video.is_person
    assert rows.frame[is_person].tolist() == [2, 3, 6, 7, 8]
    assert rows.track_id.tolist() == [0, 0, 0, 0, 0, 1]
    assert rows.tlbr[3].tolist() == [52, 22, 72, 62]  # between its keyframes
    assert found.video.pictures[0] == (2, "", 640, 360)
    assert is_person.tolist() == [True] * 5 + [False]


def test_the_only_label_is_people_whatever_its_name(tmp_path: Path):
    text = CVAT.replace('label="person"', 'label="dog"').replace("<name>person", "<name>dog")
    assert cvat(tmp_path, text).video.is_person.all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<track id=", "<image id=", "got CVAT for images"),
        ("<annotations>", "<annotations", "not a readable XML file"),
        ('xtl="10.00"', 'xtl="nan"', "track 0, frame 2: got xtl=nan"),
        ('xtl="10.00"', 'rotation="30" xtl="10.00"', "rotation=30, expected an upright box"),
        ('xtl="10.00"', 'xtl="9000"', "track 0, frame 2: got xtl=9000, .*expected an upright box"),
        ('frame="2"', 'frame="-2"', "got frame '-2', expected a whole number from 0"),
        ('id="0"', 'id="zero"', "got id 'zero'"),
        ('frame="3"', 'frame="2"', "track 0: got two boxes in frame 2"),
        ('frame="3"', 'frame="300000000"', "track 0: got 2"),
        ("<width>640", "<width>wide", "got width 'wide'"),
    ],
)
def test_what_is_wrong_with_cvat_is_one_line(tmp_path: Path, old: str, new: str, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        cvat(tmp_path, CVAT.replace(old, new, 1))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<annotation><object/></annotation>", "got other XML"),
        ("<annotations><image id='0' name='a'/></annotations>", "got CVAT for images"),
        ("", "not a readable XML"),
        ('<!DOCTYPE a [<!ENTITY b "bb">]><annotations>&b;</annotations>', "declares entities"),
    ],
)
def test_other_xml_is_refused(tmp_path: Path, text: str, message: str):
    with pytest.raises(ValueError, match=message):
        cvat(tmp_path, text)


@settings(max_examples=150)
@given(
    place=st.integers(0, len(CVAT.encode()) - 1),
    cut=st.integers(0, 40),
    text=st.binary(max_size=6) | st.sampled_from([b"1e309", b"-1", b"nan", b"9" * 5000, b"</box>"]),
)
def test_any_damage_is_read_or_refused_in_one_line(
    place: int, cut: int, text: bytes, tmp_path_factory: pytest.TempPathFactory
):
    whole = CVAT.encode()
    path = tmp_path_factory.getbasetemp() / "any.xml"
    path.write_bytes(whole[:place] + text + whole[place + cut :])
    said: list[str] = []
    try:
        assert np.isfinite(read_cvat(path, raise_refusal("any.xml")).video.rows.tlbr).all()
    except ValueError as error:
        said.append(str(error))
    assert all("any.xml" in one and "\n" not in one for one in said)


def test_a_track_without_a_box_is_nobody(tmp_path: Path):
    text = CVAT.replace("</annotations>", '<track id="2" label="person"></track></annotations>')
    assert set(cvat(tmp_path, text).video.rows.track_id.tolist()) == {0, 1}


def test_a_polygon_is_not_silently_left_out(tmp_path: Path):
    text = CVAT.replace("</track>", '<polygon frame="1" points="1,2;3,4"/></track>', 1)
    with pytest.raises(ValueError, match="track 0: got polygon, expected box"):
        cvat(tmp_path, text)


def test_a_coco_file_of_cvat_is_read(tmp_path: Path):
    path = write(tmp_path / "a.json", COCO)
    assert video_names(path) == []
    (video,) = read_coco(path, raise_refusal("a.json"))
    assert [(p.frame, p.file) for p in video.pictures] == [
        (0, "frame_000000.png"), (1, "frame_000001.png"),
    ]  # fmt: skip
    assert video.rows.frame.tolist() == [0, 0, 1]
    assert video.rows.track_id.tolist() == [6, -1, 5]
    assert video.rows.tlbr[2].tolist() == [1, 2, 31, 42]
    assert video.is_person.tolist() == [False, True, True]
    assert video.is_ignored.tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("names", "frames"),
    [
        (["img1/000001.jpg", "img1/000003.jpg"], [0, 2]),
        (["0.jpg", "1.jpg"], [0, 1]),
        (["cam2/frame_000004.png", "cam2/frame_000005.png"], [4, 5]),
        (["door_07_x.jpg", "door_08_x.jpg"], [6, 7]),
    ],
)
def test_frames_are_numbered_by_file_names(tmp_path: Path, names: list[str], frames: list[int]):
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    path = write(tmp_path / "a.json", {"images": images})
    (video,) = read_coco(path, raise_refusal("a.json"))
    assert [picture.frame for picture in video.pictures] == frames


def test_videos_are_told_apart_by_id_and_named_without_the_suffix_of_a_file(tmp_path: Path):
    names = ("/a/door.MP4", "b/door", "hall.v2")
    content = {
        "videos": [{"id": i, "name": name} for i, name in enumerate(names)],
        "images": [{"id": i, "video_id": i, "frame_id": 4} for i in range(len(names))],
    }
    path = write(tmp_path / "a.json", content)
    found = read_coco(path, raise_refusal("a.json"))
    assert [video.name for video in found] == video_names(path) == ["door", "door", "hall.v2"]
    assert [[picture.frame for picture in video.pictures] for video in found] == [[4]] * 3


def changed(place: str, number: int, **values: Any) -> dict[str, Any]:
    content = json.loads(json.dumps(COCO))
    content[place][number] |= values
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[", "not a readable COCO file"),
        ("[" * 100_000, "not a readable COCO file"),
        ([], "got other JSON"),
        ({"images": {}}, "got other JSON"),
        ({"images": [3]}, "got lists of other things"),
        ({"images": [{}]}, "number 0 has no id"),
        ({"images": [], "categories": [{"name": "person"}]}, "a category has no id"),
        (changed("images", 0, id=4), "got id 4 twice"),
        (changed("images", 0, file_name="frame_000001.png"), "both of frame 1"),
        (changed("images", 0, file_name="door.png"), "got file_name 'door', expected a number"),
        (changed("images", 0, frame_id=-5), "got frame_id -5, expected 0 to 2147483647"),
        (changed("images", 0, frame_id=10**30), "got frame_id 10000"),
        (changed("images", 0, frame_index=1.5), "got frame_index 1.5"),
        (changed("annotations", 0, image_id=77), "annotation 1: got image_id 77"),
        (changed("annotations", 0, image_id=[1]), "annotation 1: got image_id"),
        (changed("annotations", 0, bbox=[1, 2, 3]), "got bbox"),
        (changed("annotations", 0, bbox=[1, 2, -3, 4]), "got bbox"),
        (changed("annotations", 0, bbox=[1, 2, 3, float("inf")]), "got bbox"),
        (changed("annotations", 0, track_id="five"), "got track_id 'five'"),
        (changed("annotations", 0, track_id=1.5), "got track_id 1.5"),
        (changed("annotations", 0, track_id=float("inf")), "got track_id inf"),
    ],
)
def test_what_is_wrong_with_coco_is_one_line(tmp_path: Path, content: Any, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        read_coco(write(tmp_path / "a.json", content), raise_refusal("a.json"))
    assert "\n" not in str(caught.value)


def test_a_lenient_reader_keeps_the_rest(tmp_path: Path):
    content = changed("annotations", 0, bbox="wide")
    found: list[tuple[str, str]] = []
    (video,) = read_coco(
        write(tmp_path / "a.json", content), lambda kind, detail: found.append((kind, detail))
    )
    assert len(video.rows) == 2
    assert [kind for kind, _ in found] == ["box"]


KEYS = ["name", "file_name", "width", "height", "attributes", "iscrowd", "frame_id", "bbox"]
KEYS += ["id", "image_id", "category_id", "video_id", "track_id", "instance_id", "frame_index"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner),
    max_leaves=12,
)


@settings(max_examples=60)
@given(place=st.sampled_from([*COCO, "videos"]), key=st.sampled_from(KEYS), value=JSON, other=JSON)
@example(place="annotations", key="bbox", value=[10**400, 1, 1, 1], other=None)
@example(place="images", key="file_name", value="9" * 30, other=None)
@example(place="images", key="frame_id", value=10**30, other=None)
@example(place="categories", key="id", value=[], other=None)
@example(place="annotations", key="category_id", value={}, other=None)
@example(place="videos", key="id", value=[], other=None)
def test_any_json_is_read_or_refused_in_one_line(
    place: str, key: str, value: Any, other: Any, tmp_path_factory: pytest.TempPathFactory
):
    folder = tmp_path_factory.getbasetemp()
    first = {**COCO, "videos": [{"id": 1, "name": "door"}]}[place][0]
    for content in ({**COCO, place: [{**first, key: value}]}, {**COCO, place: other}):
        path = write(folder / "any.json", content)
        said, videos = [], []
        try:
            videos = read_coco(path, raise_refusal("any.json"))
        except ValueError as error:
            said.append(str(error))
        assert all("\n" not in text for text in said)
        assert all(np.isfinite(video.rows.tlbr).all() for video in videos)


def test_names_in_messages_stay_in_one_line(tmp_path: Path) -> None:
    image = {"file_name": "\n.jpg"}
    box = {"image_id": 9, "category_id": 1, "bbox": [1, 2, 3, 4]}
    wrong: dict[str, list[dict[str, Any]]] = {
        "images": [{**COCO["images"][0], **image, "id": "a\nb"}],
        "annotations": [{**box, "id": "a\nb", "image_id": 1}, {**box, "id": "\n", "track_id": {}}],
    }
    for name, entries in wrong.items():
        path = write(tmp_path / "gt.json", {**COCO, name: COCO[name] + entries})
        messages: list[str] = []
        read_coco(path, lambda kind, detail, told=messages: told.append(detail))
        assert len(messages) == len(entries)
        assert all(one.isprintable() for one in messages)
