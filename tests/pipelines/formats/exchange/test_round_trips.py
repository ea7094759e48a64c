"""Every format holds the rows it was given: read back from its text, within its precision."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from planted_out import RATE, ROWS, SIZE, Row, video_of

from jde_ray.pipelines.formats.exchange import (
    coco,
    cvat,
    fiftyone,
    label_studio,
    mot_challenge,
    rekognition,
    video_intelligence,
    yolo,
)
from jde_ray.pipelines.formats.exchange.annotated import AnnotatedVideo, raise_refusal
from jde_ray.pipelines.formats.exchange.coco_reader import read_coco
from jde_ray.pipelines.formats.exchange.cvat_reader import read_cvat
from jde_ray.pipelines.formats.exchange.video_tracks import Choices, VideoTracks
from jde_ray.pipelines.formats.mot import read_results

Boxes = dict[tuple[int, int], list[float]]  # corners in pixels by frame and id
LARGEST_ID = 2**31 - 1
WIDTH, HEIGHT = SIZE


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("formats")


def read_mot(video: VideoTracks, folder: Path) -> Boxes:
    ((_, text),) = mot_challenge.write(video, Choices()).items()
    path = folder / "a.txt"
    path.write_bytes(text)
    found = read_results(path)
    assert (found.scores == 1).all()
    return boxes(found.rows.frame, found.rows.track_id, found.rows.tlbr)


def read_coco_back(video: VideoTracks, folder: Path) -> Boxes:
    path = coco.write_dataset(iter([video]), folder)
    (found,) = read_coco(path, raise_refusal("x"))
    assert found.name == video.name
    assert [picture.frame for picture in found.pictures] == list(video.frames)
    return of_annotated(found)


def read_cvat_back(video: VideoTracks, folder: Path) -> Boxes:
    ((_, text),) = cvat.write(video, Choices()).items()
    path = folder / "a.xml"
    path.write_bytes(text)
    return of_annotated(read_cvat(path, raise_refusal("x")).video)


def read_yolo(video: VideoTracks, folder: Path) -> Boxes:
    files = yolo.write(video, Choices())
    assert len(files) == video.num_frames
    found: Boxes = {}
    for key, text in files.items():
        assert key.startswith(f"labels/{video.name}/")
        frame = int(key.rpartition("/")[2].removesuffix(".txt")) - 1
        for line in text.decode().splitlines():
            number, x, y, w, h, own = map(float, line.split())
            assert number == 0
            assert min(x, y, w, h) >= 0
            assert max(x, y, w, h) <= 1
            box = scaled([x - w / 2, y - h / 2, x + w / 2, y + h / 2])
            found[frame, int(own)] = box
    return found


def read_label_studio(video: VideoTracks, folder: Path) -> Boxes:
    ((_, text),) = label_studio.write(video, Choices()).items()
    ((task,),) = [json.loads(text)]
    found: Boxes = {}
    for region in task["predictions"][0]["result"]:
        track_id = int(region["id"].removeprefix("track-"))
        keys = region["value"]["sequence"]
        for key, follows in zip(keys, [*keys[1:], None], strict=True):
            frame = key["frame"] - 1
            assert key["time"] == pytest.approx(frame / RATE, abs=1e-5)
            is_last = frame == video.length - 1
            # what is drawn after this one: nothing, or the next frame, which has a key of its own
            assert key["enabled"] == (is_last if follows is None else follows["frame"] == frame + 2)
            box = [key["x"], key["y"], key["x"] + key["width"], key["y"] + key["height"]]
            found[frame, track_id] = [side / 100 for side in scaled(box)]
    return found


def read_fiftyone(video: VideoTracks, folder: Path) -> Boxes:
    ((_, text),) = fiftyone.write(video, Choices()).items()
    found: Boxes = {}
    for number, frame in json.loads(text)["frames"].items():
        assert frame["frame_number"] == int(number)
        for one in frame["objects"]["objects"]:
            corners = [
                one["bounding_box"][c][x] for c in ("top_left", "bottom_right") for x in "xy"
            ]
            found[int(number) - 1, one["index"]] = scaled(corners)
    return found


def read_rekognition(video: VideoTracks, folder: Path) -> Boxes:
    ((_, text),) = rekognition.write(video, Choices()).items()
    answer = json.loads(text)
    found: Boxes = {}
    for one in answer["Persons"]:
        box, index = one["Person"]["BoundingBox"], one["Person"]["Index"]
        left, top, width, height = (box[key] for key in ("Left", "Top", "Width", "Height"))
        frame = round(one["Timestamp"] / 1000 * RATE)
        found[frame, index] = scaled([left, top, left + width, top + height])
    return found


def read_video_intelligence(video: VideoTracks, folder: Path) -> Boxes:
    ((_, text),) = video_intelligence.write(video, Choices()).items()
    found: Boxes = {}
    for person in json.loads(text)["annotationResults"][0]["personDetectionAnnotations"]:
        ((track,),) = [person["tracks"]]
        (attribute,) = track["attributes"]
        for seen in track["timestampedObjects"]:
            frame = round(float(seen["timeOffset"].removesuffix("s")) * RATE)
            box = [seen["normalizedBoundingBox"][s] for s in ("left", "top", "right", "bottom")]
            found[frame, int(attribute["value"])] = scaled(box)
    return found


def boxes(frame: np.ndarray, track_id: np.ndarray, tlbr: np.ndarray) -> Boxes:
    keys = zip(frame.tolist(), track_id.tolist(), strict=True)
    return dict(zip(keys, tlbr.tolist(), strict=True))


def of_annotated(video: AnnotatedVideo) -> Boxes:
    assert video.is_person.all()
    return boxes(video.rows.frame, video.rows.track_id, video.rows.tlbr)


def scaled(shares: list[float]) -> list[float]:
    return [share * side for share, side in zip(shares, (WIDTH, HEIGHT) * 2, strict=True)]


KEEP_BORDER: list[Callable[[VideoTracks, Path], Boxes]] = [
    read_mot, read_coco_back, read_cvat_back, read_rekognition,
]  # fmt: skip
CLIP: list[Callable[[VideoTracks, Path], Boxes]] = [
    read_yolo, read_label_studio, read_fiftyone, read_video_intelligence,
]  # fmt: skip
# letters of every kind, with all that means something in XML, JSON, CSV and paths
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), max_size=30)
NAMES = TEXTS | st.sampled_from(
    ["a,b", 'say "x"', "<b>&amp;</b>", "]]>", "\x01\x1f", "\ufffe", "é"]
)


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Rows at any place, also beyond the picture, with ids up to the largest one."""
    keys = st.tuples(st.integers(0, 30), st.sampled_from([1, 2, 900, LARGEST_ID]))
    found = []
    for frame, track_id in sorted(draw(st.sets(keys, max_size=25))):
        x, y = draw(st.floats(-80, WIDTH + 20, width=32)), draw(st.floats(-80, HEIGHT, width=32))
        w, h = draw(st.floats(1, 700, width=32)), draw(st.floats(1, 500, width=32))
        corners = np.float32([x, y, x + w, y + h]).tolist()
        found.append((frame, track_id, *corners, draw(st.floats(0, 1, width=32))))
    return found


