from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import Script
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.models.structures import Detections
from jde_ray.pipelines.config import DetectionConfig, OutputConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError
from jde_ray.pipelines.formats.detections import SavedFrame, SavedVideo, read_saved
from jde_ray.pipelines.formats.score_map import to_scores
from jde_ray.pipelines.output.layout import detections_key
from jde_ray.pipelines.output.result_files import RowWriter
from jde_ray.pipelines.sources.saved_detections import find_saved, run_folder
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.tracking.stages.read import saved_chunks

TEXT = "3,-1,11,21,30,60,0.9\n1,-1,1,1,10,20,0.5\n3,-1,101,21,30,60,0.7\n"
INFO = "[Sequence]\nname=S\nframeRate=10\nseqLength=5\nimWidth=200\nimHeight=100\n"


def sequence(folder: Path, text: str = TEXT, info: str | None = INFO, name: str = "det") -> Path:
    (folder / "det").mkdir(parents=True, exist_ok=True)
    (folder / "det" / f"{name}.txt").write_text(text)
    if info is not None:
        (folder / "seqinfo.ini").write_text(info)
    return folder


def only(path: Path | str) -> SavedVideo:
    (saved,) = find_saved([str(path)])
    return saved


def refused(*sources: Path | str) -> str:
    with pytest.raises(RunError) as caught:
        find_saved([str(source) for source in sources])
    assert caught.value.exit_code == ExitCode.REFUSED
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_mot_text_becomes_frames_from_0_with_empty_ones_between(tmp_path: Path) -> None:
    info, frames = read_saved(only(sequence(tmp_path / "S")), TrackConfig())
    assert (info.width, info.height, info.frames_per_second) == (200, 100, 10.0)
    found = list(frames)
    assert [one.frame for one in found] == [0, 1, 2, 3, 4]
    assert [round(one.time_s, 3) for one in found] == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert [len(one.found) for one in found] == [1, 0, 2, 0, 0]
    third = found[2][2]
    np.testing.assert_array_equal(third.tlbr, [[10, 20, 40, 80], [100, 20, 130, 80]])
    assert third.scores.tolist() == pytest.approx([0.9, 0.7])
    assert third.embeddings.shape == (2, 0)


def test_without_seqinfo_the_rate_is_30_and_the_last_detection_ends_it(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text(TEXT)
    saved = only(tmp_path / "other.txt")
    assert saved.video.name == "other"
    info, frames = read_saved(saved, TrackConfig())
    assert (info.width, info.height, info.frames_per_second) == (130, 80, 30.0)
    assert len(list(frames)) == 3


def test_stride_and_limit_keep_the_frame_numbers(tmp_path: Path) -> None:
    saved = only(sequence(tmp_path / "S"))
    _, frames = read_saved(saved, TrackConfig(vid_stride=2, max_frames=2))
    assert [one.frame for one in frames] == [0, 2]


def test_the_cameras_motion_comes_back_and_is_joined_over_a_stride(tmp_path: Path) -> None:
    config, out = replace(fakes.CONFIG, max_frames=7), tmp_path / "out"
    source = fakes.archive(tmp_path / "in", a=Script(frames=7))
    outputs = OutputConfig(save_detections=True)
    reference.track([str(source)], str(out), config, components=fakes.COMPONENTS, outputs=outputs)
    saved = only(out)
    assert saved.has_motion
    every = [one.camera_motion for one in read_saved(saved, TrackConfig())[1]]
    np.testing.assert_array_equal(every, [fakes.sway(frame) for frame in range(7)])
    third = [one.camera_motion for one in read_saved(saved, TrackConfig(vid_stride=3))[1]]
    point = np.array([30.0, 40.0, 1.0])
    for frame in (4, 5, 6):
        point = np.append(every[frame] @ point, 1.0)
    np.testing.assert_allclose(third[2] @ [30.0, 40.0, 1.0], point[:2], rtol=1e-12)
    np.testing.assert_array_equal(third[0], np.eye(2, 3))
    reference.track(
        [str(source)],
        str(tmp_path / "still"),
        replace(config, camera_motion=False),
        components=fakes.COMPONENTS,
        outputs=outputs,
    )
    still = only(tmp_path / "still")
    assert not still.has_motion
    for stride in (1, 3):
        _, frames = read_saved(still, TrackConfig(vid_stride=stride))
        assert {one.camera_motion for one in frames} == {None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1,-1,1,1,10,20\n", "det.txt:1: got 6 columns"),
        (TEXT + "0,-1,1,1,10,20,0.5\n", "det.txt:4: got '0,-1"),
        (TEXT + "\n2,-1,1,1,nan,20,0.5\n", "det.txt:5: got"),
        ("1,-1,1,1,ten,20,0.5\n", "det.txt:1: got"),
        ("9e18,-1,1,1,10,20,0.5\n", "det.txt:1: got frame 9e+18, expected 1 to 100000000"),
        ("1e300,-1,1,1,10,20,0.5\n", "det.txt:1: got frame"),
        ("1,-1,1,1,1e308,20,0.5\n", "det.txt:1: got '1,-1,1,1,1e308,20,0.5', expected a box"),
    ],
)
def test_a_line_that_cannot_be_read_is_the_videos_error(
    tmp_path: Path, text: str, said: str
) -> None:
    saved = only(sequence(tmp_path / "S", text))
    (chunk,) = saved_chunks(saved, Segment(saved.video), TrackConfig(), 4)
    assert chunk.is_last
    assert chunk.error is not None
    assert chunk.error.reason == Reason.UNSUPPORTED_FORMAT
    assert said in chunk.error.detail


