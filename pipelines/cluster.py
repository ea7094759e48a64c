"""Start or join the Ray of a run, measure its resources, and leave it as it was found."""

from __future__ import annotations

import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import import_module
from types import FrameType
from typing import Any
from urllib.parse import urlsplit

from jde_ray.pipelines import own_ray, ray_messages
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.processes import Process, children, descendants, end

_ANSWER_S = 10.0  # seconds to wait for the first answer of a Ray that is joined
# Ray's servers speak HTTP/2. These bytes open a connection with empty settings; a server answers
# with a frame of type 4, its own settings
_HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_HTTP2_SETTINGS = b"\x04"
_OPEN_FILES = 1024


class Interrupted(KeyboardInterrupt):
    """SIGINT or SIGTERM was received; committed results stay, and the same command continues."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        terminated = number == signal.SIGTERM
        self.exit_code = ExitCode.TERMINATED if terminated else ExitCode.INTERRUPTED


@contextmanager
def connected(address: str, metrics_port: int | None = None) -> Iterator[None]:
    """Connect to Ray for a run: the one this process has already joined, else the one at `address`.

    Args:
        address: As in `check_address`; `local` starts one.
        metrics_port: Where a Ray that is started serves its metrics; None for any free port.

    Raises:
        RunError: If there is no Ray at the address, none can be started here, or the port is not
            for this Ray or taken.
    """
    ray_messages.expect_few()
    import ray  # seconds, which small work spares

    ray_messages.silence_loggers()
    if metrics_port is not None and (address != "local" or ray.is_initialized()):
        place = address if address != "local" else "this process"
        raise RunError(
            f"metrics-port: got {metrics_port} for the Ray of {place}, whose nodes have ports of"
            " their own (ray start --metrics-export-port)",
            ExitCode.REFUSED,
        )
    if ray.is_initialized():
        yield
        return
    if address != "local":
        check_address(address)
        _initialize(address)
        guard: AbstractContextManager[None] = nullcontext()
    else:
        _check_open_files()
        before = children(os.getpid())
        _start_own(before, metrics_port)
        guard = own_ray.watched(before)
    try:
        with guard, ray_messages.logged():
            yield
    finally:
        with _sigterm_blocked(), _sigterm_handler_kept():
            _shut_down()


def node_name() -> str:
    """The machine of this worker as runs name it: its address and the start of Ray's node id.

    Machines may share an address, as containers of one host do. Empty outside of Ray.
    """
    import ray

    if not ray.is_initialized():
        return ""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return f"{address}/{ray.get_runtime_context().get_node_id()[:8]}"


def _start_own(before: set[Process], metrics_port: int | None) -> None:
    """Start Ray on this machine; try twice, since its processes may time out on a busy machine.

    Raises:
        RunError: If it does not start, or the port of its metrics is taken.
    """
    import ray

    options: dict[str, Any] = {"include_dashboard": False}
    if metrics_port is not None:
        _check_free(metrics_port)
        options["_metrics_export_port"] = metrics_port
    for is_last in (False, True):
        try:
            _initialize("local", **options)
        except Exception as error:
            with suppress(Exception):
                ray.shutdown()
            end(children(os.getpid()) - before)
            if is_last:
                raise RunError(
                    f"Ray did not start here, twice ({_first_line(error)}); the machine may be too"
                    " busy, or short of memory or disk in its temporary folder; run the same"
                    " command to continue",
                    ExitCode.INTERNAL,
                ) from error
        else:
            return


def _check_free(metrics_port: int) -> None:
    try:
        with socket.create_server(("", metrics_port)):
            pass
    except OSError as error:
        raise RunError(
            f"metrics-port: got {metrics_port}, which cannot be had ({error.strerror})",
            ExitCode.REFUSED,
        ) from error


def _shut_down() -> None:
    """Leave Ray; kill the one that this process has started.

    Ray asks its processes with SIGTERM first, which they block, and waits a second for each.
    """
    import ray

    node: Any = import_module("ray._private.worker")._global_node
    family: set[Process] = set()
    if node is not None:
        kill = node.kill_all_processes
        node.kill_all_processes = lambda **_: kill(check_alive=False, allow_graceful=False)
        own = {one.process.pid for kind in node.all_processes.values() for one in kind}
        family = {one for one in children(os.getpid()) if one[0] in own}
        family |= descendants(family)
    ray.shutdown()
    end(family)


def _initialize(address: str, **options: Any) -> None:
    import ray

    try:
        with ray_messages.without_stderr(), _sigterm_blocked(), _sigterm_handler_kept():
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ConnectionError, RuntimeError, ValueError) as error:
        if address == "local":
            raise
        why = _first_line(error)
        raise _no_ray(
            address, why + (_token_hint() if "Failed to connect" in why else "")
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


def _no_ray(address: str, why: str) -> RunError:
    return RunError(f"address: no Ray at {address} ({why})", ExitCode.REFUSED)


def _token_hint() -> str:
    """What may be wrong with a Ray that listens and lets nobody in: `ray start` may want a token.

    It does so if there is one on its machine, and does not say so to those who come without.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "token":
        return "; does it want another token?"
    return "; if it wants a token, set RAY_AUTH_MODE=token"


