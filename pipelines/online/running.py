"""The service on this machine or on a cluster, from its start until it has drained."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pipelines.cluster import connected
from pipelines.errors import ExitCode, RunError

APP = "jde"
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_KEEP_ALIVE_S = 15
_PROXY_S = 120.0
_NEARBY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to call what listens there
# What Ray Serve reads from the environment. Replicas call each other without the object store and
# without threads of their own in between.
_SERVE_SETTINGS = {
    # a busy machine takes longer than Serve's 5 s to start a proxy, which it would then start anew
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    "RAY_SERVE_ENABLE_DIRECT_INGRESS": "0",  # that part of it needs another proxy
}


def check_door(host: str, port: int, token_file: str | None, *, insecure: bool) -> None:
    """Refuse an address that would let strangers in, and one that is taken.

    Raises:
        RunError: Exit code 2.
    """
    if token_file is not None and insecure:
        raise RunError("insecure: got --token-file too, accepted is one of both", ExitCode.REFUSED)
    if host not in LOOPBACK_HOSTS and token_file is None and not insecure:
        raise RunError(
            f"host: got {host} without tokens, accepted are 127.0.0.1, or --token-file FILE, or "
            "--insecure, which lets everybody in",
            ExitCode.REFUSED,
        )
    if not 1 <= port <= 65535:
        raise RunError(f"port: got {port}, accepted is 1 to 65535", ExitCode.REFUSED)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = error.strerror or "it cannot be bound"
            text = f"port: {host}:{port} is not free ({reason})"
            raise RunError(text, ExitCode.REFUSED) from error


def _start(**options: Any) -> None:
    """Start Serve; one whose proxy takes longer than Serve's own minute is found by a second call.

    Raises:
        TimeoutError: If nothing has started.
    """
    from ray import serve

    try:
        serve.start(**options)
    except TimeoutError:
        serve.start(**options)


def _wait_for_proxy(host: str, port: int) -> None:
    """Return when somebody listens.

    Raises:
        TimeoutError: If nobody does in time.
    """
    deadline = time.monotonic() + _PROXY_S
    while True:
        try:
            socket.create_connection((_NEARBY.get(host, host), port), timeout=5).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nobody listens on {host}:{port}") from error
            time.sleep(0.1)
        else:
            return


@contextmanager
def running(
    args: Mapping[str, Any], *, host: str = "127.0.0.1", port: int = 8000, address: str = "local"
) -> Iterator[str]:
    """Start the service, give its URL, and drain it in the end.

    Args:
        args: As `deployments.build` takes them.
        host: To listen on.
        port: Likewise.
        address: `local`, or that of a Ray cluster.

    Raises:
        RunError: If a setting, the weights, the tokens or the address are refused.
    """
    from pipelines.online.deployments import build_application, settle

    token_file, insecure = args.get("token_file"), bool(args.get("insecure"))
    check_door(host, port, token_file, insecure=insecure)
    try:
        config = settle(dict(args))
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    for name, value in _SERVE_SETTINGS.items():
        os.environ.setdefault(name, value)
    with connected(address):
        from ray import serve
        from ray.serve.schema import LoggingConfig

        logging.getLogger("ray.serve").setLevel(logging.WARNING)  # of this process, not of replicas
        log = LoggingConfig(encoding="JSON", enable_access_log=False)
        try:
            try:
                _start(
                    proxy_location="EveryNode",
                    http_options={
                        "host": host,
                        "port": port,
                        "keep_alive_timeout_s": _KEEP_ALIVE_S,
                    },
                    logging_config=log,
                )
                serve.run(build_application(config), name=APP, route_prefix="/", logging_config=log)
                _wait_for_proxy(host, port)
            except (RuntimeError, TimeoutError) as error:
                first = str(error).splitlines()[0]
                raise RunError(f"the service did not start: {first}", ExitCode.INTERNAL) from error
            name = f"[{host}]" if ":" in host else host
            yield f"http://{name}:{port}"
        finally:
            serve.shutdown()  # type: ignore[no-untyped-call]
