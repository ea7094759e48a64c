"""The service on a real Ray Serve: offline rows, killed replicas, the file for `serve deploy`."""

from __future__ import annotations

import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import fakes
import pytest
import yaml
from places import ROOT
from serving_clips import (
    ARGS,
    SERVE_MARKS,
    check_rows,
    kill_one,
    offline_rows,
    over_rest,
    over_sockets,
    wait_until_ready,
    write_clips,
)
from serving_service import TOKEN, TRACK, call, free_port, png

from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.serving.config import ServeConfig, read_config
from jde_ray.pipelines.serving.deployments import build_application, resolve_settings
from jde_ray.pipelines.serving.launch import (
    _FOLDER_PREFIX,
    _SHARED_MEMORY,
    _snapshot_folder,
    check_door,
    check_snapshots,
    running,
)

NUM_FRAMES = 30

pytestmark = SERVE_MARKS


@pytest.fixture(scope="module")
def port(ray_cluster: str):
    number = free_port()
    with running(ARGS, port=number):
        yield number


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight scenes as image folders, and the rows of the offline run by scene and frame."""
    folder = tmp_path_factory.mktemp("clips")
    return write_clips(folder, 8, NUM_FRAMES), offline_rows(folder, TRACK, fakes.COMPONENTS)


def test_eight_streams_over_rest_give_the_offline_rows(port, clips):
    images, wanted = clips
    num_frames = 12  # a call each, and rows do not depend on what comes behind them
    rows = over_rest(port, [clip[:num_frames] for clip in images])
    first = {name: [row for row in part if row[0] < num_frames] for name, part in wanted.items()}
    check_rows(rows, first)
    assert sum(map(len, rows)) > 300


def test_eight_streams_over_sockets_give_the_offline_rows(port, clips):
    images, wanted = clips
    rows = over_sockets(port, images)
    check_rows(rows, wanted)


def play_while_killing(port: int, clips, kinds: tuple[str, ...]) -> None:
    """Eight streams give the offline rows, though a replica of each kind dies, one a second."""
    images, wanted = clips
    failures: list[BaseException] = []

    def kill() -> None:
        try:
            for kind in kinds:
                time.sleep(1.0)
                kill_one(kind)
        except BaseException as error:
            failures.append(error)
            raise

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        is_first = True
        while is_first or killer.is_alive():
            is_first = False
            rows = over_sockets(port, images)
            check_rows(rows, wanted)
    finally:
        killer.join(60)
    assert not failures


def test_killed_sessions_detectors_ingresses_and_keepers_change_no_answer(port, clips):
    kinds = ("sessions-0", "detectors", "ingress", "sessions-1", "keeper")
    play_while_killing(port, clips, kinds)
    wait_until_ready(port)
    assert "jde_frames_total" in call(port, "GET", "/metrics")[1].decode()


def test_health_and_readiness(port):
    wait_until_ready(port)
    assert call(port, "GET", "/healthz")[1]["status"] == "ok"


@pytest.mark.slow
def test_a_rolling_update_never_mixes_versions_within_a_stream(port, clips):
    """Streams play over REST while the settings change: old ones are lost or continue unchanged."""
    from ray import serve

    from jde_ray.pipelines.serving.launch import APP

    before = resolve_settings(ARGS)
    after = replace(before, track=replace(before.track, min_box_area=900.0))
    assert before.model != after.model
    images, stop = clips[0], threading.Event()

    def play(index: int) -> list[tuple[set[str], str]]:
        """Versions in the answers of each stream, and how it ended."""
        streams: list[tuple[set[str], str]] = []
        while not stop.is_set() or not streams or after.model not in streams[-1][0]:
            opened = post(port, "/v1/streams", b"{}", "application/json")
            models, end = {opened["model"]}, "done"
            for seq, image in enumerate(images[index]):
                path = f"/v1/streams/{opened['stream']}/frames/{seq}"
                answer = post(port, path, png(image), "image/png")
                if "error" in answer:
                    end = answer["error"]
                    break
                models.add(answer["model"])
            streams.append((models, end))
        return streams

    with ThreadPoolExecutor(4) as pool:
        playing = [pool.submit(play, index) for index in range(4)]
        time.sleep(2.0)
        # as `jde serve` does: the new ingresses listen beside the old ones until those have gone
        after = replace(after, listen=f"127.0.0.1:{port}")
        serve.run(build_application(after), name=APP, route_prefix="/")
        stop.set()
        streams = [stream for part in playing for stream in part.result(300)]
    assert all(len(models) == 1 for models, _ in streams)
    assert {end for _, end in streams} <= {"done", "session_lost"}
    assert {next(iter(models)) for models, _ in streams} == {before.model, after.model}


def post(port: int, path: str, body: bytes, kind: str) -> dict:
    """A call, tried again while the service changes."""
    deadline = time.monotonic() + 120
    while True:
        try:
            status, answer, _ = call(port, "POST", path, body, kind=kind)
        except OSError:
            status, answer = 503, {}
        if status not in (500, 503) or time.monotonic() > deadline:
            return answer
        time.sleep(0.2)


def test_the_file_for_serve_deploy_is_accepted_by_serve_and_by_us():
    from ray.serve.schema import ServeDeploySchema

    content = yaml.safe_load((ROOT / "jobs/recipes/serve.yaml").read_text())
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    assert application.import_path == "jde_ray.pipelines.serving.deployments:build"
    assert schema.http_options.host == "127.0.0.1"
    config = resolve_settings(application.args)
    built = build_application(config)
    assert built._bound_deployment.name == "ingress"
    assert (config.min_detectors, config.num_detectors) == (1, 4)


@pytest.mark.parametrize(
    "values", [{}, {"weights": "x"}, {"track": {"min_box_area": 1.0}}, {"track": None}]
)
def test_frames_are_resized_in_one_way_and_another_one_is_refused(values):
    assert read_config(values).track.detection.resize == "published"
    assert read_config({}) == ServeConfig()
    with pytest.raises(ValueError, match=r"resize: got fast, expected published"):
        read_config({**values, "track": {"detection": {"resize": "fast"}}})


@pytest.mark.parametrize("mode", ["needed", "offline"])
def test_frames_that_come_singly_are_looked_at_always(mode):
    detection = {"reid": "look.onnx", "reid_mode": mode}
    with pytest.raises(ValueError, match=f"reid_mode: got {mode}, expected always"):
        read_config({"track": {"detection": detection}})


def test_a_service_chooses_no_size_for_a_stream():
    with pytest.raises(ValueError, match="size: got auto, expected one size for all streams"):
        read_config({"track": {"detection": {"auto_size": True}}})


def test_serve_build_writes_a_file_of_all_deployments(tmp_path):
    from click.testing import CliRunner
    from ray.serve.scripts import cli

    path = tmp_path / "built.yaml"
    arguments = ["build", "jde_ray.pipelines.serving.deployments:app", "--output-path", str(path)]
    built = CliRunner().invoke(cli, arguments)
    assert built.exit_code == 0, built.output
    (application,) = yaml.safe_load(path.read_text())["applications"]
    names = {deployment["name"] for deployment in application["deployments"]}
    assert names == {"ingress", "detectors", "sessions-0", "keeper"}


def test_snapshots_in_memory_go_with_their_service_and_those_of_a_killed_one_with_the_next():
    if not _SHARED_MEMORY.is_dir():
        pytest.skip("this system has no /dev/shm")
    left = _SHARED_MEMORY / f"{_FOLDER_PREFIX}999999999-left"  # above any process's number
    left.mkdir()
    with _snapshot_folder() as folder:
        assert folder is not None
        assert folder.is_dir()
        assert folder.stat().st_mode & 0o077 == 0
        assert not left.exists()
        (folder / "0-0123abcd-0123456789ab").write_bytes(b"1")
        with _snapshot_folder() as other:
            assert folder.is_dir()
            assert other != folder
    assert not folder.exists()


def test_other_addresses_need_tokens_or_an_explicit_word(tmp_path):
    tokens = tmp_path / "tokens"
    tokens.write_text(TOKEN)
    port = free_port()
    for host in ("0.0.0.0", "10.1.2.3", "example.org"):  # noqa: S104
        with pytest.raises(RunError, match="token-file"):
            check_door(host, port, None, insecure=False)
    check_door("0.0.0.0", port, str(tokens), insecure=False)  # noqa: S104
    check_door("0.0.0.0", port, None, insecure=True)  # noqa: S104
    check_door("127.0.0.1", port, None, insecure=False)
    with pytest.raises(RunError, match="one of both"):
        check_door("127.0.0.1", port, str(tokens), insecure=True)
    with pytest.raises(RunError, match="expected 1 to"):
        check_door("127.0.0.1", 0, None, insecure=False)
    for host in ("192.0.2.1", "no-such-host.invalid"):
        with pytest.raises(RunError, match=f"host: got {host}, expected an address of this"):
            check_door(host, port, None, insecure=True)


def test_a_place_for_snapshots_that_cannot_be_written_is_refused_before_anything_starts(tmp_path):
    """The service ran without any, which showed when the first stream was lost."""
    (tmp_path / "file").touch()
    for where, reason in {
        "gs://bucket/streams": "got 'gs://bucket/streams', expected actor | none | a folder | s3",
        str(tmp_path / "file"): "where a file is in the way; expected a folder",
        "/proc/streams": "cannot write to /proc/streams",
    }.items():
        with pytest.raises(RunError, match=f"snapshots: .*{re.escape(reason)}") as refused:
            check_snapshots(where)
        assert "\n" not in str(refused.value)
    for where in (str(tmp_path / "new"), "actor", "none", "memory:/dev/shm/streams"):
        check_snapshots(where)
    assert not list((tmp_path / "new" / "streams").iterdir())
