from __future__ import annotations

import contextlib
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import (
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    IncompleteReadError,
    NoCredentialsError,
    ReadTimeoutError,
)
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber

from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.processes import mark
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.storage import local, s3_client
from jde_ray.pipelines.storage.s3 import S3Store
from jde_ray.pipelines.storage.s3_client import ConditionError, StorageError
from jde_ray.pipelines.storage.stores import open_store, writing


def test_a_folder_keeps_objects(tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "out"))
    assert list(store.list("tracks/")) == []
    assert store.put_if_absent("tracks/b.parquet", b"one")
    assert not store.put_if_absent("tracks/b.parquet", b"two")
    store.put("tracks/a.parquet", b"old")
    store.put("tracks/a.parquet", b"new")
    store.put("run.json", b"{}")
    assert store.get("tracks/b.parquet") == b"one"
    assert store.get("tracks/a.parquet") == b"new"
    assert list(store.list("tracks/")) == ["tracks/a.parquet", "tracks/b.parquet"]
    assert list(store.list("tracks/b")) == ["tracks/b.parquet"]
    assert store.exists("run.json")
    assert not store.exists("tracks")
    store.delete("run.json")
    store.delete("run.json")
    with pytest.raises(FileNotFoundError):
        store.get("run.json")


def test_a_file_is_stored_as_its_bytes(tmp_path: Path) -> None:
    source = tmp_path / "rows"
    source.write_bytes(b"x" * 3_000_000)
    store = open_store(f"file://{tmp_path}/out")
    assert store.put_if_absent("tracks/a", source)
    assert store.get("tracks/a") == source.read_bytes()
    assert open_store(store.uri).exists("tracks/a")


