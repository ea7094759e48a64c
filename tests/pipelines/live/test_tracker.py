from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_videos import textured

from jde_ray.models.synthetic.scene import StreetScene
from jde_ray.models.tracking.registry import build_config
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.detection.settings import detection_for
from jde_ray.pipelines.live.box_tracker import BoxTracker
from jde_ray.pipelines.live.detector import Detector
from jde_ray.pipelines.live.results import read_detections, read_tracks
from jde_ray.pipelines.live.tracker import Tracker
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.video.camera_motion import motion_since, small_grey
from jde_ray.pipelines.video.chunks import read_frames
from jde_ray.pipelines.video.synthetic import render_street

torch = pytest.importorskip("torch")
GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    scene = StreetScene(5, width=640, height=352, num_people=8, num_frames=8)
    render_street(scene, folder / "street.mp4", folder / "truth")
    return folder / "street.mp4"


def frames(clip: Path) -> list[tuple[float, np.ndarray]]:
    read = read_frames(Video(str(clip), "street"))
    return [(time_s, cv2.cvtColor(image, cv2.COLOR_RGB2BGR)) for _, time_s, image in read]


def test_rows_are_those_of_a_run(clip: Path, tmp_path: Path):
    detection = replace(detection_for(), resize="published", precision="fp32")
    resources = ResourceConfig(chunk_frames=1, torch_threads=torch.get_num_threads())
    outputs = OutputConfig(save_embeddings=True, save_detections=True)
    config = TrackConfig(detection=detection)
    out = str(tmp_path / "out")
    reference.track([str(clip)], out, config, resources=resources, outputs=outputs)
    table = read_tracks(out)
    saved = read_detections(out)
    assert set(table.column_names) - set(saved.column_names) == {"track_id"}
    assert table.column("name").unique().to_pylist() == ["street.mp4"]
    rate = float(cv2.VideoCapture(str(clip)).get(cv2.CAP_PROP_FPS))
    tracker = Tracker(frames_per_second=rate, precision="fp32")
    rows = 0
    for index, (time_s, frame) in enumerate(frames(clip)):
        tracks = tracker.update(frame, time_s=time_s)
        own = table.filter(np.asarray(table["frame"]) == index)
        order = np.argsort(tracks.track_id)
        assert own["track_id"].to_pylist() == tracks.track_id[order].tolist()
        corners = np.stack([own[name].to_numpy() for name in ("x1", "y1", "x2", "y2")], axis=1)
        np.testing.assert_array_equal(corners, tracks.tlbr[order].astype(np.float32))
        assert tracker.detections is not None
        taken = tracker.detections.embeddings[tracks.detection_index[order]]
        np.testing.assert_array_equal(np.array(own["embedding"].to_pylist()), taken)
        rows += len(own)
        found = saved.filter(np.asarray(saved["frame"]) == index)
        scores = tracker.detections.scores
        np.testing.assert_array_equal(found["score"].to_numpy(), scores)
        vectors = np.array(found["embedding"].to_pylist()).reshape(len(scores), -1)
        np.testing.assert_array_equal(vectors, tracker.detections.embeddings)
    assert rows > 8


def test_another_video_begins_after_a_reset_and_not_before(clip: Path):
    tracker = Tracker(conf=0.4)
    images = [image for _, image in frames(clip)]
    first = [tracker.update(image).track_id.tolist() for image in images[:3]]
    assert first[0]
    with pytest.raises(
        ValueError, match="frame: got 320x176, expected 640x352 as before; call reset"
    ):
        tracker.update(cv2.resize(images[3], (320, 176)))
    with pytest.raises(ValueError, match="image: got None"):
        tracker.update(None)  # type: ignore[arg-type]
    tracker.reset()
    assert [tracker.update(image).track_id.tolist() for image in images[:3]] == first


