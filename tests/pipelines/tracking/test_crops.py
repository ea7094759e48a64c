"""Pictures of tracks: which, from which pixels, and the same bytes whatever happened before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
from fakes import Script
from hypothesis import given
from hypothesis import strategies as st

from jde_ray.models.tracking.postprocessing.trajectories import Trajectories
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.formats.crops import crop_schema
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import crops as crops_module
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.tracking.crops import cut_of, encode_picture, write_crops

CROPS = OutputConfig(save_crops=True)
VIDEO = Video("/in/a.mp4", "a")
SIZE = (160, 120)
NOISE = np.random.default_rng(2).integers(0, 256, (30, 120, 160, 3), np.uint8)


def run(folder: Path, outputs: OutputConfig = CROPS, *, overwrite: bool = False) -> Summary:
    return reference.track(
        [str(folder / "in")],
        str(folder / "out"),
        fakes.CONFIG,
        components=replace(fakes.COMPONENTS, read_frames=fakes.read_frames),
        outputs=outputs,
        overwrite=overwrite,
    )


def tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def noise(number: int = len(NOISE)):
    return ((i, i / 25, NOISE[i]) for i in range(number))


def walkers(num_tracks: int = 2) -> Trajectories:
    """Tracks side by side in all frames of `NOISE`, which grow."""
    frame = np.tile(np.arange(len(NOISE)), num_tracks)
    track_id = np.repeat(np.arange(num_tracks) + 1, len(NOISE))
    left, wide = 10.0 + 60 * (track_id - 1), 20 + frame * 0.5
    tlbr = np.stack([left, 20 + 0 * left, left + wide, 20 + 2 * wide], axis=1)
    return Trajectories.sort(frame, track_id, tlbr, np.full(len(frame), 0.9))


def test_each_track_has_its_best_pictures_and_a_row_for_each(tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=40), b=Script(frames=30, seed=4))
    assert run(tmp_path).videos_cropped == 2
    out = tmp_path / "out"
    for name in "ab":
        video = Video(str(source / f"{name}.mp4"), name)
        frames = {i: image for i, _, image in fakes.read_frames(video)}
        table = pq.read_table(out / f"crops/index/{video.video_id}.parquet")
        assert table.schema.equals(crop_schema())
        rows, tracks = table.to_pylist(), pq.read_table(out / f"tracks/{video.video_id}.parquet")
        known = {(row["track_id"], row["frame"]): row for row in tracks.to_pylist()}
        for row in rows:
            of_track = known[row["track_id"], row["frame"]]
            for column in ("video_id", "video", "time_s", "x1", "y1", "x2", "y2", "score"):
                assert row[column] == of_track[column]
            x1, y1, x2, y2 = (row[f"crop_{name}"] for name in ("x1", "y1", "x2", "y2"))
            wanted = np.ascontiguousarray(frames[row["frame"]][y1:y2, x1:x2])
            assert (out / row["file"]).read_bytes() == encode_picture(wanted)
            picture = cv2.imread(str(out / row["file"]))[:, :, ::-1]
            assert picture.shape == wanted.shape
            assert np.abs(picture.mean(axis=(0, 1)) - wanted.mean(axis=(0, 1))).max() < 6
        ranks: dict[int, list[int]] = {}
        for row in rows:
            ranks.setdefault(row["track_id"], []).append(row["rank"])
        assert all(sorted(own) == list(range(1, len(own) + 1)) for own in ranks.values())
        assert max(map(len, ranks.values())) == 3
        files = [row["file"] for row in rows]
        folder = out / "crops" / video.video_id
        found = [str(path.relative_to(out)) for path in folder.rglob("*.jpg")]
        assert sorted(found) == files == sorted(files)


def test_later_or_after_a_kill_the_bytes_are_the_same(tmp_path: Path) -> None:
    for place in ("once", "later"):
        fakes.archive(tmp_path / place / "in", a=Script(frames=40))
        run(tmp_path / place, CROPS if place == "once" else OutputConfig())
    assert run(tmp_path / "later").videos_cropped == 1
    expected = tree(tmp_path / "once/out/crops")
    pictures = [  # without the video's id, which follows from its address
        {name.partition("/")[2]: body for name, body in found.items() if name.endswith(".jpg")}
        for found in (expected, tree(tmp_path / "later/out/crops"))
    ]
    assert pictures[0] == pictures[1] != {}
    first, *_, last = sorted((tmp_path / "once/out/crops").rglob("*.jpg"))
    first.write_bytes(b"")
    last.unlink()
    (index,) = (tmp_path / "once/out/crops/index").iterdir()
    index.unlink()  # it is written last
    assert run(tmp_path / "once").videos_cropped == 1
    assert tree(tmp_path / "once/out/crops") == expected
    assert run(tmp_path / "once").videos_cropped == 0


def test_a_video_that_is_done_again_keeps_no_picture_of_before(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=40))
    run(tmp_path)
    expected = tree(tmp_path / "out/crops")
    (folder,) = (path for path in (tmp_path / "out/crops").iterdir() if path.name != "index")
    (folder / "00000099").mkdir()
    (folder / "00000099/00000000.jpg").write_bytes(b"x")
    run(tmp_path, overwrite=True)
    assert tree(tmp_path / "out/crops") == expected


def test_of_a_damaged_video_the_frames_before_are_used(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=40, error_at=25))
    run(tmp_path, replace(CROPS, keep_partial=True))
    (index,) = (tmp_path / "out/crops/index").iterdir()
    frames = pq.read_table(index).column("frame").to_pylist()
    assert frames
    assert max(frames) < 25


def test_a_video_without_people_has_a_table_without_rows(tmp_path: Path) -> None:
    empty = walkers()[np.zeros(0, int)]
    store = open_store(str(tmp_path))
    assert write_crops(store, VIDEO, empty, SIZE, noise(), CROPS) == 0
    assert list(store.list("crops/")) == [f"crops/index/{VIDEO.video_id}.parquet"]


def test_frames_after_the_last_picture_are_not_read(tmp_path: Path) -> None:
    tracks = walkers()[walkers().frame < 10]
    frames = iter(noise())
    assert write_crops(open_store(str(tmp_path)), VIDEO, tracks, SIZE, frames, CROPS) > 0
    assert next(frames)[0] <= 10


def test_few_pictures_are_in_memory_and_an_error_of_the_store_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crops_module, "_WAITING", 2)
    outputs = replace(CROPS, crops_per_track=9)
    store = open_store(str(tmp_path / "whole"))
    number = write_crops(store, VIDEO, walkers(), SIZE, noise(), outputs)
    assert number > 10
    assert len(list(store.list(f"crops/{VIDEO.video_id}/"))) == number

    class Full:
        def __init__(self) -> None:
            self.keys: list[str] = []

        def put(self, key: str, body: bytes) -> None:
            self.keys.append(key)
            if len(self.keys) > 3:
                raise OSError(28, "no space left")

    full = Full()
    with pytest.raises(OSError, match="no space left"):
        write_crops(full, VIDEO, walkers(), SIZE, noise(), outputs)  # type: ignore[arg-type]
    assert not any(key.startswith("crops/index/") for key in full.keys)


sides = st.tuples(*[st.floats(-50, 200)] * 2, st.floats(1, 250), st.floats(1, 250))


@given(sides)
def test_a_cut_is_never_empty_and_holds_the_box_inside_the_frame(place) -> None:
    x, y, width, height = place
    tlbr = np.array([x, y, x + width, y + height])
    x1, y1, x2, y2 = cut_of(tlbr, NOISE[0])
    assert 0 <= x1 < x2 <= SIZE[0]
    assert 0 <= y1 < y2 <= SIZE[1]
    inside = np.clip(tlbr, 0, [*SIZE, *SIZE])
    if (inside[2:] - inside[:2]).min() >= 1:
        assert (x1, y1) <= (inside[0], inside[1])
        assert x1 <= inside[0]
        assert y1 <= inside[1]
        assert x2 >= inside[2]
        assert y2 >= inside[3]
        assert x2 - x1 <= 1.2 * width + 2  # a small margin and no more