@pytest.mark.parametrize("nameless", [True, False])
def test_of_racing_creators_one_wins_and_nothing_is_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nameless: bool
) -> None:
    if not nameless:  # as on NFS
        monkeypatch.setattr(local, "_open_nameless", lambda folder: None)
    store = open_store(str(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        for turn in range(20):
            key = f"tracks/{turn}"
            won = list(pool.map(lambda i, k=key: store.put_if_absent(k, b"%d" % i), range(8)))
            assert sum(won) == 1
            assert store.get(key) == b"%d" % won.index(True)
    assert not list(tmp_path.rglob(".tmp-*"))


def test_a_creator_killed_while_it_writes_leaves_nothing(tmp_path: Path) -> None:
    number = local._open_nameless(tmp_path)
    if number is None:
        pytest.skip(f"{tmp_path} knows no files without names")
    os.close(number)
    code = f"""
import os, signal
from pathlib import Path
from jde_ray.pipelines.storage import local
os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)
local.LocalStore(Path({str(tmp_path)!r})).put_if_absent("tracks/a", b"rows")
"""
    ended = subprocess.run([sys.executable, "-c", code], check=False)
    assert ended.returncode == -signal.SIGKILL
    assert [path.name for path in tmp_path.rglob("*")] == ["tracks"]
    assert open_store(str(tmp_path)).put_if_absent("tracks/a", b"rows")


def test_the_next_writer_in_a_folder_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    """A file that replaces another has a name while it is written; so has any on NFS."""
    code = """
import os, signal, sys
from pathlib import Path
from jde_ray.pipelines.storage import local
local._fill = lambda file, body: (file.write(b"half"), file.flush(), os.kill(os.getpid(), 9))
local.LocalStore(Path(sys.argv[1])).put("detections/a", b"whole")
"""
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert run.returncode == -signal.SIGKILL
    assert len(list(tmp_path.rglob(".tmp-*"))) == 1
    living = tmp_path / "detections" / f".tmp-{mark()}-x"
    living.write_bytes(b"of a run that is at work")
    store = local.LocalStore(tmp_path)
    store.put("tracks/a", b"rows")
    assert len(list(tmp_path.rglob(".tmp-*"))) == 2  # a folder at a time, when it is written to
    store.put("detections/b", b"rows")
    assert list(tmp_path.rglob(".tmp-*")) == [living]


@pytest.mark.parametrize("key", ["../x", "a/../../x", "/etc/x"])
def test_keys_stay_inside(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="key: got"):
        open_store(str(tmp_path)).put(key, b"")


@pytest.mark.parametrize(
    "out", ["", "file://", "ftp://host/out", "file://host/out", "s3:bucket/out", "S3://b"]
)
def test_other_schemes_are_refused(out: str) -> None:
    with pytest.raises(ValueError, match="expected a local path or s3"):
        open_store(out)


@pytest.mark.parametrize("name", ["run#1", "run?x", "run%20b", "a//b", "Straße #1/駅"])
def test_addresses_are_literal(tmp_path: Path, name: str) -> None:
    store = open_store(f"s3://bucket/{name}/")
    assert store.uri == f"s3://bucket/{name}"
    assert open_store(store.uri).uri == store.uri
    assert open_store(f"file://{tmp_path}/{name}").uri == str(tmp_path / name)
    assert open_store(tmp_path / name).uri == str(tmp_path / name)


def test_a_folder_may_be_named_from_where_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "here/link").symlink_to(tmp_path / "far/deep")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for out, place in (
        ("../x", "x"),
        ("a/../../y", "y"),
        ("link/../z", "far/z"),
        ("~/x", "home/x"),
    ):
        store = open_store(out)
        assert store.put_if_absent("tracks/a", b"rows")
        assert (tmp_path / place / "tracks/a").read_bytes() == b"rows"
        assert list(open_store(store.uri).list("tracks/")) == ["tracks/a"]
        assert ".." not in store.uri
        with pytest.raises(ValueError, match="key: got"):
            store.get("../run.json")


@pytest.fixture
def s3() -> tuple[S3Store, Stubber]:
    client = boto3.client(
        "s3",
        region_name="eu-central-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",  # noqa: S106
        config=Config(retries={"max_attempts": 0}),
    )
    stubber = Stubber(client)
    stubber.activate()
    return S3Store("bucket", "runs/1", client), stubber


PUT = {"Bucket": "bucket", "Key": "runs/1/tracks/a", "Body": ANY, "ContentMD5": ANY}
PUT_IF_ABSENT = PUT | {"IfNoneMatch": "*"}


def test_s3_creates_with_one_conditional_put(s3: tuple[S3Store, Stubber], tmp_path: Path) -> None:
    store, stubber = s3
    stubber.add_response("put_object", {}, PUT_IF_ABSENT)
    (tmp_path / "rows").write_bytes(b"rows")
    assert store.put_if_absent("tracks/a", tmp_path / "rows")
    stubber.assert_no_pending_responses()


def test_s3_loses_on_412_and_tries_again_on_409(
    s3: tuple[S3Store, Stubber], monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stubber = s3
    monkeypatch.setattr("jde_ray.pipelines.storage.s3_client.time.sleep", lambda _: None)
    for code, status in (("ConditionalRequestConflict", 409), ("PreconditionFailed", 412)):
        stubber.add_client_error(
            "put_object", code, http_status_code=status, expected_params=PUT_IF_ABSENT
        )
    assert not store.put_if_absent("tracks/a", b"rows")
    stubber.assert_no_pending_responses()


def test_s3_lists_reads_and_misses(s3: tuple[S3Store, Stubber]) -> None:
    store, stubber = s3
    assert store.uri == "s3://bucket/runs/1"
    stubber.add_response("list_objects_v2", {"Contents": [{"Key": "runs/1/tracks/a"}]})
    assert list(store.list("tracks/")) == ["tracks/a"]
    stubber.add_response("get_object", {"Body": StreamingBody(BytesIO(b"rows"), 4)})
    assert store.get("tracks/a") == b"rows"
    stubber.add_client_error("get_object", "NoSuchKey", http_status_code=404)
    with pytest.raises(FileNotFoundError):
        store.get("tracks/b")
    stubber.add_client_error("head_object", "404", http_status_code=404)
    assert not store.exists("tracks/b")


def test_an_upload_that_another_writer_took_for_a_leftover_is_begun_again(
    s3: tuple[S3Store, Stubber], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, stubber = s3
    monkeypatch.setattr("jde_ray.pipelines.storage.s3.PART_BYTES", 4)
    (tmp_path / "video").write_bytes(b"12345678")
    stubber.add_response("list_multipart_uploads", {})
    stubber.add_response("create_multipart_upload", {"UploadId": "first"})
    stubber.add_response("upload_part", {"ETag": "a"})
    for call in ("upload_part", "abort_multipart_upload"):
        stubber.add_client_error(call, "NoSuchUpload", http_status_code=404)
    stubber.add_response("create_multipart_upload", {"UploadId": "second"})
    for part in "ab":
        stubber.add_response("upload_part", {"ETag": part})
    stubber.add_response("complete_multipart_upload", {})
    store.put("videos/a.mp4", tmp_path / "video")
    stubber.assert_no_pending_responses()


@pytest.mark.parametrize(
    ("tag", "is_ours"),
    [
        ('"5a105e8b9d40e1329780d62ea2265d8a"', False),  # an older object, put at once
        ('"ffffffffffffffffffffffffffffffff-2"', False),  # another writer's
        (None, False),
        ('"914e6c4f1115d454253e32f0355f1466-2"', True),  # of these parts: the answer was lost
    ],
)
def test_an_upload_that_is_gone_has_succeeded_only_if_its_object_is_there(
    s3: tuple[S3Store, Stubber],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tag: str | None,
    is_ours: bool,
) -> None:
    store, stubber = s3
    monkeypatch.setattr("jde_ray.pipelines.storage.s3.PART_BYTES", 4)
    (tmp_path / "video").write_bytes(b"12345678")
    tags = [f'"{hashlib.md5(part).hexdigest()}"' for part in (b"1234", b"5678")]  # noqa: S324
    stubber.add_response("list_multipart_uploads", {})
    for upload in ("first", "second"):
        stubber.add_response("create_multipart_upload", {"UploadId": upload})
        for part in tags:
            stubber.add_response("upload_part", {"ETag": part})
        if upload == "first":
            stubber.add_client_error("complete_multipart_upload", "NoSuchUpload", "", 404)
            stubber.add_response("head_object", {} if tag is None else {"ETag": tag})
            if is_ours:
                break
            stubber.add_response("abort_multipart_upload", {})
        else:
            stubber.add_response("complete_multipart_upload", {})
    store.put("detections/a.parquet", tmp_path / "video")
    stubber.assert_no_pending_responses()


def test_only_uploads_of_the_named_keys_are_aborted(s3: tuple[S3Store, Stubber]) -> None:
    store, stubber = s3
    uploads = [{"Key": f"runs/1/videos/{name}", "UploadId": name} for name in "ab"]
    stubber.add_response("list_multipart_uploads", {"Uploads": uploads})
    place = {"Bucket": "bucket", "Key": "runs/1/videos/b", "UploadId": "b"}
    stubber.add_response("abort_multipart_upload", {}, place)
    assert store.abort_uploads("videos/", {"videos/b", "videos/c"}) == 1
    stubber.assert_no_pending_responses()


def refusal(status: int, code: str = "X") -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "GetObject")  # type: ignore[arg-type]


PASSING = [
    *(refusal(status) for status in (409, 429, 500, 502, 503, 504)),
    refusal(400, "RequestTimeout"),
    EndpointConnectionError(endpoint_url="http://x"),
    ConnectTimeoutError(endpoint_url="http://x"),
    ReadTimeoutError(endpoint_url="http://x"),
    IncompleteReadError(actual_bytes=1, expected_bytes=2),
    ConnectionResetError(104, "reset"),
]
FINAL = [
    (refusal(404), FileNotFoundError),
    (refusal(403), PermissionError),
    (refusal(412), ConditionError),
    (refusal(400, "InvalidBucketName"), StorageError),
    (NoCredentialsError(), PermissionError),
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that were made; time passes by nothing else."""
    pauses: list[float] = []
    monkeypatch.setattr(s3_client.time, "sleep", pauses.append)
    monkeypatch.setattr(s3_client.time, "monotonic", lambda: sum(pauses))
    monkeypatch.setattr(s3_client.random, "random", lambda: 1.0)
    s3_client._broken.clear()
    s3_client._unmet.clear()
    return pauses


def failing(errors: list[Exception]) -> Any:
    left = list(errors)

    def request() -> str:
        if left:
            raise left.pop(0)
        return "content"

    return request


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_tried_again(clock: list[float], error: Exception) -> None:
    assert s3_client.call("get x", failing([error] * 3)) == "content"
    assert clock == [0.2, 0.4, 0.8]


@pytest.mark.parametrize(("error", "kind"), FINAL, ids=repr)
def test_what_will_not_pass_is_told_at_once(
    clock: list[float], error: Exception, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="get x: "):
        s3_client.call("get x", failing([error]))
    assert clock == []


def test_an_outage_ends_at_the_deadline_with_what_was_seen_last(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(s3_client.DEADLINE_VARIABLE, "30")
    with pytest.raises(StorageError, match=r"get x: 503 SlowDown after 9 tries in 29 s"):
        s3_client.call("get x", failing([refusal(503, "SlowDown")] * 99))
    assert max(clock) == 8.0
    clock.clear()
    with pytest.raises(StorageError, match=r"after 5 tries in 3 s"):  # it is known to be broken
        s3_client.call("get x", failing([refusal(503, "SlowDown")] * 99))
    assert s3_client.call("get x", failing([])) == "content"
    clock.clear()
    assert s3_client.call("get x", failing([refusal(503)] * 7)) == "content"


def test_a_wrong_address_is_told_soon_but_an_outage_is_waited_for(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, "http://x:1")
    away = [EndpointConnectionError(endpoint_url="http://x:1")]
    s3_client.expect_first_contact()
    with pytest.raises(StorageError, match=r"list b: no answer from http://x:1 after . tries"):
        s3_client.call("list b", failing(away * 99))
    assert sum(clock) <= 6
    s3_client._broken.clear()
    for answer in ([], [refusal(404)], [refusal(503)]):  # somebody is there
        s3_client.expect_first_contact()
        with contextlib.suppress(FileNotFoundError):
            s3_client.call("list b", failing(list(answer)))
        clock.clear()
        assert s3_client.call("list b", failing(away * 12)) == "content"
        assert sum(clock) > 60


def test_a_host_that_swallows_connections_is_told_soon_too(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    def request() -> None:
        clock.append(10.0)  # the time-out of a connection
        raise ConnectTimeoutError(endpoint_url="http://x")

    s3_client.expect_first_contact()
    with pytest.raises(StorageError, match=r"no answer from .* after 1 tries in 10 s"):
        s3_client.call("list b", request)


def test_a_host_that_never_answers_is_told_soon_but_not_once_it_was_met(
    clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database or an ssh server takes the connection and waits."""
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, "http://x:22")
    silent = [ReadTimeoutError(endpoint_url="http://x:22")]
    s3_client.expect_first_contact()
    with pytest.raises(StorageError, match="list b: no answer from http://x:22 after"):
        s3_client.call("list b", failing(silent * 99))
    assert sum(clock) <= 6
    s3_client._broken.clear()
    s3_client._unmet.clear()
    clock.clear()
    assert s3_client.call("list b", failing(silent * 12)) == "content"
    assert sum(clock) > 60


def test_the_first_contact_is_less_patient_than_those_that_follow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    s3_client.expect_first_contact()
    first = s3_client.client()
    s3_client._unmet.clear()
    later = s3_client.client()
    assert first.meta.config.connect_timeout + first.meta.config.read_timeout < 10
    assert later.meta.config.read_timeout == 20
    assert later is s3_client.client()


@pytest.mark.parametrize("page", ["<html>hello</html>", "<html><br>hello</html>", None])
def test_a_web_server_is_no_store(
    page: str | None, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    s3_client.expect_first_contact()

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404 if page is None else 200)
            self.end_headers()
            self.wfile.write((page or "not here").encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    place = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv(s3_client.ENDPOINT_VARIABLE, place)
    expected = {
        "<html>hello</html>": f"{place} answers, but not as an S3 store",
        "<html><br>hello</html>": f"500; is {place} an S3 store? after",  # boto calls it a 500
        None: f"404; is {place} an S3 store?",
    }[page]
    try:
        with pytest.raises(OSError, match=re.escape(expected)):
            list(open_store("s3://bucket/out").list("run.json"))
    finally:
        server.shutdown()
    assert sum(clock) <= 6


@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (404, "NoSuchBucket", "no such bucket (404 NoSuchBucket)"),
        (403, "AccessDenied", "no permission (403 AccessDenied)"),
        (403, "SignatureDoesNotMatch", "the secret key is not that of the access key (403"),
        (403, "InvalidAccessKeyId", "no such access key (403"),
        (400, "ExpiredToken", "the credentials have expired (400"),
        (None, "", "no AWS credentials; set them, a profile, or a role"),
    ],
)
def test_each_trouble_with_a_bucket_has_a_line_of_its_own(
    clock: list[float],
    monkeypatch: pytest.MonkeyPatch,
    status: int | None,
    code: str,
    message: str,
) -> None:
    error = NoCredentialsError() if status is None else refusal(status, code)

    class Client:
        def list_objects_v2(self, **_: Any) -> None:
            raise error

    monkeypatch.setattr(s3_client, "client", Client)
    with pytest.raises(RunError) as caught:
        find_videos("s3://bucket/a")
    assert str(caught.value).startswith(f"no video found: list s3://bucket/a: {message}")
    assert clock == []


def test_a_mistake_in_the_program_is_no_storage_error(clock: list[float]) -> None:
    with pytest.raises(KeyError):
        s3_client.call("get x", failing([KeyError("a")]))


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://x", "http://"])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match="s3-endpoint: got"):
        s3_client.configure(endpoint)


def test_what_cannot_be_written_is_said_with_its_place(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    with (
        pytest.raises(ValueError, match=r"^to: got .*, where a file is in the way"),
        writing(store, "to"),
    ):
        raise NotADirectoryError(20, "Not a directory")
    with (
        pytest.raises(OSError, match=f"^cannot write to {tmp_path}: Read-only"),
        writing(store, "to"),
    ):
        raise OSError(30, "Read-only file system")
    refused = StorageError("put b/k: no answer")
    with pytest.raises(StorageError) as caught, writing(store, "to"):
        raise refused
    assert caught.value is refused