def test_the_cameras_motion_can_be_left_out_and_does_not_advance_with_a_refused_frame():
    detector, scene = Detector(), textured(2)
    views = [np.ascontiguousarray(scene[90:450, 9 * step : 9 * step + 640]) for step in range(3)]
    moving, still = Tracker(detector), Tracker(detector, camera_motion=False)
    for tracker in (moving, still):
        tracker.update(views[0])
        with pytest.raises(ValueError, match="time_s: got nan"):
            tracker.update(views[2], time_s=float("nan"))
    kept = moving._picture
    assert kept is not None
    moving.update(views[1])
    pixels, letterbox = detector.letterboxed(views[1])
    motion = motion_since(kept, small_grey(pixels, letterbox), letterbox)
    np.testing.assert_allclose(motion, [[1, 0, -9], [0, 1, 0]], atol=0.3)
    assert still._picture is None


def test_several_frames_at_once_are_refused():
    tracker, frame = Tracker(), np.zeros((60, 80, 3), np.uint8)
    for several in ([frame, frame], frame[None], (frame,)):
        with pytest.raises(ValueError, match="frame: got several images, expected one"):
            tracker.update(several)


def test_trackers_share_a_detector_and_nothing_else(clip: Path):
    detector = Detector(conf=0.3)
    images = [image for _, image in frames(clip)][:3]
    lone = Tracker(detector)
    alone = [lone.update(image).track_id.tolist() for image in images]
    one, other = Tracker(detector), Tracker(detector, association="bytetrack", conf=0.5)
    mixed = []
    for image in images:
        mixed.append(one.update(image).track_id.tolist())
        other.update(np.flip(image))
    assert mixed == alone
    with pytest.raises(ValueError, match=r"size: got \(576, 320\), but the Detector has its own"):
        Tracker(detector, size=(576, 320))


def test_settings_of_the_association_are_checked():
    with pytest.raises(ValueError, match="association: got 'best'"):
        BoxTracker("best")
    with pytest.raises(ValueError, match="track_buffr"):
        BoxTracker("jde", track_buffr=3)
    for rate in (0, None, "30", float("nan")):
        with pytest.raises(ValueError, match=f"frames_per_second: got {rate!r}, expected a number"):
            BoxTracker(frames_per_second=rate)


def test_boxes_alone_are_tracked_as_by_the_association():
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 200, (6, 2))
    tracker, plain = BoxTracker("sort"), JDETracker(build_config("sort"), 30.0)
    for _ in range(2):
        for step in range(5):
            boxes = np.hstack([corners + 2 * step, corners + 2 * step + (20, 50)])
            one, other = tracker.update(boxes, [0.9] * 6), plain.update(boxes, [0.9] * 6)
            assert one.track_id.tolist() == other.track_id.tolist()
            np.testing.assert_array_equal(one.tlbr, other.tlbr)
        assert len(tracker.update([], [])) == 0
        tracker.reset()
        plain = JDETracker(build_config("sort"), 30.0)


def test_tables_of_every_format_are_read():
    assert len(read_detections(GOLDEN / "format_1"))
    table = read_tracks(GOLDEN / "format_1")
    (file,) = (GOLDEN / "format_1/tracks").iterdir()
    assert table.equals(read_tracks(str(file)))
    assert table.column_names[:3] == ["name", "video_id", "video"]
    assert len(table)


def test_what_is_no_run_is_refused(tmp_path: Path):
    (tmp_path / "notes.txt").touch()
    for place, message in (
        (tmp_path / "notes.txt", "out: .*notes.txt is a file, expected OUT of a run"),
        (tmp_path / "no", "out: .*no does not exist, expected OUT of a run"),
        (tmp_path, r"out: .* has no tracks/\*.parquet, expected OUT of a run"),
        (tmp_path / "a.parquet", "out: .*a.parquet does not exist, expected a file of a run"),
    ):
        with pytest.raises(ValueError, match=message):
            read_tracks(place)


@pytest.mark.parametrize(
    ("folder", "read"), [("tracks", read_tracks), ("detections", read_detections)]
)
def test_a_damaged_file_among_others_is_named(tmp_path, folder, read):
    shutil.copytree(GOLDEN / "format_1" / folder, tmp_path / folder)
    (tmp_path / folder / "zoo.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        ValueError, match=rf"{folder}/zoo.parquet cannot be read \(.*4 bytes"
    ) as said:
        read(tmp_path)
    assert "\n" not in str(said.value)