def check_address(address: str) -> None:
    """Refuse an address where no Ray listens within seconds; Ray itself tries for 15 minutes.

    Args:
        address: `auto`, `HOST:PORT` or `ray://HOST:PORT`. `auto` is `RAY_ADDRESS`, or else the Ray
            that runs on this machine.

    Raises:
        RunError: If the address has another form, nothing answers there, or something else does.
    """
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS", "auto")
        if address in ("auto", "local"):
            return
    scheme, _, rest = address.rpartition("://")
    try:
        place = urlsplit(f"//{rest}")
        host, port = place.hostname, place.port or (10001 if scheme == "ray" else None)
    except ValueError:
        host, port = None, None
    if scheme not in ("", "ray") or host is None or port is None:
        raise RunError(
            f"address: got {address}, expected local, auto, HOST:PORT and ray://HOST:PORT",
            ExitCode.REFUSED,
        )
    try:
        with socket.create_connection((host, port), timeout=_ANSWER_S) as talk:
            if os.environ.get("RAY_USE_TLS") == "1":
                return
            talk.sendall(_HTTP2_HELLO)
            answer = talk.recv(4)
    except OSError as error:
        raise _no_ray(address, error.strerror or f"no answer in {_ANSWER_S:g} s") from error
    if answer[3:] != _HTTP2_SETTINGS:
        raise _no_ray(address, "something else listens there")


def _check_open_files() -> None:
    """Refuse to start Ray with too few file descriptors, without which it dies at random places.

    Raises:
        RunError: If this process may not open enough files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= _OPEN_FILES:
        return
    if hard != resource.RLIM_INFINITY and hard < _OPEN_FILES:
        raise RunError(
            f"open files: got a limit of {hard} (ulimit -n), expected {_OPEN_FILES} or more",
            ExitCode.REFUSED,
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (_OPEN_FILES, hard))


@contextmanager
def _sigterm_blocked() -> Iterator[None]:
    """Block SIGTERM, also for the processes started in the block; it is delivered after the block.

    `timeout` and systemd send SIGTERM to all processes of a run at once. Ray's would end, and with
    them what this process still has to answer or commit. It ends them itself. (Ray blocks SIGINT
    for its processes in the same way.)
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _sigterm_handler_kept() -> Iterator[None]:
    """Keep this process's handler of SIGTERM.

    `ray.init` replaces it by one that exits with 1, and `ray.shutdown` resets it to the system's,
    so that a second SIGTERM would end a run before it has said that it was interrupted. A SIGTERM
    that Ray's handler took, as another thread received it, is handed to this process's afterwards.
    """
    before, was_taken = signal.getsignal(signal.SIGTERM), False
    try:
        yield
    except SystemExit:
        was_taken = True
    finally:
        if before is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    if was_taken:
        signal.raise_signal(signal.SIGTERM)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise `Interrupted` on SIGINT and SIGTERM; in a thread other than the main one do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise Interrupted(number)

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
