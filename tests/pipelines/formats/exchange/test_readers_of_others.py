"""The other side's own readers open what we write, and find the same boxes.

Those that `pip install -e '.[dev]'` brings always run; the others pin versions of libraries that
this project has newer ones of, and run where they are installed.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from planted_out import RATE, ROWS, SIZE, video_of, write_tracks

from jde_ray.pipelines.conversion.convert import ConvertConfig, convert
from jde_ray.pipelines.formats.exchange import label_studio, rekognition
from jde_ray.pipelines.formats.exchange.video_tracks import Choices

WANTED = {(frame, track_id): corners for frame, track_id, *corners, _ in ROWS}
SCORES = {(frame, track_id): score for frame, track_id, *_, score in ROWS}
PINNED = "is not installed; it pins older versions of what this project needs"
FRAMES = 8


def reader(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, reason=f"{name} {PINNED}", exc_type=ImportError)


def converted(tmp_path: Path, to: str, **details: Any) -> Path:
    write_tracks(tmp_path / "out", num_frames=FRAMES)
    convert(str(tmp_path / "out"), str(tmp_path / to), ConvertConfig(to=to, **details))
    return tmp_path / to


def same(found: dict[tuple[int, int], list[float]], more: float = 0.0) -> None:
    assert found.keys() == WANTED.keys()
    for key, box in WANTED.items():
        assert found[key] == pytest.approx(box, abs=0.011 + more), key


def scaled(shares: list[float]) -> list[float]:
    return [share * side for share, side in zip(shares, SIZE * 2, strict=True)]


def write_pictures(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # between motmetrics and pandas
@pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
def test_motmetrics_reads_the_text(tmp_path: Path):
    import motmetrics

    table = motmetrics.io.loadtxt(converted(tmp_path, "mot") / "door.txt", fmt="mot15-2D")
    same(
        {
            (frame - 1, track_id): [row.X, row.Y, row.X + row.Width, row.Y + row.Height]
            for (frame, track_id), row in table.iterrows()
        }
    )
    assert (table.Confidence == 1).all()


def test_trackeval_scores_the_zip_and_finds_nothing_wrong(tmp_path: Path):
    trackeval = reader("trackeval")
    folder = converted(tmp_path, "mot", zipped=True)
    (tmp_path / "gt").mkdir()
    with zipfile.ZipFile(tmp_path / "gt" / "data.zip", "w") as truth:
        text = (folder / "door.txt").read_text().replace(",1,-1,-1,-1", ",1,1,1.0")
        truth.writestr("door.txt", text)
    (tmp_path / "trackers" / "ours").mkdir(parents=True)
    (folder / "submission.zip").rename(tmp_path / "trackers" / "ours" / "data.zip")
    config = trackeval.datasets.MotChallenge2DBox.get_default_dataset_config()
    config |= {"GT_FOLDER": str(tmp_path / "gt"), "SKIP_SPLIT_FOL": True, "INPUT_AS_ZIP": True}
    config |= {"TRACKERS_FOLDER": str(tmp_path / "trackers"), "SEQ_INFO": {"door": FRAMES}}
    config |= {"PRINT_CONFIG": False}
    dataset = trackeval.datasets.MotChallenge2DBox(config)
    raw = dataset.get_raw_seq_data("ours", "door")
    data = dataset.get_preprocessed_seq_data(raw, "pedestrian")
    scores = trackeval.metrics.CLEAR({"PRINT_CONFIG": False}).eval_sequence(data)
    assert (scores["CLR_TP"], scores["CLR_FP"], scores["CLR_FN"]) == (len(ROWS), 0, 0)


def test_pycocotools_loads_and_scores_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    loader = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    scorer = pytest.importorskip("pycocotools.cocoeval")
    file = converted(tmp_path, "coco") / "annotations.json"
    dataset = loader.COCO(str(file))
    assert len(dataset.getImgIds()) == FRAMES
    found = {}
    for box in dataset.loadAnns(dataset.getAnnIds()):
        (image,) = dataset.loadImgs(box["image_id"])
        x, y, w, h = box["bbox"]
        found[image["frame_id"], box["track_id"]] = [x, y, x + w, y + h]
    same(found)
    results = dataset.loadRes([{**one} for one in json.loads(file.read_text())["annotations"]])
    scoring = scorer.COCOeval(dataset, results, "bbox")
    scoring.evaluate()
    scoring.accumulate()
    scoring.summarize()
    assert scoring.stats[0] == pytest.approx(1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # its own
def test_datumaro_reads_coco(tmp_path: Path):
    datumaro = reader("datumaro")
    file = converted(tmp_path, "coco") / "annotations.json"
    place = tmp_path / "set" / "annotations" / "instances_train.json"
    place.parent.mkdir(parents=True)
    file.rename(place)
    (place.parents[1] / "images").mkdir()
    dataset = datumaro.Dataset.import_from(str(place.parents[1]), "coco_instances")
    found = sorted(
        (int(item.id.rpartition("/")[2]) - 1, *one.points)
        for item in dataset
        for one in item.annotations
    )  # it has no place for our ids
    wanted = sorted((frame, *box) for (frame, _), box in WANTED.items())
    assert found == [pytest.approx(one, abs=0.011) for one in wanted]


def test_datumaro_reads_cvat_as_cvat_would(tmp_path: Path):
    datumaro = reader("datumaro")
    folder = converted(tmp_path, "cvat")
    (folder / "convert.json").unlink()
    dataset = datumaro.Dataset.import_from(str(folder), "cvat")
    shown, hidden = {}, set()
    for item in dataset:
        for one in item.annotations:
            key = item.attributes["frame"], one.attributes["track_id"]
            assert one.attributes["keyframe"]
            if one.attributes["outside"]:
                hidden.add(key)
            else:
                shown[key] = one.points
    same(shown)
    # a box that hides the person follows each visit that does not last to the end
    assert hidden == {(2, 1), (6, 1), (1, 2), (6, 3)}
    (label,) = dataset.categories()[datumaro.AnnotationType.label].items
    assert label.name == "person"


def test_supervision_reads_coco_and_yolo(tmp_path: Path):
    supervision = reader("supervision")
    folder = converted(tmp_path, "coco")
    write_pictures(folder / "door", [f"{frame:06d}.jpg" for frame in range(1, FRAMES + 1)])
    found = supervision.DetectionDataset.from_coco(str(folder), str(folder / "annotations.json"))
    boxes = sorted(box for _, _, one in found for box in one.xyxy.tolist())
    assert boxes == [pytest.approx(box, abs=0.011) for box in sorted(WANTED.values())]
    folder = converted(tmp_path, "yolo", choices=Choices(track_ids=False))
    write_pictures(tmp_path / "pictures", [f"{frame:06d}.jpg" for frame in range(1, FRAMES + 1)])
    found = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "pictures"), str(folder / "labels" / "door"), str(folder / "data.yaml")
    )
    boxes = sorted(box for _, _, one in found for box in one.xyxy.tolist())
    assert boxes == [pytest.approx(box, abs=0.011) for box in sorted(WANTED.values())]


def test_label_studio_accepts_the_task_and_draws_its_boxes(tmp_path: Path):
    interface = reader("label_studio_sdk.label_interface")
    drawing = reader("label_studio_sdk._extensions.label_studio_tools.postprocessing.video")
    (task,) = json.loads((converted(tmp_path, "label-studio") / "door.json").read_bytes())
    labels = interface.LabelInterface(label_studio.CONFIG)
    labels.validate()
    assert labels.validate_task({"data": task["data"]})
    assert labels.validate_prediction(task["predictions"][0], return_errors=True) == []
    found = {}
    for region in drawing.extract_key_frames(task["predictions"][0]["result"]):
        for key in region["value"]["sequence"]:
            x, y, w, h = (key[name] for name in ("x", "y", "width", "height"))
            own = int(region["id"].removeprefix("track-"))
            found[key["frame"] - 1, own] = [v / 100 for v in scaled([x, y, x + w, y + h])]
    same(found)


def test_fiftyones_reader_finds_videos_and_objects(tmp_path: Path):
    video = reader("eta.core.video")
    datasets = reader("eta.core.datasets")
    folder = converted(tmp_path, "fiftyone")
    index = datasets.LabeledDatasetIndex.from_json(str(folder / "manifest.json"))
    (record,) = index
    assert (record.data, record.labels) == ("/videos/door.mp4", "labels/door.json")
    labels = video.VideoLabels.from_json(str(folder / record.labels))
    found = {}
    for number in labels:
        for one in labels[number].objects:
            frame = number - 1
            found[frame, one.index] = scaled(list(one.bounding_box.to_coords()))
            assert one.label == "person"
            assert one.confidence == pytest.approx(SCORES[frame, one.index], abs=1e-4)
    same(found)


def test_boto3s_model_of_the_service_accepts_the_answer(tmp_path: Path):
    from botocore.parsers import create_parser
    from botocore.session import get_session
    from botocore.validate import ParamValidator

    shape = (
        get_session()
        .get_service_model("rekognition")
        .operation_model("GetPersonTracking")
        .output_shape
    )
    text = (converted(tmp_path, "rekognition") / "door.json").read_bytes()
    answer = json.loads(text)
    assert ParamValidator().validate(answer, shape).generate_report() == ""
    parser = create_parser("json")
    parsed = parser.parse({"body": text, "headers": {}, "status_code": 200}, shape)
    parsed.pop("ResponseMetadata")
    assert parsed == answer  # nothing is unknown to it
    found = {}
    for one in parsed["Persons"]:
        box = one["Person"]["BoundingBox"]
        x, y, w, h = (box[name] for name in ("Left", "Top", "Width", "Height"))
        frame = round(one["Timestamp"] * RATE / 1000)
        found[frame, one["Person"]["Index"]] = scaled([x, y, x + w, y + h])
    same(found)
    assert parsed["VideoMetadata"]["DurationMillis"] == FRAMES * 1000 / RATE


def test_a_video_in_a_bucket_is_named_as_the_service_does():
    video = video_of(ROWS, uri="s3://bucket/day 1/door.mp4")
    answer = json.loads(rekognition.write(video, Choices())["door.json"])
    assert answer["Video"] == {"S3Object": {"Bucket": "bucket", "Name": "day 1/door.mp4"}}


def test_googles_protocol_buffer_parses_the_answer(tmp_path: Path):
    service = pytest.importorskip(
        "google.cloud.videointelligence_v1", reason="google-cloud-videointelligence is missing"
    )
    text = (converted(tmp_path, "video-intelligence") / "door.json").read_text()
    # unknown fields raise
    answer = service.AnnotateVideoResponse.from_json(text, ignore_unknown_fields=False)
    (result,) = answer.annotation_results
    assert result.segment.end_time_offset.total_seconds() == FRAMES / RATE
    found = {}
    for person in result.person_detection_annotations:
        (track,) = person.tracks
        (attribute,) = track.attributes
        assert attribute.name == "track_id"
        assert 0 < track.confidence < 1
        for seen in track.timestamped_objects:
            box = seen.normalized_bounding_box
            frame = round(seen.time_offset.total_seconds() * RATE)
            shares = [box.left, box.top, box.right, box.bottom]
            found[frame, int(attribute.value)] = scaled(shares)
    same(found)
