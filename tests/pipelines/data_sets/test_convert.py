from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from original_layouts import GT, WRITERS, convert_tree, crowdhuman, labels, mot, put, turned_jpeg

from jde_ray.pipelines.data_sets import unified
from jde_ray.pipelines.data_sets.convert import convert, number_people
from jde_ray.pipelines.data_sets.kinds import KINDS
from jde_ray.pipelines.data_sets.pictures import Rules
from jde_ray.pipelines.data_sets.published import SHARED_FOOTAGE, footage, sequence_of
from jde_ray.pipelines.data_sets.records import RECORDS
from jde_ray.pipelines.formats.label_files import BadDataError
from jde_ray.pipelines.training.data.labelled_image import read_image
from jde_ray.pipelines.training.data.sources import read_source
from jde_ray.pipelines.training.source import Source

DIES_AT_THE_FIFTH_PICTURE = """
import os, signal, sys
from pathlib import Path
from jde_ray.pipelines.data_sets import convert, kinds, unified

place, placed = unified.place, []

def die_at_the_fifth(image, target):
    placed.append(target)
    if len(placed) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
    place(image, target)

unified.place, root = die_at_the_fifth, Path(sys.argv[1])
convert.convert("mot17", root / "in", root / "out", kinds.KINDS["mot17"].load().RULES)
"""


@pytest.mark.parametrize("name", WRITERS)
def test_lists_are_read_as_training_reads_them(tmp_path: Path, name):
    WRITERS[name](tmp_path / "in")
    rules = {"min_height": 10.0} if name == "caltech" else {}
    for one in convert_tree(name, tmp_path, **rules).lists:
        source = Source(kind="list", path=one.name, identities=one.num_classes)
        images = read_source(tmp_path / "out", source, 0, 1920)
        known = {int(who) for image in images for who in image.identity if who >= 0}
        assert len(images) == one.num_images
        assert sum(len(image.identity) for image in images) == one.num_boxes
        assert (len(known), max(known, default=-1) + 1) == (one.num_identities, one.num_classes)
        assert all(image.open().image.shape == (48, 64, 3) for image in images)


def test_a_second_call_does_nothing_again_and_a_changed_part_is_done_again(tmp_path: Path):
    mot(tmp_path / "in", "MOT17-02-SDP", "MOT17-04-SDP")
    assert convert_tree("mot17", tmp_path).num_before == 0
    images = sorted((tmp_path / "out").rglob("*.jpg"))
    labels_before = {path: path.stat().st_ino for path in (tmp_path / "out").rglob("0*.txt")}
    assert convert_tree("mot17", tmp_path).num_before == 2
    assert {path: path.stat().st_ino for path in labels_before} == labels_before
    put(tmp_path / "in/train/MOT17-04-SDP/gt/gt.txt", "1,1,5,5,9,20,1,1,1\n")
    done = convert_tree("mot17", tmp_path)
    assert (done.num_before, done.lists[0].num_boxes) == (1, 4)
    assert sorted((tmp_path / "out").rglob("*.jpg")) == images
    assert convert_tree("mot17", tmp_path, min_visible=0.5).num_before == 0  # other rules
    images[0].unlink()
    assert convert_tree("mot17", tmp_path, min_visible=0.5).num_before == 1