def test_one_far_frame_takes_no_memory_before_it_is_reached(tmp_path: Path) -> None:
    far = "1,-1,1,1,10,20,0.5\n100000000,-1,1,1,10,20,0.5\n"
    saved = only(sequence(tmp_path / "S", far))
    tracemalloc.start()
    try:
        _, frames = read_saved(saved, TrackConfig())
        assert [len(next(frames).found) for _ in range(5000)] == [1] + [0] * 4999
        assert tracemalloc.get_traced_memory()[1] < 50_000_000  # of all frames: gigabytes
    finally:
        tracemalloc.stop()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    """Detections of a run, with the camera's motion."""
    folder = tmp_path_factory.mktemp("written")
    source = fakes.archive(folder / "in", a=Script(frames=9))
    outputs = OutputConfig(save_detections=True)
    settings = {"components": fakes.COMPONENTS, "outputs": outputs}
    reference.track([str(source)], str(folder / "out"), fakes.CONFIG, **settings)
    (path,) = (folder / "out" / "detections").iterdir()
    return pq.read_table(path)


def one_value(row: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    return lambda values: [value if place == row else own for place, own in enumerate(values)]


def in_row(row: int, value: Any) -> Callable[[list[Any]], list[Any]]:
    """Another first item of the list in a row."""
    return lambda values: [
        [value, *own[1:]] if place == row else own for place, own in enumerate(values)
    ]


BAD_COLUMNS = [
    (
        "frame",
        lambda values: [0] * len(values),
        "row 1: frame: got 0, expected rising frames, 0 to",
    ),
    ("frame", one_value(0, -1), "row 0: frame: got -1"),
    ("frame", lambda values: values[::-1], "row 1: frame: got 7"),
    ("frame", one_value(8, 2**31 - 1), "row 8: frame: got 2.14748365e+09"),
    ("frame", one_value(3, None), "row 3: frame: got no value"),
    ("time_s", lambda values: values[::-1], "row 1: time_s: got 0.28, expected finite seconds"),
    ("time_s", one_value(4, np.nan), "row 4: time_s: got nan"),
    ("scores", in_row(5, np.nan), "row 5: scores: got nan, expected 0 to 1"),
    ("scores", in_row(5, 7.0), "row 5: scores: got 7"),
    ("scores", one_value(5, [0.5]), "row 5: got "),
    ("boxes", in_row(2, [0.0, 0.0, np.inf, 9.0]), "row 2: boxes: got 0, 0, inf, 9, expected fin"),
    ("boxes", in_row(2, None), "boxes: got "),
    ("camera_motion", one_value(6, [np.nan] * 6), "row 6: camera_motion: got nan, nan"),
    ("camera_motion", one_value(6, [np.inf, 0, 0, 0, 0, 0]), "row 6: camera_motion: got inf"),
    ("camera_motion", one_value(6, [0.0] * 6), "row 6: camera_motion: got 0, 0"),
    ("camera_motion", one_value(6, [1, 0, 1e30, 0, 1, 0]), "row 6: camera_motion: got 1, 0, 1e+30"),
]


@pytest.mark.parametrize(("name", "change", "said"), BAD_COLUMNS)
def test_a_value_that_no_run_writes_is_the_videos_error(
    tmp_path: Path, written: pa.Table, name: str, change: Callable[..., Any], said: str
) -> None:
    place = written.schema.get_field_index(name)
    field = written.schema.field(place)
    values = pa.array(change(written.column(name).to_pylist()), field.type)
    path = tmp_path / "a.parquet"
    pq.write_table(written.set_column(place, field, values), path)
    saved = only(path)
    *_, last = saved_chunks(saved, Segment(saved.video), TrackConfig(), 4)
    assert last.error is not None
    assert last.error.reason == Reason.UNSUPPORTED_FORMAT
    assert f"a.parquet: {said}" in last.error.detail.replace(str(tmp_path), "")


@pytest.mark.parametrize("name", ["frame", "time_s", "scores"])
def test_a_column_that_is_missing_or_of_text_is_the_videos_error(
    tmp_path: Path, written: pa.Table, name: str
) -> None:
    path = tmp_path / "a.parquet"
    text = pa.array(["x"] * len(written))
    for table, said in (
        (written.drop_columns(name), f"a.parquet: no column {name}, expected frame, time_s, boxes"),
        (
            written.set_column(written.schema.get_field_index(name), name, text),
            f"a.parquet: {name}: got a column of string",
        ),
    ):
        pq.write_table(table, path)
        saved = only(path)
        (chunk,) = saved_chunks(saved, Segment(saved.video), TrackConfig(), 4)
        assert chunk.error is not None
        assert chunk.error.reason == Reason.UNSUPPORTED_FORMAT
        assert said in chunk.error.detail


def test_rows_are_compared_with_those_of_the_part_before(tmp_path: Path, written: pa.Table) -> None:
    long = pa.concat_tables([written] * 40)  # more than are read at once
    numbers = pa.array([*range(256), 7, *range(257, len(long))], pa.int32())
    times = pa.array(np.arange(len(long)) / 25)
    for name, values in (("frame", numbers), ("time_s", times)):
        long = long.set_column(long.schema.get_field_index(name), name, values)
    path = tmp_path / "a.parquet"
    pq.write_table(long, path)
    saved = only(path)
    *_, last = saved_chunks(saved, Segment(saved.video), TrackConfig(), 32)
    assert last.error is not None
    assert "row 256: frame: got 7" in last.error.detail


def test_a_file_that_has_gone_is_the_videos_error(tmp_path: Path) -> None:
    saved = SavedVideo(Video(str(tmp_path), "S"), str(tmp_path), "detections/S.parquet")
    (chunk,) = saved_chunks(saved, Segment(saved.video), TrackConfig(), 4)
    assert chunk.error is not None
    assert chunk.error.reason == Reason.NOT_FOUND


def test_empty_text_is_a_sequence_without_people_or_no_sequence(tmp_path: Path) -> None:
    saved = only(sequence(tmp_path / "S", ""))
    chunks = list(saved_chunks(saved, Segment(saved.video), TrackConfig(), 4))
    assert [len(chunk.frame_index) for chunk in chunks] == [4, 1]
    saved = only(sequence(tmp_path / "T", "", info=None))
    (chunk,) = saved_chunks(saved, Segment(saved.video), TrackConfig(), 4)
    assert chunk.error is not None
    assert chunk.error.reason == Reason.EMPTY


@pytest.mark.parametrize("size", [1, 2, 5, 7])
def test_chunks_are_numbered_and_the_last_one_is_marked(tmp_path: Path, size: int) -> None:
    saved = only(sequence(tmp_path / "S"))
    chunks = list(saved_chunks(saved, Segment(saved.video, 3), TrackConfig(), size))
    assert [chunk.chunk_index for chunk in chunks] == list(range(-(-5 // size)))
    assert [chunk.is_last for chunk in chunks] == [False] * (len(chunks) - 1) + [True]
    assert np.concatenate([chunk.frame_index for chunk in chunks]).tolist() == list(range(5))
    assert {chunk.attempt for chunk in chunks} == {3}


def test_behind_a_checkpoint_chunks_are_those_that_are_left(tmp_path: Path) -> None:
    saved = only(sequence(tmp_path / "S"))
    rest = Segment(saved.video, start_frame=4)
    whole = list(saved_chunks(saved, Segment(saved.video), TrackConfig(), 2))
    left = list(saved_chunks(saved, rest, TrackConfig(), 2))
    assert [chunk.chunk_index for chunk in left] == [2]
    np.testing.assert_array_equal(left[0].frame_index, whole[2].frame_index)
    sparse = TrackConfig(vid_stride=2)
    (last,) = saved_chunks(saved, rest, sparse, 2)
    assert (last.chunk_index, last.frame_index.tolist(), last.is_last) == (1, [4], True)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-20, 200, width=32), min_size=1, max_size=30))
def test_mapped_scores_are_shares_in_the_same_order(values: list[float]) -> None:
    raw = np.array(values)
    mapped = to_scores(raw)
    assert mapped.dtype == np.float32
    assert ((mapped >= 0) & (mapped <= 1)).all()
    if raw.min() >= 0 and raw.max() <= 1:
        np.testing.assert_array_equal(mapped, raw.astype(np.float32))
    assert (np.diff(mapped[np.argsort(raw)]) >= 0).all()


def test_the_kind_of_detector_is_known_by_its_scores() -> None:
    margins, sums = np.array([-0.5, 0.25, 4.0]), np.array([-1.0, 30.0, 120.0])
    assert to_scores(margins)[1] == to_scores(sums)[1] == 0.5
    assert to_scores(sums, "60/10")[1] == pytest.approx(1 / (1 + np.exp(3)))
    with pytest.raises(ValueError, match="score-map: got scores -1 to 120"):
        to_scores(sums, "none")


@pytest.mark.parametrize("text", ["30", "a/b", "1/0", "1/-2", "nan/1", "1/2/3", "percent"])
def test_a_score_map_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="score-map: got"):
        DetectionConfig(score_map=text)