@settings(max_examples=25)
@given(rows=rows(), uri=NAMES, label=NAMES)
@example(rows=[], uri="", label="person")
@example(rows=ROWS, uri="/videos/door.mp4", label="person")
def test_every_row_is_found_again(rows: list[Row], uri: str, label: str, folder: Path):
    whole = video_of(rows, uri=uri, num_frames=31)
    whole.label[:] = "person"
    inside, num_cut, num_outside = whole.clipped()
    assert len(inside) + num_outside == len(whole)
    beyond = (whole.tlbr != np.clip(whole.tlbr, 0, [*SIZE, *SIZE])).any(axis=1)
    assert num_cut + num_outside == beyond.sum()
    for video, readers in ((whole, KEEP_BORDER), (inside, CLIP)):
        wanted = boxes(video.frame, video.track_id, video.tlbr)
        for read in readers:
            found = read(video, folder)
            assert found.keys() == wanted.keys(), read
            for key, box in wanted.items():
                assert found[key] == pytest.approx(box, abs=0.011), read
    # a name of any letters stands in the file and does not break it
    whole.label[:] = label
    if len(rows):
        for write in (cvat.write, label_studio.write, fiftyone.write):
            write(whole, Choices())
        ((_, text),) = cvat.write(whole, Choices()).items()
        (folder / "b.xml").write_bytes(text)
        assert len(read_cvat(folder / "b.xml", raise_refusal("x")).video.rows) == len(rows)
        path = coco.write_dataset([whole], folder)
        names = {one["name"] for one in json.loads(path.read_text())["categories"]}
        assert names == {"person", label}