def test_a_killed_conversion_leaves_no_half_sequence_and_goes_on(tmp_path: Path):
    mot(tmp_path / "in", "MOT17-02-SDP", "MOT17-04-SDP")
    (tmp_path / "out").mkdir()
    killed = subprocess.run(
        [sys.executable, "-c", DIES_AT_THE_FIFTH_PICTURE, str(tmp_path)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    out = tmp_path / "out"
    assert len(list(out.glob(f"{unified.STAGING}*/MOT17/images/train/MOT17-04-SDP/img1/*"))) == 1
    assert not list(out.glob("MOT17/*/train/MOT17-04-SDP"))
    assert len(list(out.glob("MOT17/images/train/MOT17-02-SDP/img1/*"))) == 3
    assert not (out / "mot17.train").exists()
    done = convert_tree("mot17", tmp_path)
    assert (done.num_before, done.lists[0].num_images) == (1, 6)
    assert not list(out.glob(f"{unified.STAGING}*"))


def test_pictures_are_linked_and_otherwise_copied(tmp_path: Path, monkeypatch):
    mot(tmp_path / "in", "MOT17-02-SDP")
    source = tmp_path / "in/train/MOT17-02-SDP/img1/000001.jpg"
    image = tmp_path / "out/MOT17/images/train/MOT17-02-SDP/img1/000001.jpg"

    def fail(*args: object) -> None:
        raise OSError("no links here")

    convert_tree("mot17", tmp_path)
    assert image.samefile(source)
    assert not image.is_symlink()
    monkeypatch.setattr(os, "link", fail)
    convert_tree("mot17", tmp_path, min_visible=0.1)
    assert image.is_symlink()
    monkeypatch.setattr(os, "symlink", fail)
    convert_tree("mot17", tmp_path)
    assert not image.samefile(source)
    assert image.read_bytes() == source.read_bytes()


def test_a_picture_that_exif_would_turn_is_written_without(tmp_path: Path):
    crowdhuman(tmp_path / "in")
    convert_tree("crowdhuman", tmp_path)
    name = "273271,c9db000d5146c15.jpg"
    source = tmp_path / "in/CrowdHuman_train/Images" / name
    assert read_image(source, 999)[0].shape == (64, 48, 3)  # on its side
    image, _ = read_image(tmp_path / "out/CrowdHuman/images/train" / name, 999)
    assert image.shape == (48, 64, 3)
    stored = cv2.imread(str(source), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    assert (image[..., ::-1] == stored).all()
    assert turned_jpeg(1)[:9] == turned_jpeg()[:9]


@pytest.mark.parametrize("name", WRITERS)
def test_a_damaged_set_is_refused_in_one_line_with_file_and_reason(tmp_path: Path, name):
    WRITERS[name](tmp_path / "in")
    file = KINDS[name].load().find(tmp_path / "in", name)[0].files[0]
    file.write_bytes(b"\xff\xfe damaged")
    with pytest.raises(BadDataError, match=rf"{file}: \w+.*--skip-bad leaves") as refused:
        convert_tree(name, tmp_path)
    assert "\n" not in str(refused.value)
    assert not list((tmp_path / "out").rglob("*.txt"))


@pytest.mark.parametrize("data", [b"", b"GIF89a" * 20, turned_jpeg()[:40]])
def test_a_picture_that_is_none_is_refused_with_its_name(tmp_path: Path, data):
    mot(tmp_path / "in", "MOT17-02-SDP")
    put(tmp_path / "in/train/MOT17-02-SDP/img1/000002.jpg", data)
    with pytest.raises(BadDataError, match=r"img1/000002\.jpg: unreadable image: no JPEG"):
        convert_tree("mot17", tmp_path)
    done = convert_tree("mot17", tmp_path, skip_bad=True)
    assert (done.lists[0].num_images, done.problems) == (2, {"unreadable image": 1})
    with pytest.raises(BadDataError):  # what was left out before is refused again
        convert_tree("mot17", tmp_path)


def test_the_description_is_as_the_published_code_reads_it(tmp_path: Path):
    mot(tmp_path / "in", "MOT17-02-SDP")
    WRITERS["cuhksysu"](tmp_path / "in2")
    convert_tree("mot17", tmp_path)
    found = json.loads((tmp_path / "out" / "mot17.json").read_text())
    assert found["root"] == str(tmp_path / "out")
    assert (found["train"], found["test"], found["test_emb"]) == ({"mot17": "mot17.train"}, {}, {})
    assert found["rules"]["numbering"] == "original"
    assert list(found["lists"][0].values()) == ["mot17.train", 3, 3, 2, 4]
    (tmp_path / "in2").rename(tmp_path / "in3")
    (tmp_path / "in").rename(tmp_path / "mot")
    (tmp_path / "in3").rename(tmp_path / "in")
    convert_tree("cuhksysu", tmp_path)
    found = json.loads((tmp_path / "out" / "cuhksysu.json").read_text())
    assert found["train"] == {"cuhksysu": "cuhksysu.train"}
    assert found["test"] == {"cuhksysu": "cuhksysu.test"}
    assert found["test_emb"] == {"cuhksysu": "cuhksysu.val"}
    assert len(labels(tmp_path / "out", "mot17.train")) == 3  # both sets in one folder


def test_a_record_that_is_damaged_means_to_do_it_again(tmp_path: Path):
    mot(tmp_path / "in", "MOT17-02-SDP", text=GT)
    convert_tree("mot17", tmp_path)
    record = tmp_path / "out" / RECORDS / "mot17" / "MOT17-02-SDP.json"
    good, outside = json.loads(record.read_text()), put(tmp_path / "precious.jpg", b"")
    for values in ({"images": 5}, {**good, "images": ["../precious.jpg"]}, [], None):
        record.write_text(json.dumps(values))
        assert convert_tree("mot17", tmp_path).num_before == 0
    assert outside.is_file()


@pytest.mark.parametrize(
    ("numbering", "is_one", "expected"),
    [
        ("original", False, [{7: 1, 9: 2}, {7: 3}]),
        ("compact", False, [{7: 0, 9: 1}, {7: 2}]),
        ("original", True, [{7: 7, 9: 9}, {7: 7}]),
        ("compact", True, [{7: 0, 9: 1}, {7: 0}]),
    ],
)
def test_numbering(numbering, is_one, expected):
    assert number_people([[7, 9], [7]], Rules(numbering=numbering), is_one) == expected


def test_rules_that_a_set_does_not_have_are_refused():
    with pytest.raises(
        ValueError, match=r"min-visible: got 0.5 for prw, .* it has min-height, identities"
    ):
        KINDS["prw"].load().RULES.changed("prw", {"min_visible": 0.5})
    with pytest.raises(ValueError, match=r"min-visible: got 1\.5, expected 0 to 1"):
        KINDS["mot17"].load().RULES.changed("mot17", {"min_visible": 1.5})


def test_pictures_are_not_written_where_they_are_read(tmp_path: Path):
    """Another call by other rules would remove what the first has written: the only copy."""
    own = tmp_path / "data" / "MOT17" / "images"
    mot(own, "MOT17-02-SDP")
    before = sorted(path for path in own.rglob("*") if path.is_file())
    rules = KINDS["mot17"].load().RULES
    (tmp_path / "link").symlink_to(tmp_path / "data")
    for out, skip_bad in ((tmp_path / "data", False), (tmp_path / "link", True)):
        with pytest.raises(BadDataError, match=r"out: got .* expected another folder"):
            convert("mot17", own, out, rules, skip_bad=skip_bad)
    assert sorted(path for path in own.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("name", ["caltech", "citypersons"])
def test_a_class_that_a_set_does_not_have_is_refused(tmp_path: Path, name):
    with pytest.raises(ValueError, match=rf"class: got 'dog' for {name}, expected (person|1) \| "):
        convert_tree(name, WRITERS[name](tmp_path / "in").parent, classes=("dog",))
    assert not list((tmp_path / "out").iterdir())


def test_out_that_is_no_folder_is_refused(tmp_path: Path):
    source, rules = mot(tmp_path / "in", "MOT17-02-SDP"), KINDS["mot17"].load().RULES
    for out in (put(tmp_path / "file", ""), Path("s3://bucket/sets")):
        with pytest.raises(ValueError, match=r"out: got .*, expected a folder"):
            convert("mot17", source, out, rules)


def test_nothing_found_is_refused(tmp_path: Path):
    (tmp_path / "in").mkdir()
    for name in KINDS:
        with pytest.raises(ValueError, match=r"/in: no .* below it"):
            convert_tree(name, tmp_path)


def test_names_of_one_piece_of_footage():
    assert footage("MOT17-05-FRCNN") == footage("ETH-Pedcross2") == footage("eth06")
    assert footage("MOT16-11") == footage("MOT17-11")
    assert footage("Venice-1") != footage("Venice-2")
    assert len({footage(names[0]) for names in SHARED_FOOTAGE}) == len(SHARED_FOOTAGE)
    assert sequence_of("mine/yard/images/1.jpg") == "yard"
