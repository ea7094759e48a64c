"""Start the service on this machine or on a cluster, and drain it at the end."""

from __future__ import annotations

import errno
import io
import logging
import os
import select
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jde_ray.pipelines.cluster import connected, interruptible
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.serving.config import KEEP_ALIVE_S, MEMORY_PREFIX, ServeConfig
from jde_ray.pipelines.serving.request_log import STDERR
from jde_ray.pipelines.storage.stores import open_store, writing

APP = "jde"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_LISTENING_S = 120.0
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own in it, closed to others
_FOLDER_PREFIX = "jde-streams-"
_TRIED = "streams/.tried"  # written to a store of snapshots to see whether it can be
_NEARBY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to call what listens there
# What Ray Serve reads from the environment. Replicas call each other without the object store and
# without intermediate threads.
_SERVE_SETTINGS = {
    # a busy machine takes longer than Serve's 5 s to start a proxy, which would then be restarted
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # period of the controller's loop: with the default of 0.1 s it takes 3 % of a core
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.3",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # this part of the optimisation needs another proxy
}


@dataclass(frozen=True)
class Running:
    """A service that is up.

    Attributes:
        url: Address of its page and calls.
        leaving_file: When this file exists, `/readyz` is 503.
    """

    url: str
    leaving_file: Path

    def leave(self, for_s: float) -> None:
        """Turn `/readyz` to 503, and answer calls for `for_s` more seconds."""
        self.leaving_file.touch()
        time.sleep(for_s)


def check_door(host: str, port: int, token_file: str | None, *, insecure: bool) -> None:
    """Refuse an address that would let strangers in, and one that is taken.

    Raises:
        RunError: Exit code 2.
    """
    if token_file is not None and insecure:
        raise RunError("insecure: got --token-file too, expected one of both", ExitCode.REFUSED)
    if host not in LOOPBACK_HOSTS and token_file is None and not insecure:
        raise RunError(
            f"host: got {host} without tokens, expected 127.0.0.1, or --token-file FILE, or "
            "--insecure, which accepts everyone",
            ExitCode.REFUSED,
        )
    if not 1 <= port <= 65535:
        raise RunError(f"port: got {port}, expected 1 to 65535", ExitCode.REFUSED)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or "it cannot be bound"
            text = f"port: {host}:{port} is not free ({reason})"
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                text = f"host: got {host}, expected an address of this machine ({reason})"
            raise RunError(text, ExitCode.REFUSED) from error


def check_snapshots(where: str) -> None:
    """Refuse a folder or prefix that cannot be written; its streams would be lost without a word.

    Args:
        where: `ServeConfig.snapshots`.

    Raises:
        RunError: Exit code 2.
    """
    if where in ("actor", "none") or where.startswith(MEMORY_PREFIX):
        return
    try:
        store = open_store(where)
    except ValueError as error:
        text = f"snapshots: got {where!r}, expected actor | none | a folder | s3://bucket/prefix"
        raise RunError(text, ExitCode.REFUSED) from error
    try:
        with writing(store, "snapshots"):
            store.put(_TRIED, b"")
            store.delete(_TRIED)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    except OSError as error:
        raise RunError(f"snapshots: {error}", ExitCode.REFUSED) from error


def _start(**options: Any) -> None:
    """Start Serve; a second call finds a proxy that took longer than Serve's own minute.

    Raises:
        TimeoutError: If the second call finds none either.
    """
    from ray import serve

    try:
        serve.start(**options)
    except TimeoutError:
        serve.start(**options)


