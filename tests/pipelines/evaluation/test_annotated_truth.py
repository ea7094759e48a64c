"""Ground truth that was corrected in CVAT, or is a COCO file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from planted_out import ROWS, write_tracks

from jde_ray.jobs.cli import run
from jde_ray.pipelines.conversion.convert import ConvertConfig, convert
from jde_ray.pipelines.evaluation.ground_truth import find_truths, read_truth


def made(tmp_path: Path, to: str, *names: str) -> Path:
    for name in names:
        write_tracks(tmp_path / "run", ROWS, f"/videos/{name}.mp4")
    convert(str(tmp_path / "run"), str(tmp_path / to), ConvertConfig(to=to))
    return tmp_path / to


@pytest.mark.parametrize("to", ["cvat", "coco", "mot"])
def test_what_was_converted_scores_as_perfect_ground_truth(tmp_path: Path, to: str, capsys):
    gt = made(tmp_path, to, "door", "hall")
    if to == "mot":
        for name in ("door", "hall"):
            text = (gt / f"{name}.txt").read_text().replace(",1,-1,-1,-1", ",1,1,1")
            (gt / f"{name}.gt.txt").write_text(text)
    scores = tmp_path / "scores.json"
    command = ["eval", str(tmp_path / "run"), "--gt", str(gt), "--json", str(scores)]
    assert run(command) == 0, capsys.readouterr().err
    figures = json.loads(scores.read_text())
    assert set(figures["sequences"]) == {"door", "hall"}
    for own in figures["sequences"].values():
        assert own["MOTA"] == 100
        assert own["HOTA"] == pytest.approx(100, abs=2)


def test_one_file_of_several_videos_or_of_one_is_enough(tmp_path: Path, capsys):
    file = made(tmp_path, "coco", "door", "hall") / "annotations.json"
    other = file.rename(tmp_path / "any name.json")
    assert find_truths(other).keys() == {"door", "hall"}
    assert run(["eval", str(tmp_path / "run"), "--gt", str(other)]) == 0
    content = json.loads(other.read_text())
    first = {image["id"] for image in content["images"] if image["video_id"] == 1}
    content["videos"] = content["videos"][:1]
    content["images"] = [one for one in content["images"] if one["id"] in first]
    content["annotations"] = [one for one in content["annotations"] if one["image_id"] in first]
    other.write_text(json.dumps(content))
    alone = next((tmp_path / "run" / "tracks").glob("hall*"))  # a video of any name
    assert run(["eval", str(alone), "--gt", str(other)]) == 0
    assert run(["eval", str(tmp_path / "run"), "--gt", str(other)]) == 2
    assert "is one sequence, beside tracks of 2" in capsys.readouterr().err


def test_two_videos_of_one_name_in_a_file_are_refused(tmp_path: Path, capsys):
    file = made(tmp_path, "coco", "door", "hall") / "annotations.json"
    content = json.loads(file.read_text())
    for video, folder in zip(content["videos"], "ab", strict=True):
        video["name"] = f"{folder}/door.mp4"
    file.write_text(json.dumps(content))
    door = next((tmp_path / "run" / "tracks").glob("door*"))
    for gt in (file, tmp_path / "coco"):
        assert run(["eval", str(door), "--gt", str(gt)]) == 2
        error = capsys.readouterr().err
        assert f"gt: two videos of {file} are both of door" in error
        assert error.count("\n") == 1


def test_files_are_found_by_the_names_that_tools_give_them(tmp_path: Path):
    coco = made(tmp_path, "coco", "door") / "annotations.json"
    content = json.loads(coco.read_text())
    del content["videos"]
    xml = made(tmp_path, "cvat") / "door.xml"
    gt = tmp_path / "gt"
    for name, text in {
        "a/annotations.xml": xml.read_text(),
        "b.xml": xml.read_text(),
        "c/annotations/instances_default.json": json.dumps(content),
        "d.coco.json": json.dumps(content),
        "e/annotations.json": coco.read_text(),
        "voc/000001.xml": "<annotation><object/></annotation>",  # of another tool
        "run.json": "{}",
    }.items():
        (gt / name).parent.mkdir(parents=True, exist_ok=True)
        (gt / name).write_text(text)
    found = find_truths(gt)
    assert found.keys() == {"a", "b", "c", "d", "door"}
    for (path,) in found.values():
        assert len(read_truth(path).people) == len(ROWS)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("track_id", None, "1 boxes have no track_id, the first in frame 0"),
        ("track_id", 2, "id 2 twice"),
        ("bbox", [], "annotation 1: got bbox"),
    ],
)
def test_ground_truth_without_identities_is_refused(
    tmp_path: Path, capsys, key: str, value: object, message: str
):
    file = made(tmp_path, "coco", "door") / "annotations.json"
    content = json.loads(file.read_text())
    content["annotations"][0][key] = value
    file.write_text(json.dumps(content))
    assert run(["eval", str(tmp_path / "run"), "--gt", str(file)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_missing_ground_truth_names_all_forms(tmp_path: Path, capsys):
    made(tmp_path, "cvat", "door")
    (tmp_path / "gt").mkdir()
    assert run(["eval", str(tmp_path / "run"), "--gt", str(tmp_path / "gt")]) == 2
    error = capsys.readouterr().err
    for name in ("door/gt/gt.txt", "door.gt.txt", "door.parquet", "door.xml", "door.coco.json"):
        assert name in error
