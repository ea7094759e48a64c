"""The service on a real Ray Serve: offline rows, killed replicas, the file for `serve deploy`."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import fakes
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from online_service import TOKEN, call, frame, free_port, png

from pipelines import reference
from pipelines.config import ResourceConfig
from pipelines.errors import RunError
from pipelines.online import connect
from pipelines.online.config import read_config
from pipelines.online.deployments import build_application, settle
from pipelines.online.running import check_door, running

ROOT = Path(__file__).parents[2]
ARGS = {
    "track": asdict(fakes.CONFIG),
    "parts": asdict(fakes.PARTS),
    "device": "cpu",
    "num_detectors": 2,
    "num_sessions": 2,
    "num_ingresses": 2,
    "limits": {"max_waiting": 8, "idle_s": 120.0},
}
NUM_FRAMES = 30

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


@pytest.fixture(scope="module")
def port(ray_cluster: str):
    number = free_port()
    with running(ARGS, port=number):
        yield number


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """Eight scenes as image folders, and the rows of the offline run by scene and frame."""
    folder = tmp_path_factory.mktemp("clips")
    return write_clips(folder, 8, NUM_FRAMES), offline_rows(folder, fakes.CONFIG, fakes.PARTS)


def write_clips(folder: Path, number: int, num_frames: int) -> list[list[np.ndarray]]:
    clips = [[frame(index, seed) for index in range(num_frames)] for seed in range(number)]
    for seed, images in enumerate(clips):
        (folder / f"clip{seed}" / "img1").mkdir(parents=True)
        (folder / f"clip{seed}" / "seqinfo.ini").write_text("[Sequence]\nframeRate=25\n")
        for index, image in enumerate(images):
            path = folder / f"clip{seed}" / "img1" / f"{index:06d}.png"
            cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
    return clips


def offline_rows(folder: Path, config, parts) -> dict[str, list[tuple]]:
    """By clip: (frame, track_id, x1, y1, x2, y2, score) as the offline run writes them.

    The fake decoder reads scripts, so the real one is taken.
    """
    config = replace(config, detection=replace(config.detection, resize="published"))
    parts = replace(parts, decode="pipelines.videos:decode_segment")
    summary = reference.track(
        [str(folder)],
        str(folder / "out"),
        config,
        parts=parts,
        resources=ResourceConfig(chunk_frames=1, device="cpu"),
    )
    assert summary.videos_done == len(list(folder.glob("clip*")))
    rows = {}
    for path in sorted((folder / "out/tracks").glob("*.parquet")):
        table = pq.ParquetFile(path).read().to_pydict()
        names = ("frame", "track_id", "x1", "y1", "x2", "y2", "score")
        rows[path.stem.split("-")[0]] = list(zip(*(table[name] for name in names), strict=True))
    return rows


def to_rows(seq: int, tracks: list[dict]) -> list[tuple]:
    """Rows of an answer, in the precision of the Parquet file."""
    return [
        (seq, t["track_id"], *(float(np.float32(v)) for v in (*t["box"], t["score"])))
        for t in tracks
    ]


def over_rest(port: int, clips: list[list[np.ndarray]]) -> list[list[tuple]]:
    """All clips frame by frame in turn, so that the streams interleave strictly."""
    streams = []
    for _ in clips:
        _, answer, _ = call(
            port, "POST", "/v1/streams", b'{"frames_per_second": 25}', kind="application/json"
        )
        streams.append(answer["stream"])
    rows: list[list[tuple]] = [[] for _ in clips]
    for seq in range(len(clips[0])):

        def post(index: int, seq: int = seq) -> tuple:
            path = f"/v1/streams/{streams[index]}/frames/{seq}"
            return call(port, "POST", path, png(clips[index][seq]))

        with ThreadPoolExecutor(8) as pool:
            for index, (status, answer, _) in enumerate(pool.map(post, range(len(clips)))):
                assert status == 200, answer
                rows[index] += to_rows(seq, answer["tracks"])
    return rows


def over_sockets(
    port: int, clips: list[list[np.ndarray]], encoding: str = "png"
) -> list[list[tuple]]:
    def play(images: list[np.ndarray]) -> list[tuple]:
        rows: list[tuple] = []
        with connect(f"http://127.0.0.1:{port}").stream(25, encoding=encoding) as stream:
            for seq, tracks in enumerate(stream.track(images)):
                boxes = tracks.tlbr.astype(np.float32)
                for number, box, score in zip(tracks.track_id, boxes, tracks.score, strict=True):
                    rows.append((seq, int(number), *map(float, box), float(score)))
        return rows

    with ThreadPoolExecutor(len(clips)) as pool:
        return list(pool.map(play, clips))


def test_eight_streams_over_rest_give_the_offline_rows(port, clips):
    images, wanted = clips
    rows = over_rest(port, images)
    assert {f"clip{i}": sorted(part) for i, part in enumerate(rows)} == {
        name: sorted(part) for name, part in wanted.items()
    }
    assert sum(map(len, rows)) > 300


def test_eight_streams_over_sockets_give_the_offline_rows(port, clips):
    images, wanted = clips
    rows = over_sockets(port, images)
    assert {f"clip{i}": sorted(part) for i, part in enumerate(rows)} == {
        name: sorted(part) for name, part in wanted.items()
    }


def kill_one(kind: str) -> None:
    """Kill the process of a replica of this Ray."""
    import ray

    names = [
        found["name"]
        for found in ray.util.list_named_actors(all_namespaces=True)
        if f"#{kind}" in found["name"] and found["name"].startswith("SERVE_REPLICA")
    ]
    assert names, f"no replica of {kind}"
    actor = ray.get_actor(sorted(names)[0], namespace="serve")
    ray.kill(actor, no_restart=True)


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
            assert {f"clip{i}": sorted(part) for i, part in enumerate(rows)} == {
                name: sorted(part) for name, part in wanted.items()
            }
    finally:
        killer.join(60)
    assert not failures


def wait_until_ready(port: int) -> None:
    deadline = time.monotonic() + 120
    while call(port, "GET", "/readyz")[0] != 200:  # a replica that was killed is coming back
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_killed_sessions_detectors_and_ingresses_change_no_answer(port, clips):
    play_while_killing(port, clips, ("sessions-0", "detectors", "ingress", "sessions-1"))
    wait_until_ready(port)


def test_a_killed_keeper_changes_no_answer(port, clips):
    play_while_killing(port, clips, ("keeper",))
    wait_until_ready(port)
    assert "jde_frames_total" in call(port, "GET", "/metrics")[1].decode()


def test_health_and_readiness(port):
    wait_until_ready(port)
    assert call(port, "GET", "/healthz")[1]["status"] == "ok"


@pytest.mark.slow
def test_a_rolling_update_never_mixes_versions_within_a_stream(port, clips):
    """Streams play over REST while the settings change: old ones are lost or go on as they were."""
    from ray import serve

    from pipelines.online.running import APP

    before = settle(ARGS)
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

    content = yaml.safe_load((ROOT / "jobs/serve.yaml").read_text())
    schema = ServeDeploySchema.model_validate(content)
    (application,) = schema.applications
    assert application.import_path == "pipelines.online.deployments:build"
    assert schema.http_options.host == "127.0.0.1"
    config = settle(application.args)
    built = build_application(config)
    assert built._bound_deployment.name == "ingress"
    assert (config.min_detectors, config.num_detectors) == (1, 4)
    assert read_config({}).track.detection.resize == "published"


def test_serve_build_writes_a_file_of_all_deployments(tmp_path):
    from click.testing import CliRunner
    from ray.serve.scripts import cli

    path = tmp_path / "built.yaml"
    arguments = ["build", "pipelines.online.deployments:app", "--output-path", str(path)]
    built = CliRunner().invoke(cli, arguments)
    assert built.exit_code == 0, built.output
    (application,) = yaml.safe_load(path.read_text())["applications"]
    names = {deployment["name"] for deployment in application["deployments"]}
    assert names == {"ingress", "detectors", "sessions-0", "keeper"}


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
    with pytest.raises(RunError, match="accepted is 1 to"):
        check_door("127.0.0.1", 0, None, insecure=False)