def _wait_for_listener(host: str, port: int) -> None:
    """Return when an ingress listens.

    Raises:
        TimeoutError: If none does within two minutes.
    """
    deadline = time.monotonic() + _LISTENING_S
    while True:
        try:
            socket.create_connection((_NEARBY.get(host, host), port), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on {host}:{port}") from error
            time.sleep(0.1)
        else:
            return


def _is_one_machine() -> bool:
    import ray

    return sum(node["Alive"] for node in ray.nodes()) == 1  # type: ignore[no-untyped-call]


@contextmanager
def _snapshot_folder() -> Iterator[Path | None]:
    """A folder in this machine's memory for the snapshots of one service; None without /dev/shm.

    It removes the folders of services that were killed.
    """
    if not _SHARED_MEMORY.is_dir():
        yield None
        return
    for left in _SHARED_MEMORY.glob(f"{_FOLDER_PREFIX}*"):
        owner = left.name.removeprefix(_FOLDER_PREFIX).partition("-")[0]
        if owner.isdecimal() and not Path("/proc", owner).exists():
            shutil.rmtree(left, ignore_errors=True)  # another user's stays
    with tempfile.TemporaryDirectory(
        prefix=f"{_FOLDER_PREFIX}{os.getpid()}-", dir=_SHARED_MEMORY, ignore_cleanup_errors=True
    ) as folder:
        yield Path(folder)


@contextmanager
def _relayed(path: Path) -> Iterator[None]:
    """Copy all that is written to a named pipe at `path` to standard error."""
    os.mkfifo(path, 0o600)
    # opened for writing too, so that it does not end while no ingress has it open
    pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    is_over = threading.Event()

    def relay() -> None:
        while True:
            was_over = is_over.is_set()
            if select.select([pipe], [], [], 0 if was_over else 0.5)[0]:
                data = os.read(pipe, 1 << 16)
                with suppress(OSError):
                    while data:
                        data = data[os.write(2, data) :]
            elif was_over:
                return

    thread = threading.Thread(target=relay, name="request-log", daemon=True)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join(5)
        os.close(pipe)


def _resolved(args: Mapping[str, Any], address: str) -> ServeConfig:
    """The complete settings of a service, whose snapshots can be kept."""
    from jde_ray.pipelines.serving.deployments import resolve_settings

    try:
        config = resolve_settings(dict(args))
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if address == "local":  # a cluster's folder need not be one of this machine
        check_snapshots(config.snapshots)
    return config


@contextmanager
def running(
    args: Mapping[str, Any], *, host: str = "127.0.0.1", port: int = 8000, address: str = "local"
) -> Iterator[Running]:
    """Start the service, and drain it at the end.

    Args:
        args: Arguments of `deployments.build`.
        host: Address to listen on.
        port: Port to listen on.
        address: `local`, or the address of a Ray cluster.

    Raises:
        RunError: If a setting, the weights, the tokens or the address are refused.
    """
    from jde_ray.pipelines.serving.deployments import build_application

    token_file, insecure = args.get("token_file"), bool(args.get("insecure"))
    check_door(host, port, token_file, insecure=insecure)
    config = _resolved(args, address)
    for name, value in _SERVE_SETTINGS.items():
        os.environ.setdefault(name, value)
    url_host = f"[{host}]" if ":" in host else host
    with ExitStack() as stack:
        # Ray is entered last and left first: its processes write and read in both folders
        here = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="jde-serve-")))
        folder = stack.enter_context(_snapshot_folder())
        if address == "local" and config.request_log == STDERR:
            stack.enter_context(_relayed(here / "requests"))
        stack.enter_context(connected(address))
        stack.enter_context(interruptible())  # again: Ray has replaced the handler
        if address == "local" and _is_one_machine():
            # on a cluster Serve's proxies find the ingresses, and all find the snapshot actor
            config = replace(
                config, listen=f"{url_host}:{port}", leaving_file=str(here / "leaving")
            )
            if config.request_log == STDERR:
                config = replace(config, request_log=str(here / "requests"))
            if "snapshots" not in args and folder is not None:
                config = replace(config, snapshots=f"{MEMORY_PREFIX}{folder}")
        from ray import serve
        from ray.serve.schema import LoggingConfig

        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process, not of replicas
        log = LoggingConfig(encoding="JSON", enable_access_log=False)
        try:
            try:
                _start(
                    proxy_location="EveryNode" if config.listen is None else "Disabled",
                    http_options={
                        "host": host,
                        "port": port,
                        "keep_alive_timeout_s": KEEP_ALIVE_S,
                    },
                    logging_config=log,
                )
                serve.run(build_application(config), name=APP, route_prefix="/", logging_config=log)
                _wait_for_listener(host, port)
            except (RuntimeError, TimeoutError) as error:
                first = str(error).splitlines()[0]
                raise RunError(f"the service did not start: {first}", ExitCode.INTERNAL) from error
            yield Running(f"http://{url_host}:{port}", here / "leaving")
        finally:
            # Ray prints that the controller ended, which is what it was asked to do
            with redirect_stdout(io.StringIO()):
                serve.shutdown()  # type: ignore[no-untyped-call]
