"""MOT text in OUT has plain names where they do not clash, whatever happens in between."""

from __future__ import annotations

from pathlib import Path

import fakes
import pytest
from fakes import Script
from planted_out import ROWS, Row, write_tracks

from jde_ray.jobs.cli import run
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.evaluation.frames_seen import frames_seen
from jde_ray.pipelines.output.layout import mot_key
from jde_ray.pipelines.output.result_files import remove_results
from jde_ray.pipelines.output.text_names import lacking_text, name_texts, write_text
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.tracking import reference

A = Video("/a/door.mp4", "door").video_id
B = Video("/b/door.mp4", "door").video_id
HALL = Video("/b/hall.mp4", "hall").video_id


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path / "out"))


def add(store: ObjectStore, uri: str, rows: list[Row]) -> None:
    path = write_tracks(Path(store.uri), rows, uri)
    write_text(store, path.stem)


def texts(store: ObjectStore) -> dict[str, int]:
    """Rows of each text."""
    return {key: store.get(key).count(b"\n") for key in store.list("mot/")}


def test_names_are_plain_until_they_clash(store: ObjectStore):
    add(store, "/a/door.mp4", ROWS[:1])
    add(store, "/b/hall.mp4", ROWS[:2])
    name_texts(store)
    assert texts(store) == {"mot/door.txt": 1, "mot/hall.txt": 2}
    assert lacking_text(store, [A, HALL, B]) == []
    add(store, "/b/door.mp4", ROWS[:3])  # in a later call
    for _ in range(2):
        name_texts(store)
        assert texts(store) == {mot_key(A): 1, mot_key(B): 3, "mot/hall.txt": 2}
    assert lacking_text(store, [A, B, HALL]) == []


def test_a_video_that_is_called_like_an_id_takes_nobodys_text(store: ObjectStore):
    add(store, "/a/door.mp4", ROWS[:1])
    add(store, f"/drawn/{A}.mp4", ROWS[:2])
    drawn = Video(f"/drawn/{A}.mp4", A).video_id
    name_texts(store)
    assert texts(store) == {"mot/door.txt": 1, mot_key(drawn): 2}


def test_texts_of_nobody_stay(store: ObjectStore):
    add(store, "/a/door.mp4", ROWS[:1])
    store.put("mot/notes.txt", b"mine\n")
    name_texts(store)
    assert texts(store) == {"mot/door.txt": 1, "mot/notes.txt": 1}


def test_a_text_goes_with_its_video_and_no_other(store: ObjectStore):
    add(store, "/a/door.mp4", ROWS[:1])
    name_texts(store)
    add(store, "/b/door.mp4", ROWS[:3])
    remove_results(store, B)  # that call failed: the plain text is not its own
    assert texts(store) == {"mot/door.txt": 1}
    remove_results(store, A)
    assert texts(store) == {}


def test_a_killed_renaming_is_ended_by_the_next(store: ObjectStore):
    add(store, "/a/door.mp4", ROWS[:1])
    store.put("mot/door.txt", store.get(mot_key(A)))  # and then killed
    name_texts(store)
    assert texts(store) == {"mot/door.txt": 1}


def test_a_run_writes_them_and_eval_pairs_them(tmp_path: Path, capsys):
    for folder in ("x", "y"):
        fakes.archive(tmp_path / folder, a=Script(frames=12), **{folder: Script(frames=9)})
    out = tmp_path / "out"
    reference.track(
        [str(tmp_path / "x"), str(tmp_path / "y")],
        str(out),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        outputs=OutputConfig(save_mot=True),
    )
    own = sorted(path.stem for path in (out / "tracks").glob("a-*"))
    names = sorted(path.name for path in (out / "mot").iterdir())
    assert names == [*(f"{one}.txt" for one in own), "x.txt", "y.txt"]
    assert run(["eval", str(out / "mot"), "--gt", str(out / "tracks")]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in (*own, "x", "y"))


def test_the_frames_of_a_text_are_those_of_its_video(tmp_path: Path):
    fakes.archive(tmp_path / "in", a=Script(frames=12))
    out = tmp_path / "out"
    from dataclasses import replace

    reference.track(
        [str(tmp_path / "in")],
        str(out),
        replace(fakes.CONFIG, max_frames=30),
        components=fakes.COMPONENTS,
        outputs=OutputConfig(save_mot=True),
    )
    assert frames_seen(out / "mot" / "a.txt") is None  # the video ended before the 30th
