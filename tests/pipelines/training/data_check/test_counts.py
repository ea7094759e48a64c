from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from original_layouts import GT, jpeg, mot, put, turned_jpeg

from jde_ray.pipelines.training.data.labelled_image import read_image
from jde_ray.pipelines.training.data_check.counts import (
    Counts,
    blank_image,
    check_sources,
    is_blank,
)
from jde_ray.pipelines.training.data_check.sheet import CELL, COLUMNS, draw_sheet
from jde_ray.pipelines.training.recipe import Recipe
from jde_ray.pipelines.training.recipe_file import read_recipe
from jde_ray.pipelines.training.settings import TrainingConfig
from jde_ray.pipelines.training.source import Source

DATA = Path(os.environ.get("JDE_TEST_DATA", "../shared/data"))
RECIPES = Path(__file__).parents[4] / "jobs" / "recipes"


def recipe(*sources: Source) -> Recipe:
    return Recipe(network="small", sources=sources, training=TrainingConfig(epochs=1))


def test_all_that_is_labelled_and_what_training_takes_of_a_sequence(tmp_path: Path):
    """Of seven rows a car, a distractor, a row without flag; of the people one is outside."""
    mot(tmp_path, "MOT17-02-SDP")
    source = Source(kind="sequence", path="train/MOT17-02-SDP", every=2)
    checked = check_sources(recipe(source), tmp_path)
    (count,) = checked.sources
    assert count.labelled == Counts(images=3, boxes=4, ignored=0, identities=3)
    assert count.used == Counts(images=2, boxes=1, ignored=2, identities=1)  # frames 1 and 3
    assert (count.num_numbers, checked.num_classes, checked.problems.found) == (8, 1, [])


def test_boxes_crops_lists_and_videos(tmp_path: Path):
    for number in (1, 2, 3):
        put(tmp_path / "park" / "images" / f"{number}.jpg", jpeg())
    rows = "1.jpg,1,1,9,20,4\n1.jpg,20,1,29,20,-1\n2.jpg,1,1,40,40,-2\n2.jpg,1,1,9,20,4\n"
    put(tmp_path / "park" / "park.csv", f"image,x1,y1,x2,y2,id\n{rows}")
    put(tmp_path / "L" / "images" / "a.jpg", jpeg())
    put(tmp_path / "L" / "labels_with_ids" / "a.txt", "0 6 .5 .5 .1 .5\n0 -1 .2 .5 .1 .5\n")
    put(tmp_path / "l.train", "L/images/a.jpg\n")
    checked = check_sources(
        recipe(
            Source(kind="boxes", path="park"),
            Source(kind="list", path="l.train", identities=7),
            Source(kind="frames", path="park"),
        ),
        tmp_path,
    )
    park, listed, frames = checked.sources
    assert (park.labelled, park.used) == (Counts(3, 3, 0, 1), Counts(3, 3, 1, 1))
    assert (listed.labelled, listed.used) == (Counts(1, 2, 0, 1), Counts(1, 2, 0, 1))
    assert frames.used == Counts(3, 0, 0, 0)
    assert (checked.num_classes, checked.num_published) == (9, 5 + 7 + 1)


def test_all_that_is_wrong_is_found_not_only_the_first(tmp_path: Path):
    mot(tmp_path, "A", text=GT + "9,1,1,1,5,5,1,1,1\n1,2,900,1,5,5,1,1,1\n")
    put(tmp_path / "train/A/img1/000001.jpg", jpeg()[:400])
    put(tmp_path / "train/A/img1/000003.jpg", b"no picture")
    put(tmp_path / "L" / "images" / "a.jpg", b"")
    put(tmp_path / "L" / "labels_with_ids" / "a.txt", "0 6 3 .5 .1 .5\n")
    put(tmp_path / "l.train", "L/images/a.jpg\nL/images/b.jpg\n")
    checked = check_sources(
        recipe(
            Source(kind="sequence", path="train/A", every=3),
            Source(kind="list", path="l.train"),
            Source(kind="boxes", path="none"),
        ),
        tmp_path,
    )
    assert checked.problems.counts == {
        "missing image": 2,
        "unreadable image": 3,
        "box outside the image": 1,
        "missing file": 1,
    }
    assert [one.used.images for one in checked.sources] == [0, 1, 0]


