"""S3 against real servers on loopback, with and without faults on the way."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import object_stores
import pytest
from conftest import ROOT, WORKER_PATH
from faulty_proxy import FaultyProxy
from made_videos import read_number, write_video

from jde_ray.models.structures import Tracks
from jde_ray.pipelines.config import OutputConfig, ResourceConfig
from jde_ray.pipelines.errors import ExitCode, Reason, RunError, VideoError
from jde_ray.pipelines.formats.detections import read_saved
from jde_ray.pipelines.names import make_id
from jde_ray.pipelines.output.layout import tracks_key
from jde_ray.pipelines.output.result_files import RowWriter
from jde_ray.pipelines.output.work import plan_work
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.storage import s3_client
from jde_ray.pipelines.storage.s3 import S3Store
from jde_ray.pipelines.storage.s3_client import StorageError
from jde_ray.pipelines.storage.s3_file import S3File, open_object
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import TrackedFrame, Video
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.video.chunks import read_frames

pytestmark = pytest.mark.slow  # their environment is installed once, which takes a minute

NUM_FRAMES = 60


def start(kind: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    try:
        with kind(tmp_path_factory.mktemp("store")) as endpoint:
            yield endpoint
    except object_stores.CannotRunError as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module")
def swift(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from start(object_stores.swift, tmp_path_factory)


@pytest.fixture(scope="module")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    yield from start(object_stores.moto, tmp_path_factory)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name, value in object_stores.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_DEFAULT_REGION", object_stores.REGION)
    monkeypatch.setenv(s3_client.TIMEOUT_VARIABLE, "1")
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, "http://127.0.0.1:1")
    s3_client._broken.clear()
    yield
    s3_client._clients.clear()


@pytest.fixture
def bucket(swift: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    return new_bucket(swift, monkeypatch)


def new_bucket(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"jde-{os.urandom(6).hex()}"
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, endpoint)
    s3_client.client().create_bucket(Bucket=name)
    return name


@pytest.fixture
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many requests for a small file."""
    monkeypatch.setattr("jde_ray.pipelines.storage.s3_file._FIRST_WINDOW", 512)
    monkeypatch.setattr("jde_ray.pipelines.storage.s3_file._LARGEST_WINDOW", 1024)


def upload(bucket: str, key: str, path: Path) -> None:
    s3_client.client().upload_file(str(path), bucket, key)


def test_a_store_keeps_objects(bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}/runs/1")
    (tmp_path / "rows").write_bytes(b"x" * 100_000)
    assert store.put_if_absent("tracks/b", tmp_path / "rows")
    assert not store.put_if_absent("tracks/b", b"two")
    store.put("tracks/a", b"old")
    store.put("tracks/a", b"new")
    assert store.get("tracks/b") == b"x" * 100_000
    assert store.get("tracks/a") == b"new"
    assert list(store.list("tracks/")) == ["tracks/a", "tracks/b"]
    assert store.exists("tracks/a")
    store.delete("tracks/a")
    store.delete("tracks/a")
    assert not store.exists("tracks/a")
    with pytest.raises(FileNotFoundError):
        store.get("tracks/a")


def test_keys_in_any_script_come_back_as_they_went(bucket: str) -> None:
    store = open_store(f"s3://{bucket}/läufe #1?/100%2F 駅")
    keys = [
        tracks_key(make_id(name, name)) for name in ("Straße Köln", "東京駅", "हिन्दी", "كاميرا")
    ]
    for key in keys:
        assert store.put_if_absent(key, key.encode())
        assert not store.put_if_absent(key, b"two")
    assert set(store.list("tracks/")) == set(keys)
    assert [open_store(store.uri).get(key).decode() for key in keys] == keys
    assert not list(open_store(f"s3://{bucket}/läufe ").list("tracks/"))


def test_listings_are_paged(bucket: str) -> None:
    """The server gives 50 keys a page."""
    store = open_store(f"s3://{bucket}/many")
    keys = [f"tracks/{number:05d}" for number in range(130)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda key: store.put(key, b""), keys))
    assert list(store.list("tracks/")) == keys


