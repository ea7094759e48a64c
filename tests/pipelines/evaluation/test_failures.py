import base64
import csv
import json

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from made_videos import write_video

from jde_ray.models.metrics.ceiling import AS_REPORTED
from jde_ray.models.structures import Detections
from jde_ray.pipelines.evaluation.failures import (
    find_failures,
    gather_failures,
    saved_motion,
)
from jde_ray.pipelines.evaluation.frame_sources import find_frames, frames_of, read_some_frames
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.evaluation.tracks import score_pairing
from jde_ray.pipelines.formats.detections import SavedFrame, detection_table
from jde_ray.pipelines.structures import Video

FRAMES = 30
COLOURS = {1: (200, 40, 40), 2: (40, 200, 40)}  # RGB


def write_sequence(folder, frames=True):
    """A MOT sequence of two people who stand 100 pixels apart; its folder."""
    (folder / "gt").mkdir(parents=True)
    people = {1: (40, 30), 2: (140, 30)}
    lines = [
        f"{f},{i},{x + 1},{y + 1},20,60,1,1,1\n"
        for f in range(1, FRAMES + 1)
        for i, (x, y) in people.items()
    ]
    (folder / "gt" / "gt.txt").write_text("".join(lines))
    if frames:
        (folder / "img1").mkdir()
        image = np.full((120, 200, 3), 90, np.uint8)
        for person, (x, y) in people.items():
            image[y : y + 60, x : x + 20] = COLOURS[person]
        for f in range(1, FRAMES + 1):
            cv2.imwrite(str(folder / "img1" / f"{f:06}.jpg"), image[:, :, ::-1])
    return folder


def write_tracks(path, exchange=11):
    """Two tracks that exchange their people at a frame (from 1)."""
    rows = []
    for f in range(1, FRAMES + 1):
        ids = (5, 6) if f < exchange else (6, 5)
        rows += [
            f"{f},{i},{x + 1},31,20,60,1,-1,-1,-1\n" for i, x in zip(ids, (40, 140), strict=True)
        ]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(rows))
    return path


@pytest.fixture
def pairing(tmp_path):
    folder = write_sequence(tmp_path / "mot" / "SEQ")
    return Pairing("SEQ", write_tracks(tmp_path / "sort" / "SEQ.txt"), folder / "gt" / "gt.txt")


def test_the_failures_of_a_sequence(pairing):
    found = find_failures(pairing)
    assert found.ceiling[AS_REPORTED].figures() == score_pairing(pairing).figures()
    assert [(one.frame, one.person, one.kind) for one in found.switches] == [
        (10, 1, "swap"), (10, 2, "swap")
    ]  # fmt: skip
    assert found.recall.by_height.boxes.sum() == 2 * FRAMES


def test_files_and_pictures_are_written(pairing, tmp_path):
    failures = gather_failures([pairing])
    assert failures.notes == []
    failures.write(tmp_path / "new" / "out", "sort", "mot")
    out = tmp_path / "new" / "out"
    with (out / "switches.csv").open() as file:
        first, second = csv.DictReader(file)
    assert first == {
        "sequence": "SEQ", "frame": "11", "person": "1", "id_before": "5", "id_after": "6",
        "kind": "swap", "gap": "1", "wrong_frames": "20", "overlap_before": "0.0",
        "overlap_after": "0.0",
    }  # fmt: skip
    assert second["person"] == "2"
    content = json.loads((out / "failures.json").read_text())
    assert (content["tracks"], content["gt"]) == ("sort", "mot")
    assert content["ceiling"]["OVERALL"]["true ids"]["IDF1"] == 100
    assert content["ceiling"]["SEQ"]["as reported"]["IDs"] == len(content["switches"]) == 2
    assert content["kinds"]["OVERALL"]["swap"]["all"] == 2
    assert content["by_height"]["SEQ"]["to 32"]["Rcll"] is None
    page = (out / "index.html").read_text()
    assert page.count("data:image/jpeg") == 8  # two switches, four pictures each
    assert "http:" not in page
    assert "https:" not in page