def test_a_tree_a_glob_and_a_file_name_the_same_sequences(tmp_path: Path) -> None:
    for name in ("A", "B"):
        sequence(tmp_path / "tree" / "train" / name)
    tree = find_saved([str(tmp_path / "tree")])
    assert [saved.video.name for saved in tree] == ["A", "B"]
    assert tree == find_saved([str(tmp_path / "tree/*/*/det/det.txt")])
    assert tree[0] == only(tmp_path / "tree/train/A")
    assert run_folder(tree[0]) is None
    # the same video as `jde track .../A` makes of the images
    uri = str(tmp_path / "tree/train/A")
    assert tree[0].video == Video(uri, "A", True, 10.0)


def test_what_cannot_be_told_apart_or_found_is_refused(tmp_path: Path) -> None:
    both = sequence(sequence(tmp_path / "S", name="dpm"), name="acf")
    assert "acf.txt, dpm.txt; name one" in refused(both)
    assert "S has two files" in refused(both / "det/acf.txt", both / "det/dpm.txt")
    assert only(both / "det/acf.txt").video.name == "S"
    assert only(sequence(both)).key == "det.txt"
    (tmp_path / "empty").mkdir()
    assert "no detections in" in refused(tmp_path / "empty")
    assert "does not exist" in refused(tmp_path / "missing")
    assert "does not exist" in refused(tmp_path / "missing" / "*.txt")
    (tmp_path / "bad.parquet").write_text("no")
    assert "not a readable Parquet" in refused(tmp_path / "bad.parquet")
    (tmp_path / "out" / "detections").mkdir(parents=True)
    assert "--save-detections" in refused(tmp_path / "out")
    assert "from-detections: gs://" in refused("gs://bucket/run").replace("out: got 'gs", "gs")


