"""Keeps the gRPC server of a replica to this machine, where Ray itself is kept to it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_ALL, _LOOPBACK = "[::]:0", "127.0.0.1:0"


def stay_on_loopback() -> None:
    """Have this replica's gRPC server listen on 127.0.0.1 if that is this node's address.

    Ray Serve always lets it listen on every address (`[::]:0`), once the replica is constructed.
    Other replicas call it at the node's address. On other nodes this does nothing.
    """
    import ray.util

    if ray.util.get_node_ip_address() != "127.0.0.1":  # type: ignore[no-untyped-call]
        return
    replica: Any = import_module("ray.serve._private.replica")
    add_port = replica.add_port_to_grpc_server

    def add_loopback(server: Any, address: str) -> int:
        port: int = add_port(server, _LOOPBACK if address == _ALL else address)
        return port

    replica.add_port_to_grpc_server = add_loopback
