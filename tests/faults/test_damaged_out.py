"""Damages every file of a small OUT in many ways: its readers print one line, or do without it.

The name of a failing test holds the seed, and its note the damage.
"""

from __future__ import annotations

import io
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import Script

from jde_ray.jobs.cli import run
from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.output.checkpoints import Checkpoint, find_states
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import Segment
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.tracking.attempts import Attempts
from jde_ray.pipelines.tracking.from_detections import resolve_settings
from jde_ray.pipelines.tracking.stages.read import saved_chunks
from jde_ray.pipelines.tracking.stages.session import Checkpointing, VideoSession
from jde_ray.pipelines.tracking.tally import Tally

OUTPUTS = OutputConfig(save_mot=True, save_detections=True, save_embeddings=True)
SMALL = ResourceConfig(chunk_frames=8)
JSON_KINDS: list[Any] = [None, [], {}, 7, -1, 1.5, "x", True, [[]], {"config": []}]


def foreign(schema: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(schema), file)
    return file.getvalue()


def damages(path: Path, rng: random.Random) -> Iterator[bytes | None]:
    """Other contents for a file; None is a folder in its place."""
    content = path.read_bytes()
    yield from (None, b"", b"\0" * 64, b"\xff\xfe\xff", content[: len(content) // 2], content[:-1])
    yield from (json.dumps(value).encode() for value in JSON_KINDS)
    for _ in range(6):
        flipped = bytearray(content)
        for _ in range(rng.randrange(1, 9)):
            flipped[rng.randrange(len(flipped))] = rng.randrange(256)
        yield bytes(flipped)
    if path.suffix == ".json":
        yield from map(_dump, _mutations(json.loads(content), rng, 16))
    if path.suffix == ".parquet":
        yield foreign({"a": [1, 2]})
        yield foreign({"frame": ["x"], "track_id": [None], "boxes": [1]})
        bare = io.BytesIO()
        pq.write_table(pq.ParquetFile(path).read().replace_schema_metadata(None), bare)
        yield bare.getvalue()


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


def _mutations(record: Any, rng: random.Random, count: int) -> Iterator[Any]:
    """The record with one value, anywhere in it, gone or of another type."""
    places: list[tuple[Any, ...]] = []

    def visit(value: Any, place: tuple[Any, ...]) -> None:
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((*place, key))
            if isinstance(value[key], dict | list):
                visit(value[key], (*place, key))

    visit(record, ())
    for place in rng.sample(places, min(count, len(places))):
        changed = json.loads(json.dumps(record))
        inner = changed
        for key in place[:-1]:
            inner = inner[key]
        if rng.random() < 0.3:
            del inner[place[-1]]
        else:
            inner[place[-1]] = rng.choice(JSON_KINDS)
        yield changed


def put(path: Path, content: bytes | None) -> None:
    path.unlink() if path.is_file() else shutil.rmtree(path)
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)


def goes_on(folder: Path) -> None:
    reference.track(
        [str(folder / "in")],
        str(folder / "out"),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        resources=SMALL,
        outputs=OUTPUTS,
    )


def is_associated(folder: Path) -> None:
    config = TrackConfig()
    for saved in find_saved([str(folder / "out")]):
        config = resolve_settings(config, [saved])
        last = list(saved_chunks(saved, Segment(saved.video), config, 8))[-1]
        assert last.error is None or last.error.reason != "internal", last.error


def one_line(reader: Callable[[Path], None], folder: Path) -> None:
    told = ""
    try:
        reader(folder)
    except (RunError, OSError) as error:
        told = str(error)
    assert "\n" not in told
    assert not told or str(folder) in told


def command(capsys: pytest.CaptureFixture[str], *arguments: str) -> None:
    capsys.readouterr()
    code = run(list(arguments))
    told = capsys.readouterr()
    assert code in (0, 2, 3), told.err
    assert "internal" not in told.err
    assert len(told.err.splitlines()) <= 2, told.err


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    fakes.archive(folder / "in", a=Script(frames=16), bad=Script(error_at=9))
    goes_on(folder)
    return folder


def check(whole: Path, folder: Path, name: str, content: bytes | None, capsys: Any) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(whole, folder)
    (path,) = (folder / "out").glob(name)
    put(path, content)
    out = str(folder / "out")
    command(capsys, "refine", out, "--out", str(folder / "new"), "--smooth", "--relink")
    for what in ([], ["--detections"]):
        command(capsys, "eval", out, "--gt", str(whole / "out" / "tracks"), *what)
    one_line(is_associated, folder)
    (folder / "out" / "report.html").unlink(missing_ok=True)
    one_line(goes_on, folder)


FILES = (
    "run.json",
    "summary.json",
    "tracks/*.parquet",
    "detections/*.parquet",
    "errors/*.json",
    "mot/*.txt",
)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_one_line_or_nothing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (path,) = (whole / "out").glob(name)
    every = list(damages(path, random.Random(name)))
    check(whole, tmp_path / "copy", name, random.Random(1).choice(every), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", FILES)
def test_every_damage_is_one_line_or_nothing(
    whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, seed: int
) -> None:
    (path,) = (whole / "out").glob(name)
    for number, content in enumerate(damages(path, random.Random(f"{name}-{seed}"))):
        try:
            check(whole, tmp_path / "copy", name, content, capsys)
        except BaseException as error:
            error.add_note(f"damage {number} of {name}, seed {seed}: {content!r:.300}")
            raise


def test_a_checkpoint_that_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    fakes.archive(tmp_path / "in", a=Script(frames=40))
    (video,), _ = find_videos([str(tmp_path / "in")])
    store = open_store(str(tmp_path / "out"))
    detector = reference.Detector(fakes.CONFIG.detection, SMALL, fakes.COMPONENTS.build_model)
    given: dict[str, Any] = {"checkpoints": Checkpointing("t", 16)}
    session = VideoSession(video, 0, fakes.CONFIG, OUTPUTS, store, {}, tmp_path / "spool", **given)
    chunks = list(
        reference.frame_chunks(fakes.COMPONENTS.decode, Segment(video), fakes.CONFIG, SMALL)
    )
    for chunk in chunks[:-1]:
        session.deliver(detector.detect(chunk))
    (key,) = find_states(store)[video.video_id]
    own = Attempts(store, fakes.CONFIG, OUTPUTS, Tally(fakes.CONFIG, 0, None), SMALL)
    ((_, (segment,)), *_) = own._batches_of_videos("x", [video], 0)
    assert segment.start_frame == 32
    store.put("checkpoints/state.npz", b"")
    store.put(f"checkpoints/{video.video_id}/state.npz", b"")
    with np.load(io.BytesIO(store.get(key))) as file:
        arrays = {name: file[name] for name in file.files}
    for content in [*_broken_states(arrays, random.Random(0)), b"", b"x" * 99]:
        store.put(key, content)
        ((_, (segment,)), *_) = own._batches_of_videos("x", [video], 0)
        if not segment.checkpoint:
            continue  # left out at once
        other = VideoSession(
            video, 0, fakes.CONFIG, OUTPUTS, store, {}, tmp_path / "other", **given
        )
        with suppress(ValueError, FileNotFoundError, pa.ArrowException):  # as the actor does
            other.restore(Checkpoint.load(content))
        other.close()


def _broken_states(arrays: dict[str, Any], rng: random.Random) -> Iterator[bytes]:
    header = json.loads(str(arrays["header"]))
    changed = [arrays | {"header": np.array(json.dumps(v))} for v in _mutations(header, rng, 25)]
    changed += [arrays | {"header": np.array(json.dumps(v))} for v in JSON_KINDS]
    for name in arrays:
        changed.append({other: value for other, value in arrays.items() if other != name})
        changed += [arrays | {name: value} for value in (np.zeros(3), np.array("x"))]
    for values in changed:
        file = io.BytesIO()
        np.savez(file, **values)
        yield file.getvalue()