def test_saved_detections_are_what_the_association_saw(tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=20), b=Script(frames=3))
    out = tmp_path / "out"
    outputs = OutputConfig(save_detections=True)
    config = fakes.CONFIG
    reference.track([str(source)], str(out), config, components=fakes.COMPONENTS, outputs=outputs)
    saved = find_saved([str(out)])
    assert [one.video.name for one in saved] == ["a", "b"]
    assert {run_folder(one) for one in saved} == {str(out)}
    assert find_saved([str(out / "detections")])[0].video == saved[0].video
    info, frames = read_saved(saved[0], config)
    assert (info.width, info.height, info.frames_per_second) == (*fakes.SOURCE, 25.0)
    found = list(frames)
    assert [one.frame for one in found] == list(range(20))
    assert {one.found.embeddings.shape[1] for one in found} == {fakes.DIM}
    assert found[1].found.embeddings.dtype == np.float16
    strict = replace(config, detection=replace(config.detection, score_threshold=0.935))
    kept = [one.found for one in read_saved(saved[0], strict)[1]]
    assert all((detections.scores > 0.935).all() for detections in kept)
    assert 0 < sum(map(len, kept)) < sum(len(one.found) for one in found)


def test_a_long_file_is_read_by_parts(tmp_path: Path) -> None:
    video = Video("/x/long.mp4", "long")
    writer = RowWriter(tmp_path / "spool", video, 64, OutputConfig(save_detections=True))
    rng = np.random.default_rng(0)
    for frame in range(2560):
        boxes, vectors = rng.uniform(0, 9, (4, 4)), rng.normal(size=(4, 64))
        found = Detections(
            boxes.astype(np.float32), np.full(4, 0.9, np.float32), vectors.astype(np.float16)
        )
        writer.write_detections(SavedFrame(frame, frame / 25, found))
    about = {"width": "640", "height": "480", "frames_per_second": "25"}
    writer.commit(open_store(str(tmp_path)), about)
    key = detections_key(video.video_id)
    size = (tmp_path / key).stat().st_size
    before = pa.total_allocated_bytes()
    _, frames = read_saved(SavedVideo(video, str(tmp_path), key), TrackConfig())
    most = 0
    for count, _ in enumerate(frames):
        most = max(most, pa.total_allocated_bytes() - before) if count % 64 == 0 else most
    assert count == 2559
    assert size > 1_000_000
    assert 0 < most < size / 2
