from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial

import pytest

from jde_ray.pipelines.cluster import (
    Interrupted,
    _check_open_files,
    _initialize,
    check_address,
    connected,
    interruptible,
)
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking.pools import size_pools


@pytest.mark.parametrize("cpus", [0.5, 1, 2, 4, 64])
@pytest.mark.parametrize("detectors", [None, 1, 3])
def test_on_any_machine_both_stages_can_start(cpus: float, detectors: int | None) -> None:
    resources = ResourceConfig(num_detectors=detectors, torch_threads=4)
    pools = size_pools(resources, {"CPU": cpus})
    assert pools.num_detectors == detectors or detectors is None
    assert pools.num_detectors * pools.detector_cpus + pools.decoder_cpus <= cpus + 0.11
    assert pools.detector_gpus == 0
    assert 1 <= pools.num_shards <= 16


@pytest.mark.parametrize(
    ("cpus", "threads", "expected"), [(1, 1, 1), (2, 1, 2), (4, 1, 3), (16, 1, 14), (16, 4, 3)]
)
def test_cpus_are_filled_with_detectors_and_leave_room_to_decode(
    cpus: int, threads: int, expected: int
) -> None:
    assert (
        size_pools(ResourceConfig(torch_threads=threads), {"CPU": cpus}).num_detectors == expected
    )


@pytest.mark.parametrize(("share", "expected"), [(1.0, 4), (0.25, 16), (0.5, 8), (2.0, 2)])
def test_gpus_are_filled_with_detectors(share: float, expected: int) -> None:
    pools = size_pools(ResourceConfig(gpus_per_detector=share), {"CPU": 32, "GPU": 4})
    assert (pools.num_detectors, pools.detector_gpus) == (expected, share)


def test_what_is_asked_for_is_taken() -> None:
    asked = ResourceConfig(device="cpu", num_detectors=3, num_associators=5, num_decoders=2)
    pools = size_pools(asked, {"CPU": 8, "GPU": 4})
    assert (pools.num_detectors, pools.num_shards, pools.num_decoders) == (3, 5, 2)
    assert pools.detector_gpus == 0


def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(RunError, match="device: got cuda") as refused:
        size_pools(ResourceConfig(device="cuda"), {"CPU": 8})
    assert refused.value.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, ExitCode.INTERRUPTED), (signal.SIGTERM, ExitCode.TERMINATED)],
)
def test_signals_interrupt_and_are_given_back(number: signal.Signals, code: ExitCode) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted) as caught, interruptible():
        signal.raise_signal(number)
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is before


def test_ray_does_not_change_what_this_process_does_on_sigterm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    def exits(*_: object) -> None:
        raise SystemExit(1)

    monkeypatch.setattr("jde_ray.pipelines.cluster.check_address", lambda address: None)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", lambda **_: signal.signal(signal.SIGTERM, exits))
    reset = partial(signal.signal, signal.SIGTERM, signal.SIG_DFL)  # as `ray.shutdown` does
    monkeypatch.setattr("jde_ray.pipelines.cluster._shut_down", reset)
    with pytest.raises(Interrupted), interruptible(), connected("192.0.2.1:6379"):
        signal.raise_signal(signal.SIGTERM)
    with interruptible():
        try:
            with connected("192.0.2.1:6379"):
                pass
        finally:
            with pytest.raises(Interrupted):
                signal.raise_signal(signal.SIGTERM)


def test_a_sigterm_that_ray_takes_while_it_starts_is_handed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    def init(**_: object) -> None:
        raise SystemExit(signal.SIGTERM)  # as its handler does, which another thread has run

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Interrupted) as stopped, interruptible():
        _initialize("local")
    assert stopped.value.exit_code == ExitCode.TERMINATED


def test_sigterm_for_all_processes_leaves_those_of_ray_to_this_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import ray

    started: list[subprocess.Popen[bytes]] = []

    def init(**_: object) -> None:
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        signal.raise_signal(signal.SIGTERM)  # it is not lost, but waits until Ray has started
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))

    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(Interrupted), interruptible():
        _initialize("local")
    assert len(started) == 2
    for process in started:
        process.terminate()
    with pytest.raises(subprocess.TimeoutExpired):
        started[0].wait(0.5)
    for process in started:
        process.kill()
        assert process.wait(60) == -signal.SIGKILL


@pytest.mark.ray
def test_a_connected_process_keeps_its_ray(ray_cluster: str) -> None:
    import ray

    with connected("local"):
        assert ray.get_runtime_context().gcs_address == ray_cluster
    assert ray.is_initialized()


