import av
import numpy as np
import pyarrow as pa
import pytest

from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.video.drawing import Trails, annotate, draw_tracks, track_colour
from jde_ray.pipelines.video.encoder import write_video

GREY = np.full((90, 120, 3), 128, np.uint8)


def decoded(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(float(f.time), f.to_ndarray(format="rgb24")) for f in container.decode(stream)]
        return stream.codec_context.name, stream.codec_context.pix_fmt, frames


def table(*rows):
    names = ("frame", "track_id", "x1", "y1", "x2", "y2", "score")
    columns = list(zip(*rows, strict=True)) or [[] for _ in names]
    types = [pa.int32(), pa.int32()] + [pa.float32()] * 5
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    return pa.table(arrays, names=names)


def test_the_box_of_a_track_is_drawn_on_its_frame_only(tmp_path):
    rows = table((2, 7, 60, 40, 100, 80, 0.9), (1, 3, 5, 40, 40, 80, 0.9))
    frames = ((i, i / 25, GREY) for i in range(4))
    assert annotate(frames, rows, tmp_path / "a.mp4", 25) == 4
    _, _, images = decoded(tmp_path / "a.mp4")
    edge = [np.abs(image[60, 58:63].astype(int) - 128).max() for _, image in images]
    assert edge[2] > 50
    assert max(edge[0], edge[1], edge[3]) < 25


def test_video_plays_in_a_browser_and_keeps_uneven_frame_times(tmp_path):
    times = [0.0, 0.04, 0.2, 0.24, 1.0]
    path = tmp_path / "v.mp4"
    assert write_video(((t, GREY) for t in times), path, 25) == 5
    codec, pixels, frames = decoded(path)
    assert (codec, pixels) == ("h264", "yuv420p")
    assert [t for t, _ in frames] == pytest.approx(times, abs=1e-4)
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    assert [entry.name for entry in tmp_path.iterdir()] == ["v.mp4"]


def test_odd_sizes_grow_by_one(tmp_path):
    write_video([(0.0, GREY[:89, :119])], tmp_path / "v.mp4", 30)
    assert decoded(tmp_path / "v.mp4")[2][0][1].shape == (90, 120, 3)


def test_a_table_without_rows_and_a_video_without_frames(tmp_path):
    assert annotate([(0, 0.0, GREY)], table(), tmp_path / "a.mp4", 25) == 1
    with pytest.raises(ValueError, match="got no frames"):
        write_video([], tmp_path / "b.mp4", 25)
    assert not (tmp_path / "b.mp4").exists()


def test_a_failure_leaves_no_file(tmp_path):
    def frames():
        yield 0.0, GREY
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        write_video(frames(), tmp_path / "b.mp4", 25)
    assert not list(tmp_path.iterdir())


def test_without_an_encoder_the_run_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("jde_ray.pipelines.video.encoder.av.codecs_available", set())
    with pytest.raises(RunError, match=r"no H\.264 encoder"):
        write_video([(0.0, GREY)], tmp_path / "b.mp4", 25)


def test_drawing_leaves_the_image_alone_and_stands_boxes_outside():
    ids, scores = np.array([1, 2]), np.array([0.5, 0.25])
    tlbr = np.array([[-20, -20, 30, 50], [100, 70, 150, 130.0]])
    drawn = draw_tracks(GREY, ids, tlbr, scores, {1: [(3, 4), (60, 60)]}, "frame 0")
    assert (GREY == 128).all()
    assert drawn.shape == GREY.shape
    assert (drawn != GREY).any()


def test_colours_are_stable_and_neighbours_differ():
    colours = [track_colour(i) for i in range(1, 13)]
    assert colours == [track_colour(i) for i in range(1, 13)]
    for a in range(12):
        for b in range(a):
            assert np.abs(np.subtract(colours[a], colours[b])).sum() > 40


def test_trails_are_short_and_forgotten():
    trails, box = Trails(3), np.array([[0, 0, 10, 20.0]])
    for _ in range(6):
        trails.update(np.array([4]), box)
    assert list(trails.points[4]) == [(5, 20)] * 3
    for _ in range(4):
        trails.update(np.zeros(0, int), np.zeros((0, 4)))
    assert trails.points == {}