def test_a_blank_image_has_the_size_that_training_gives_it(tmp_path: Path):
    for name, data in (("a.jpg", jpeg(640, 480)), ("b.jpg", turned_jpeg()), ("c.jpg", jpeg())):
        path = put(tmp_path / name, data)
        for longest_side in (50, 999):
            blank, scale = blank_image(path, longest_side)
            real, real_scale = read_image(path, longest_side)
            assert (blank.shape, scale) == (real.shape, real_scale)
            assert is_blank(blank)
            assert not is_blank(real)
    with pytest.raises(ValueError, match="No such file"):
        blank_image(tmp_path / "none.jpg", 99)


def test_the_sheet_shows_pictures_and_boxes_of_every_source(tmp_path: Path):
    mot(tmp_path, "A", text="1,7,11,6,20,30,1,1,1\n")
    put(tmp_path / "park" / "images" / "1.jpg", jpeg())
    put(tmp_path / "park" / "park.csv", "image,x1,y1,x2,y2,id\n")
    found = recipe(Source(kind="sequence", path="train/A"), Source(kind="boxes", path="park"))
    checked = check_sources(found, tmp_path)
    draw_sheet(found, tmp_path, checked.images, tmp_path / "sheet.png")
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    row = sheet.shape[0] // 2
    assert sheet.shape[1] == COLUMNS * CELL[0]
    cell = sheet[row - CELL[1] : row, : CELL[0]]
    green = (cell == (60, 220, 60)).all(-1)
    left = np.argwhere(green).min(0)[1]  # 10 of 64 pixels, four times as large
    assert abs(left - 40) <= 1
    assert green.sum() > 300
    assert not (sheet[row:] == (60, 220, 60)).all(-1).any()
    assert (sheet[row + 30 :, : CELL[0]] < 100).any()


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.skipif(not DATA.is_dir(), reason="no JDE_TEST_DATA")
def test_the_recipe_of_small_holds_what_the_readme_of_its_data_says():
    found = read_recipe(RECIPES / "train_small.yaml")
    counts = {
        Path(one.path).name: (one.labelled.images, one.labelled.boxes, one.labelled.identities)
        for one in check_sources(found, DATA).sources
    }
    readme = {
        "MOT16-11": (900, 9174, 69), "PETS09-S2L1": (795, 4476, 19),
        "TUD-Stadtmitte": (179, 1156, 10), "KITTI-17": (145, 683, 9),
        "openimages_person": (565, 3538, 0), "capston2_coco": (270, 620, 0),
        "capston2_street": (279, 609, 0), "pennfudan": (170, 423, 0),
        "tud_darmstadt_partial": (100, 352, 0), "interiors": (60, 0, 0), "facades": (45, 0, 0),
        "roads_cn": (8, 0, 0), "towncentre_1080p.mp4": (302, 0, 0),
        "tokyo_street_moving_360p.mp4": (319, 0, 0), "underpass_360x288.avi": (239, 0, 0),
        "intel_one_by_one_ccby.mp4": (1394, 0, 0), "lobby_cctv_unlabelled": (25, 0, 0),
        "viper": (1264, 1264, 632), "prid450s": (900, 900, 450), "pku_reid": (1184, 1184, 74),
    }  # fmt: skip
    assert {name: counts[name] for name in readme} == readme
    mini = [counts[f"MOT17-{name}-FRCNN"] for name in ("02", "04", "05")]
    assert tuple(map(sum, zip(*mini, strict=True))) == (18, 469, 73)