def test_a_large_file_goes_up_in_parts_and_leaves_nothing_behind(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jde_ray.pipelines.storage.s3.PART_BYTES", 5 << 20)
    content = np.random.default_rng(0).bytes(13 << 20)
    (tmp_path / "video.mp4").write_bytes(content)
    store = S3Store(bucket, "run")
    client = s3_client.client()
    client.create_multipart_upload(Bucket=bucket, Key="run/videos/a.mp4")  # of a killed process
    store.put("videos/a.mp4", tmp_path / "video.mp4")
    assert store.get("videos/a.mp4") == content
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")

    def broken(*_: object, **__: object) -> None:
        raise PermissionError("not this part")

    monkeypatch.setattr(S3Store, "_complete", broken)
    with pytest.raises(PermissionError):
        store.put("videos/b.mp4", tmp_path / "video.mp4")
    assert not client.list_multipart_uploads(Bucket=bucket).get("Uploads")
    client.create_multipart_upload(Bucket=bucket, Key="run/videos/c.mp4")
    assert store.abort_uploads("videos/") == 1
    assert store.abort_uploads("videos/") == 0


def test_sources_are_found_by_key_prefix_and_glob(bucket: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", 3)
    keys = ("in/a.mp4", "in/cam 1/b+ü.mkv", "in/cam2/c.mp4", "in/notes.txt", "in/.hidden.mp4")
    for key in (*keys, "inside/d.mp4", "in/e [1].mp4"):
        upload(bucket, key, path)

    def found(*sources: str) -> list[str]:
        videos, _ = find_videos([f"s3://{bucket}/{source}" for source in sources])
        assert all(v.num_bytes == path.stat().st_size and v.version for v in videos)
        return [v.uri.removeprefix(f"s3://{bucket}/") for v in videos]

    assert found("in") == ["in/a.mp4", "in/cam 1/b+ü.mkv", "in/cam2/c.mp4", "in/e [1].mp4"]
    assert found("in/") == found("in")
    assert len(found("")) == 5
    assert found("in/*.mp4") == ["in/a.mp4", "in/e [1].mp4"]
    assert found("in/**/*.mp4") == ["in/a.mp4", "in/cam2/c.mp4", "in/e [1].mp4"]
    assert found("in/cam?/*") == ["in/cam2/c.mp4"]
    assert found("in/e [1].mp4") == ["in/e [1].mp4"]
    assert found("in/notes.txt", "in/a.mp4") == ["in/a.mp4", "in/notes.txt"]
    with pytest.raises(RunError, match="no video there") as refused:
        find_videos([f"s3://{bucket}/nothing"])
    assert refused.value.exit_code == ExitCode.REFUSED
    with pytest.raises(RunError, match=r"no such bucket \(404 NoSuchBucket\)"):
        find_videos(["s3://no-such-bucket-here/x"])


def test_a_video_is_read_by_ranges(bucket: str, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", 200, codec="ffv1")  # large, its index at the end
    upload(bucket, "a.mkv", path)
    frames = read_frames(Video(f"s3://{bucket}/a.mkv", "a"))
    assert [read_number(rgb) for _, _, rgb in frames] == list(range(200))
    with open_object(f"s3://{bucket}/a.mkv") as file:
        assert file.read() == path.read_bytes()
        raw = file.raw
        assert isinstance(raw, S3File)
        assert raw.num_requests <= 4
        file.seek(-10, os.SEEK_END)
        assert file.read(100) == path.read_bytes()[-10:]
        file.seek(5)
        assert file.read(7) == path.read_bytes()[5:12]
        assert raw.num_requests <= 6


def test_an_object_replaced_while_it_is_read_is_told(
    bucket: str, tmp_path: Path, small_windows: None
) -> None:
    path = write_video(tmp_path / "a.mkv", 200, codec="ffv1", size=(320, 240))
    upload(bucket, "a.mkv", path)
    frames = read_frames(Video(f"s3://{bucket}/a.mkv", "a"))
    next(frames)
    upload(bucket, "a.mkv", write_video(tmp_path / "b.mkv", 201, codec="ffv1", size=(320, 240)))
    with pytest.raises(VideoError) as changed:
        list(frames)
    assert changed.value.reason is Reason.CHANGED_DURING_READ


def test_what_is_missing_or_forbidden_is_asked_for_once(
    swift: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FaultyProxy(swift, 0.0)
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, proxy.endpoint)
    with pytest.raises(VideoError) as missing:
        next(read_frames(Video(f"s3://{bucket}/none.mp4", "none")))
    assert missing.value.reason is Reason.NOT_FOUND
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    s3_client._clients.clear()
    with pytest.raises(VideoError) as forbidden:
        next(read_frames(Video(f"s3://{bucket}/none.mp4", "none")))
    assert forbidden.value.reason is Reason.ACCESS_DENIED
    assert sum(proxy.counts.values()) <= 3  # botocore asks for the region after a 403
    with pytest.raises(RunError, match="secret key is not that of the access key"):
        find_videos([f"s3://{bucket}/in"])
    proxy.close()


def archive(tmp_path: Path, bucket: str, number: int) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for i in range(number):
        path = write_video(folder / f"v{i}.mkv", NUM_FRAMES, codec="ffv1", gop=6)
        upload(bucket, f"in/v{i}.mkv", path)
    return folder


def rows(out: str) -> dict[str, Any]:
    """Columns of all tracks by the name of the video; ids and addresses differ by where it is."""
    import io

    import pyarrow.parquet as pq

    store, found = open_store(out), {}
    for key in store.list("tracks/"):
        table = pq.ParquetFile(io.BytesIO(store.get(key))).read()
        name = key.removeprefix("tracks/").rpartition("-")[0]
        found[name] = table.drop_columns(["video_id", "video"]).to_pydict()
    return found


SETTINGS: dict[str, Any] = {
    "components": fakes.Components(build_model=fakes.NumberModel),
    "outputs": OutputConfig(save_mot=True, save_detections=True),
    "resources": ResourceConfig(chunk_frames=8),
}


def test_a_run_over_s3_equals_one_over_files(bucket: str, tmp_path: Path) -> None:
    """Byte for byte where the address is the same: an OUT here, and the same OUT there."""
    folder = archive(tmp_path, bucket, 2)
    source = [f"s3://{bucket}/in/*.mkv"]
    here, there = str(tmp_path / "out"), f"s3://{bucket}/out"
    for out in (here, there):
        summary = reference.track(source, out, fakes.CONFIG, **SETTINGS)
        assert (summary.videos_done, summary.frames) == (2, 2 * NUM_FRAMES)
    for prefix in ("tracks/", "mot/", "detections/"):
        keys = list(open_store(there).list(prefix))
        assert keys == list(open_store(here).list(prefix))
        assert len(keys) == 2
        assert all(open_store(there).get(key) == open_store(here).get(key) for key in keys)
    local = str(tmp_path / "local")
    reference.track([str(folder)], local, fakes.CONFIG, **SETTINGS)
    assert rows(local) == rows(there)
    assert sum(len(table["frame"]) for table in rows(local).values()) > 50
    again = reference.track(source, there, fakes.CONFIG, **SETTINGS)
    assert (again.videos_skipped, again.frames) == (2, 0)


def test_tracks_and_detections_of_an_out_are_read_by_parts(bucket: str, tmp_path: Path) -> None:
    source = fakes.archive(tmp_path / "in", a=fakes.Script(frames=600))
    out, outputs = f"s3://{bucket}/run", OutputConfig(save_detections=True)
    run = {"components": fakes.COMPONENTS, "outputs": outputs}
    reference.track([str(source)], out, fakes.CONFIG, **run)
    (saved,) = find_saved([out])
    _, frames = read_saved(saved, fakes.CONFIG)
    assert [frame[0] for frame in frames] == list(range(600))
    store = open_store(out)
    (row,) = plan_work(store, [saved.video], [], overwrite=False, retry_errors=False).known.values()
    store.delete("summary.json")
    (read,) = plan_work(
        store, [saved.video], [], overwrite=False, retry_errors=False
    ).known.values()
    assert (read.rows, read.tracks, read.version) == (row.rows, row.tracks, row.version)
    before = store.get(tracks_key(saved.video.video_id))
    fakes.archive(tmp_path / "in", a=fakes.Script(frames=40))
    reference.track([str(source)], out, fakes.CONFIG, overwrite=True, **run)
    assert store.get(tracks_key(saved.video.video_id)) != before


@pytest.mark.parametrize("seed", range(3))
def test_with_faults_every_row_is_right(
    swift: str,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_windows: None,
    seed: int,
) -> None:
    """5 % of the requests meet a 429, 500, 503, a reset, a stall, or are cut in their body."""
    archive(tmp_path, bucket, 3)
    source = [f"s3://{bucket}/in"]
    resources = ResourceConfig(chunk_frames=8, checkpoint_frames=16)
    reference.track(source, str(tmp_path / "plain"), fakes.CONFIG, **SETTINGS)
    proxy = FaultyProxy(swift, 0.05, seed, stall_s=3)
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, proxy.endpoint)
    settings = SETTINGS | {"resources": resources}
    for number in range(2):
        summary = reference.track(source, f"s3://{bucket}/out{number}", fakes.CONFIG, **settings)
        assert (summary.exit_code, summary.frames) == (ExitCode.DONE, 3 * NUM_FRAMES)
        assert rows(f"s3://{bucket}/out{number}") == rows(str(tmp_path / "plain"))
    faults = sum(proxy.counts.values()) - proxy.counts["ok"]
    assert faults >= 4, proxy.counts
    proxy.close()


def test_a_full_outage_ends_by_its_deadline_and_can_be_resumed(
    swift: str,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_windows: None,
) -> None:
    archive(tmp_path, bucket, 2)
    source, out = [f"s3://{bucket}/in"], str(tmp_path / "out")
    monkeypatch.setenv(s3_client.DEADLINE_VARIABLE, "3")
    proxy = FaultyProxy(swift, 0.0)
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, proxy.endpoint)
    original = fakes.NumberModel.detect

    def fail_from_here_on(self: Any, *arguments: Any) -> Any:
        proxy.outage = "503"
        return original(self, *arguments)

    monkeypatch.setattr(fakes.NumberModel, "detect", fail_from_here_on)
    summary = reference.track(source, out, fakes.CONFIG, **SETTINGS)
    assert summary.exit_code == ExitCode.SOME_FAILED
    assert {error["reason"] for error in summary.errors} == {"storage"}
    details = [error["detail"] for error in summary.errors]
    assert all("503" in detail and "tries in" in detail for detail in details), details
    with pytest.raises(RunError, match=r"out: .* cannot be used .*503 SlowDown after"):
        reference.track([str(tmp_path / "in")], f"s3://{bucket}/out", fakes.CONFIG, **SETTINGS)
    proxy.outage = None
    monkeypatch.setattr(fakes.NumberModel, "detect", original)
    summary = reference.track(source, out, fakes.CONFIG, retry_errors=True, **SETTINGS)
    assert summary.exit_code == ExitCode.DONE
    assert summary.videos_done == len(details) >= 1
    assert summary.videos_done + summary.videos_skipped == 2
    proxy.close()


@pytest.mark.ray
def test_the_dataflow_over_a_faulty_network_gives_the_plain_loops_bytes(
    swift: str, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts, checkpoints and all, on a Ray of its own; OUT is on S3 too."""
    archive(tmp_path, bucket, 2)
    source = f"s3://{bucket}/in"
    reference.track([source], str(tmp_path / "plain"), fakes.CONFIG, **SETTINGS)
    proxy = FaultyProxy(swift, 0.05, seed=1, stall_s=3)
    environment = {
        s3_client.ENDPOINT_VARIABLE: proxy.endpoint,
        "PYTHONPATH": WORKER_PATH,
        "RAY_AUTH_MODE": "disabled",
    }
    run = subprocess.run(
        [sys.executable, ROOT / "tests/run_s3.py", source, f"s3://{bucket}/out"],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == ExitCode.DONE, run.stderr[-3000:]
    proxy.close()
    there, here = open_store(f"s3://{bucket}/out"), open_store(str(tmp_path / "plain"))
    for prefix in ("tracks/", "mot/", "detections/"):
        assert len(list(there.list(prefix))) == 2
        assert all(there.get(key) == here.get(key) for key in there.list(prefix))
    assert list(there.list("checkpoints/")) == []
    assert not s3_client.client().list_multipart_uploads(Bucket=bucket).get("Uploads")
    assert proxy.counts["ok"] > 20


def test_four_runs_started_together_create_every_video_once(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = new_bucket(moto, monkeypatch)
    archive(tmp_path, own, 4)
    won: list[str] = []
    original = S3Store.put_if_absent

    def counted(self: S3Store, key: str, body: Any) -> bool:
        is_created = original(self, key, body)
        if is_created:
            won.append(key)
        return is_created

    monkeypatch.setattr(S3Store, "put_if_absent", counted)
    barrier = threading.Barrier(4)

    def run(_: int) -> Any:
        barrier.wait()
        return reference.track([f"s3://{own}/in"], f"s3://{own}/out", fakes.CONFIG, **SETTINGS)

    with ThreadPoolExecutor(4) as pool:
        summaries = list(pool.map(run, range(4)))
    assert all(summary.exit_code == ExitCode.DONE for summary in summaries)
    keys = list(open_store(f"s3://{own}/out").list("tracks/"))
    assert sorted(won) == sorted(["run.json", *keys])
    assert len(keys) == 4


@pytest.mark.parametrize("number", [1, 3])
def test_partitions_divide_an_archive(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    own = new_bucket(moto, monkeypatch)
    archive(tmp_path, own, 5)
    out, frames = f"s3://{own}/out", 0
    for part in range(1, number + 1):
        resources = ResourceConfig(chunk_frames=8, partition=f"{part}/{number}")
        settings = SETTINGS | {"resources": resources}
        frames += reference.track([f"s3://{own}/in"], out, fakes.CONFIG, **settings).frames
    assert frames == 5 * NUM_FRAMES
    assert len(list(open_store(out).list("tracks/"))) == 5
    assert len(list(open_store(out).list("summary"))) == number


def create_at_once(store: Any, folder: Path, turn: int) -> list[bool]:
    """Four writers of one video's rows, who all commit at the same moment."""
    video, barrier = Video(f"/archive/{turn}.mp4", "v"), threading.Barrier(4)

    def write(writer: int) -> bool:
        own = RowWriter(folder / f"{turn}-{writer}", video, 4, OutputConfig())
        tracks = Tracks(np.array([1]), np.ones((1, 4)), np.ones(1), np.zeros(1, int))
        own.write(TrackedFrame(0, 0.0, tracks))
        barrier.wait()
        return own.commit(store, {"num_frames": "1"})

    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(write, range(4)))
    assert store.exists(tracks_key(video.video_id))
    return won


def test_of_four_simultaneous_writers_one_commits(
    moto: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"s3://{new_bucket(moto, monkeypatch)}/out")
    for turn in range(20):
        assert sum(create_at_once(store, tmp_path, turn)) == 1


def test_where_creation_is_not_atomic_all_writers_leave_the_same_bytes(
    bucket: str, tmp_path: Path
) -> None:
    """Swift checks the condition before it writes: several of four may be told that they won."""
    store = open_store(f"s3://{bucket}/out")
    for turn in range(5):
        assert 1 <= sum(create_at_once(store, tmp_path, turn)) <= 4
    contents = {store.get(key)[:4] for key in store.list("tracks/")}
    assert contents == {b"PAR1"}
    late = Video("/archive/0.mp4", "v")
    before = store.get(tracks_key(late.video_id))
    assert not store.put_if_absent(tracks_key(late.video_id), b"other rows")
    assert store.get(tracks_key(late.video_id)) == before


def test_a_call_gives_up_at_its_deadline_and_the_next_one_sooner(
    swift: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = FaultyProxy(swift, 0.0)
    proxy.outage = "reset"
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, proxy.endpoint)
    monkeypatch.setenv(s3_client.DEADLINE_VARIABLE, "2")
    with pytest.raises(StorageError, match=r"get s3://.* after \d+ tries in"):
        open_store(f"s3://{bucket}/x").get("a")
    assert proxy.counts["reset"] >= 1  # how many fit in is told by a clock of their own
    assert s3_client._broken.is_set()
    proxy.close()