@pytest.mark.parametrize(
    ("mode", "hint"), [(None, "set RAY_AUTH_MODE=token"), ("token", "want another token")]
)
def test_a_ray_that_lets_nobody_in_may_want_a_token(
    mode: str | None, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`ray start --head` wants one where `~/.ray/auth_token` exists; a driver gets no such hint."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)

    def refuse(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 10.0.0.1:6379")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(RunError, match=f"no Ray at 10.0.0.1:6379 .Failed .*{hint}") as refused:
        _initialize("10.0.0.1:6379")
    assert refused.value.exit_code == ExitCode.REFUSED


def test_where_no_ray_was_found_none_wants_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr("ray.init", refuse)
    with pytest.raises(RunError, match=r"no Ray at auto \(Could not find .* instance\.\)$"):
        _initialize("auto")


@contextmanager
def listener(answer: bytes | None, family: socket.AddressFamily = socket.AF_INET) -> Iterator[int]:
    """Somebody who listens, and says this to whoever comes; None: nothing."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    with socket.create_server((host, 0), family=family) as server:

        def serve() -> None:
            with suppress(OSError):
                talk, _ = server.accept()
                if answer is not None:
                    talk.sendall(answer)
                talk.recv(100)
                time.sleep(1)
                talk.close()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]


SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])  # how an HTTP/2 server begins


@pytest.mark.parametrize("place", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "localhost:{}"])
def test_an_address_where_a_ray_may_be_passes(place: str) -> None:
    with listener(SETTINGS) as port:
        check_address(place.format(port))


def test_an_ipv6_address_passes() -> None:
    try:
        with listener(SETTINGS, socket.AF_INET6) as port:
            check_address(f"[::1]:{port}")
    except OSError:
        pytest.skip("this machine has no IPv6")


@pytest.mark.parametrize(
    ("answer", "within_s", "why"),
    [
        (None, 0.3, "no answer in 0.3 s|timed out"),
        (b"HTTP/1.1 400 Bad Request", 60.0, "something else"),
    ],
)
def test_somebody_else_at_the_address_is_told_in_seconds(
    answer: bytes | None, within_s: float, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jde_ray.pipelines.cluster._ANSWER_S", within_s)
    with listener(answer) as port, pytest.raises(RunError, match=why) as refused:
        check_address(f"127.0.0.1:{port}")
    assert refused.value.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("place", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "auto"])
def test_an_address_with_nobody_there_is_refused_at_once(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as nobody:  # bound, but nobody listens
        nobody.bind(("127.0.0.1", 0))
        port = nobody.getsockname()[1]
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    tries, connect = [], socket.create_connection
    monkeypatch.setattr(
        socket,
        "create_connection",
        lambda where, **options: tries.append(where) or connect(where, **options),
    )
    with pytest.raises(RunError, match=r"address: no Ray at .*refused") as refused:
        check_address(place.format(port))
    assert tries == [("127.0.0.1", port)]
    assert refused.value.exit_code == ExitCode.REFUSED


@pytest.mark.parametrize("address", ["here", "127.0.0.1", "http://127.0.0.1:1", "host:port", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(RunError, match="expected local, auto, HOST:PORT and ray://HOST:PORT"):
        check_address(address)


def test_auto_without_a_named_one_is_for_ray_to_find(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    check_address("auto")


def test_too_few_open_files_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, given = (64, 64), []
    monkeypatch.setattr("jde_ray.pipelines.cluster.resource.getrlimit", lambda kind: limits)
    monkeypatch.setattr(
        "jde_ray.pipelines.cluster.resource.setrlimit", lambda _, new: given.append(new)
    )
    with pytest.raises(RunError, match="open files: got a limit of 64") as refused:
        _check_open_files()
    assert refused.value.exit_code == ExitCode.REFUSED
    limits = (256, 4096)  # which we may raise ourselves
    _check_open_files()
    assert given == [(1024, 4096)]
    limits = (1024, 1024)
    _check_open_files()
    assert len(given) == 1


@pytest.mark.parametrize("num_failures", [1, 2])
def test_a_ray_that_does_not_start_is_tried_once_more(
    num_failures: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def start(address: str, **options: object) -> None:
        tries.append(address)
        if len(tries) <= num_failures:
            raise Exception("timed out\nwhile waiting for a node")  # as Ray does, of no kind

    monkeypatch.setattr("ray.init", start)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.shutdown", lambda: None)
    monkeypatch.setattr("jde_ray.pipelines.cluster.end", lambda family: None)
    if num_failures == 2:
        why = r"Ray did not start here, twice .timed out.*busy"
        with pytest.raises(RunError, match=why), connected("local"):
            pytest.fail("it did not start")
    else:
        with connected("local"):
            pass
    assert tries == ["local", "local"]


@pytest.mark.parametrize(
    ("address", "has_joined", "why"),
    [
        ("local", False, "metrics-port: got {}, which cannot be had"),
        ("local", True, "metrics-port: got {} for the Ray of this process"),
        ("auto", False, "metrics-port: got {} for the Ray of auto"),
    ],
)
def test_a_port_for_metrics_that_cannot_be_had_is_refused(
    address: str, has_joined: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: has_joined)
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        why = why.format(port)
        with pytest.raises(RunError, match=why) as refused, connected(address, port):
            pytest.fail("it was not refused")
    assert refused.value.exit_code == ExitCode.REFUSED


def test_a_run_that_began_on_gpus_does_not_go_on_without(monkeypatch: pytest.MonkeyPatch) -> None:
    before = size_pools(ResourceConfig(), {"CPU": 8, "GPU": 2})
    assert size_pools(ResourceConfig(), {"CPU": 8, "GPU": 1}, before=before).num_detectors == 1
    with pytest.raises(RunError, match="lost its last GPU") as ended:
        size_pools(ResourceConfig(), {"CPU": 8}, before=before)
    assert ended.value.exit_code == ExitCode.INTERNAL


@pytest.mark.parametrize("cpus", [1, 2, 3, 4, 16, 64])
@pytest.mark.parametrize("gpus", [0, 1, 4])
def test_decoders_leave_the_detectors_their_places(cpus: int, gpus: int) -> None:
    """So that one which starts again never waits for decoders, which wait for it."""
    pools = size_pools(ResourceConfig(), {"CPU": cpus, "GPU": gpus})
    taken = pools.num_detectors * pools.detector_cpus + pools.num_decoders * pools.decoder_cpus
    assert taken <= max(cpus, taken if pools.num_decoders == 1 else 0)
    assert cpus - taken < pools.decoder_cpus  # and nothing is idle