def test_a_picture_shows_the_person_with_the_frame_around(pairing):
    (case, _) = gather_failures([pairing]).cases
    captions = [caption for caption, _ in case.pictures]
    assert captions == [
        "before, frame 1",
        "last seen, frame 10",
        "switch, frame 11",
        "later, frame 21",
    ]
    data = base64.b64decode(case.pictures[1][1].partition(",")[2])
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
    height, width = picture.shape[:2]
    middle = picture[height // 2, width // 2]
    assert np.abs(middle.astype(int) - COLOURS[case.switch.person]).max() < 30
    white = (picture > 200).all(axis=2)
    assert white.sum() > 300  # the frame of the truth


def test_the_motion_of_the_camera_has_a_column_where_it_is_known(pairing, tmp_path):
    moves = {"SEQ": {10: np.array([[1, 0, 3.0], [0, 1, 4.0]])}}
    failures = gather_failures([pairing], camera_motion=moves)
    failures.write(tmp_path / "out", "sort", "mot")
    content = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert [one["camera_motion"] for one in content["switches"]] == [5.0, 5.0]
    elsewhere = gather_failures([pairing], camera_motion={"OTHER": {}})
    elsewhere.write(tmp_path / "out", "sort", "mot")
    content = json.loads((tmp_path / "out" / "failures.json").read_text())
    assert "camera_motion" not in content["switches"][0]


def test_without_frames_the_page_has_tables_and_says_so(tmp_path):
    folder = write_sequence(tmp_path / "mot" / "SEQ", frames=False)
    tracks = write_tracks(tmp_path / "sort" / "SEQ.txt")
    failures = gather_failures([Pairing("SEQ", tracks, folder / "gt" / "gt.txt")])
    assert failures.notes == ["Without frames, so without pictures: SEQ."]
    failures.write(tmp_path / "out", "sort", "mot")
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<img" not in page
    assert "Without frames, so without pictures: SEQ." in page
    assert page.count("<table") > 3


def test_frames_may_be_a_video_elsewhere(tmp_path):
    folder = write_sequence(tmp_path / "mot" / "SEQ", frames=False)
    tracks = write_tracks(tmp_path / "sort" / "SEQ.txt")
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "SEQ.mp4", num_frames=FRAMES)
    pairing = Pairing("SEQ", tracks, folder / "gt" / "gt.txt")
    failures = gather_failures([pairing], frames=tmp_path / "videos")
    assert [len(case.pictures) for case in failures.cases] == [4, 4]
    short = tmp_path / "short"
    short.mkdir()
    write_video(short / "SEQ.mp4", num_frames=12)
    failures = gather_failures([pairing], frames=short)
    assert [caption for caption, _ in failures.cases[0].pictures][-1] == "switch, frame 11"


def test_damaged_frames_are_named_and_the_tables_stay(pairing):
    image = pairing.truth.parent.parent / "img1" / "000010.jpg"
    image.write_bytes(image.read_bytes()[:100])
    failures = gather_failures([pairing])
    (note,) = failures.notes
    assert note.startswith("Frames cannot be read: ")
    assert "000010.jpg" in note
    assert all(not case.pictures for case in failures.cases)


def test_tracks_that_never_switch_have_an_empty_list(pairing, tmp_path):
    write_tracks(pairing.predictions, exchange=99)
    failures = gather_failures([pairing])
    failures.write(tmp_path / "out", "sort", "mot")
    assert (tmp_path / "out" / "switches.csv").read_text().splitlines()[0].startswith("sequence,")
    assert "No person gets a wrong id." in (tmp_path / "out" / "index.html").read_text()


def test_frames_are_found_by_name_or_beside_the_truth(pairing, tmp_path):
    folder = pairing.truth.parent.parent
    assert frames_of(pairing) == folder
    named = {"SEQ": tmp_path / "a.mp4", "my clip": tmp_path / "b.mp4"}
    assert frames_of(pairing, named) == tmp_path / "a.mp4"
    assert frames_of(Pairing("my-clip", folder, folder), named) == tmp_path / "b.mp4"
    assert frames_of(Pairing("ELSE", folder, folder), named) is None
    assert frames_of(Pairing("SEQ", folder, tmp_path / "SEQ.gt.txt")) is None
    facts = "name=SEQ\nimDir=img1\nframeRate=25\nseqLength=30\nimWidth=200\nimHeight=120\n"
    (folder / "seqinfo.ini").write_text(f"[Sequence]\n{facts}imExt=.jpg\n")
    assert find_frames(tmp_path / "mot") == {"SEQ": folder}


def test_only_the_wanted_frames_are_read(pairing):
    folder = pairing.truth.parent.parent
    (folder / "img1" / "000002.jpg").write_bytes(b"no picture")
    read = list(read_some_frames(folder, {0, 4, 99}))
    assert [number for number, _ in read] == [0, 4]
    assert read[0][1].shape == (120, 200, 3)
    assert list(read_some_frames(folder, set())) == []


def test_a_run_that_saved_its_detections_knows_the_motion_of_its_camera(tmp_path):
    motion = np.array([[1, 0, 3.0], [0, 1, 4.0]])
    frames = [SavedFrame(n, n / 25, Detections.empty(0), motion + n) for n in range(3)]
    (tmp_path / "detections").mkdir()
    pq.write_table(
        detection_table(Video("/x/SEQ", "SEQ"), frames, 0, has_motion=True),
        tmp_path / "detections" / "SEQ.parquet",
    )
    found = saved_motion(tmp_path / "tracks" / "SEQ.parquet")
    assert list(found) == [0, 1, 2]
    np.testing.assert_array_equal(found[2], motion + 2)
    pq.write_table(
        detection_table(Video("/x/SEQ", "SEQ"), frames, 0), tmp_path / "detections" / "SEQ.parquet"
    )
    assert saved_motion(tmp_path / "tracks" / "SEQ.parquet") == {}
    assert saved_motion(tmp_path / "tracks" / "OTHER.parquet") == {}
    assert saved_motion(tmp_path / "sort" / "SEQ.txt") == {}
