"""A network on labelled frames: the pool of detectors gives what the loop in this process gives."""

import json
from dataclasses import replace

import cv2
import fakes
import numpy as np
import pytest
from fakes import Script

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.detection.known_boxes import LabelledFrames, Readings
from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking.components import Components
from jde_ray.pipelines.tracking.network_readings import is_small, read_here, read_network
from jde_ray.pipelines.tracking.stages.known_boxes import (
    labelled_chunks,
    labelled_rows,
    readings_of_row,
    readings_to_table,
)

RESOURCES = ResourceConfig(chunk_frames=4, num_detectors=1, num_decoders=1)
CONFIG = replace(fakes.CONFIG, camera_motion=False, vid_stride=2)
COMPONENTS = Components(decode=fakes.decode, build_model=fakes.ReadingModel)


def people(rng, num_frames, *, shares):
    """Two or three people in each frame but the second."""
    frame = np.repeat(np.arange(num_frames), 3)[1:]
    frame = frame[frame != 1]
    corner = rng.uniform(0, 0.5, (len(frame), 2))
    tlbr = np.concatenate([corner, corner + 0.3], 1)
    size = 1 if shares else np.array([*fakes.SOURCE, *fakes.SOURCE])
    return BoxRows(frame, np.arange(len(frame)) % 3, tlbr * size)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """Two videos, and a list of pictures of two sizes."""
    folder, rng = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    made = []
    for name, frames in (("one", 13), ("two", 6)):
        video = Video(Script(frames=frames, seed=frames).write(folder, name), name)
        made.append(LabelledFrames(name, people(rng, frames, shares=False), video))
    pictures = []
    for number in range(11):
        picture = fakes.draw(Script(seed=3), number)
        if number % 3 == 1:
            picture = picture[:, : picture.shape[1] // 2]
        path = folder / f"{number}.png"
        cv2.imwrite(str(path), picture[:, :, ::-1])
        pictures.append(str(path))
    rows = people(rng, len(pictures), shares=True)
    return [*made, LabelledFrames("list", rows, pictures=tuple(pictures))]


def assert_equal(a, b):
    for name in ("sizes", "scores", "vectors"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("found", "known"):
        for field in ("frame", "track_id", "tlbr"):
            mine, theirs = (getattr(getattr(one, name), field) for one in (a, b))
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.ray
def test_the_pool_gives_what_one_process_gives(sets, ray_cluster):
    expected = read_here(sets, CONFIG, RESOURCES, COMPONENTS)
    found = read_network(sets, CONFIG, RESOURCES, COMPONENTS)
    assert list(found) == list(expected) == ["one", "two", "list"]
    for name, one in expected.items():
        assert len(one.scores) > 5
        assert len(one.vectors) > 4
        assert_equal(found[name], one)


def test_every_frame_is_read_once_and_people_where_they_are(sets):
    found = read_here(sets, CONFIG, RESOURCES, COMPONENTS)
    assert found["one"].sizes[:, 0].tolist() == [0, 2, 4, 6, 8, 10, 12]
    listed = found["list"]
    assert listed.sizes[:, 0].tolist() == list(range(11))  # the stride is for videos
    assert listed.sizes[1].tolist() == [1, fakes.SIZE[0] // 2, fakes.SIZE[1]]
    rows = sets[2].people
    for name, of in (("one", sets[0].people), ("list", rows)):
        known = found[name].known
        for frame in np.unique(known.frame).tolist():
            own = of[of.frame == frame]
            size = np.array([*fakes.SOURCE] * 2)
            if name == "list":
                size = np.tile(listed.sizes[frame, 1:], 2)
            scale = size if name == "list" else 1
            mine = known[known.frame == frame]
            np.testing.assert_allclose(mine.tlbr, own.tlbr[1:] * scale)  # all but the first
            assert mine.track_id.tolist() == own.track_id[1:].tolist()


def test_pictures_of_a_chunk_have_one_size_and_a_broken_one_is_named(sets, tmp_path):
    (row,) = labelled_rows([sets[2]])
    chunks = [chunk for chunk, _ in labelled_chunks(fakes.decode, row, CONFIG, RESOURCES)]
    assert [len(chunk.frame_index) for chunk in chunks] == [4, 4, 3]
    for chunk in chunks:
        assert len({bool(number % 3 == 1) for number in chunk.frame_index}) == 1
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no picture")
    pictures = (*sets[2].pictures[:2], str(broken))
    one = LabelledFrames("with a broken one", sets[2].people, pictures=pictures)
    with pytest.raises(ValueError, match=r"with a broken one: unsupported_format: .*broken.jpg"):
        read_here([one], CONFIG, RESOURCES, COMPONENTS)


def test_a_video_that_ends_early_is_refused(tmp_path):
    script = Script(frames=9, error_at=5).write(tmp_path, "cut")
    one = LabelledFrames("cut", BoxRows.empty(), Video(script, "cut"))
    with pytest.raises(ValueError, match=r"cut.*: truncated: the script says so"):
        read_here([one], CONFIG, RESOURCES, COMPONENTS)


def test_readings_survive_the_way_to_the_driver(sets):
    whole = read_here(sets[:1], CONFIG, RESOURCES, COMPONENTS)["one"]
    error = VideoError(Reason.DECODE, "why", 3)
    for one in (whole, Readings(error=error)):
        (row,) = readings_to_table("key", one).to_pylist()
        key, again = readings_of_row(row)
        assert key == "key"
        assert_equal(again, one)
        assert str(again.error) == str(one.error)


def test_small_work_stays_in_this_process(sets, monkeypatch):
    monkeypatch.setattr("jde_ray.pipelines.tracking.small_work._has_joined_ray", lambda: False)
    pictures = [sets[2]]
    assert is_small(pictures, CONFIG, ResourceConfig(in_process_frames=11))
    assert not is_small(pictures, CONFIG, ResourceConfig(in_process_frames=0))
    assert not is_small(pictures, CONFIG, ResourceConfig(address="auto"))
    assert not is_small(pictures, CONFIG, RESOURCES)  # whose pools are sized


def test_people_are_those_of_the_frames_of_a_chunk(sets):
    (row,) = labelled_rows(sets[1:2])
    (chunk, found), *_ = labelled_chunks(fakes.decode, row, CONFIG, RESOURCES)
    assert chunk.frame_index.tolist() == [0, 2, 4]
    assert [len(rows) for rows in found] == [2, 3, 3]
    with pytest.raises(ValueError, match="neither: got None and 0 pictures"):
        LabelledFrames("neither", BoxRows.empty())
    assert json.loads(labelled_rows(sets)[2]["pictures"])["key"] == "list"