@settings(max_examples=25)
@given(uri=NAMES, camera=NAMES)
def test_csv_is_exact_with_any_text(uri: str, camera: str, tmp_path_factory):
    import pyarrow as pa
    from planted_out import write_tracks

    from jde_ray.pipelines.formats.exchange import table
    from jde_ray.pipelines.formats.exchange.video_tracks import read_video_tracks

    out = tmp_path_factory.mktemp("csv")
    rows = [(0, LARGEST_ID, np.float32(1 / 3), 2.0, 30.0, 40.0, 0.1)]
    extra = {
        "time": pa.array([datetime(2026, 1, 2, 3, 4, 5, 678, UTC)], pa.timestamp("us", "UTC")),
        "camera": pa.array([camera]).dictionary_encode(),
        "class": pa.array([None], pa.string()),
    }
    path = write_tracks(out, rows, f"/v/{uri}", columns=extra)
    ((_, text),) = table.write(read_video_tracks(path, "x", 1, ()), Choices()).items()
    (row,) = csv.DictReader(io.StringIO(text.decode(), newline=""))
    assert row["time"] == "2026-01-02 03:04:05.000678Z"
    assert (row["video"], row["camera"], row["class"]) == (f"/v/{uri}", camera, "")
    assert np.float32(row["x1"]) == np.float32(1 / 3)
    assert (int(row["track_id"]), float(row["time_s"])) == (LARGEST_ID, 0.0)


def test_with_a_stride_frames_keep_their_numbers(folder: Path):
    rows = [(f, 1, 10.0, 10.0, 50.0, 60.0, 0.5) for f in (0, 5, 10, 25)]
    video = video_of(rows, num_frames=6, stride=5)
    assert list(video.frames) == [0, 5, 10, 15, 20, 25]
    files = yolo.write(video, Choices())
    assert [int(key[-10:-4]) for key in files] == [1, 6, 11, 16, 21, 26]
    assert read_coco_back(video, folder).keys() == {(f, 1) for f in (0, 5, 10, 25)}
    # CVAT draws the frames between two sightings, and nothing in the gap
    assert read_cvat_back(video, folder).keys() == {(f, 1) for f in (*range(11), 25)}
    region = json.loads(next(iter(label_studio.write(video, Choices()).values())))
    keys = region[0]["predictions"][0]["result"][0]["value"]["sequence"]
    assert [(key["frame"], key["enabled"]) for key in keys] == [
        (1, True), (6, True), (11, False), (26, True),
    ]  # fmt: skip


def test_what_a_format_cannot_number_is_refused():
    video = video_of(ROWS)
    video.label[0] = "car"
    with pytest.raises(ValueError, match="got class car, expected person"):
        yolo.write(video, Choices())


def test_without_ids_yolo_lines_fit_a_trainer():
    text = yolo.write(video_of(ROWS), Choices(track_ids=False))["labels/door/000001.txt"]
    assert [len(line.split()) for line in text.decode().splitlines()] == [5, 5]


def test_scores_stand_in_column_7_if_wanted():
    text = mot_challenge.write(video_of(ROWS[:1]), Choices(scores=True))["door.txt"]
    assert text == b"1,1,11.25,21.50,50.50,149.50,0.9100,-1,-1,-1\n"
