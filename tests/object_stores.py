"""Real S3-compatible stores on loopback for the tests, in an environment of their own.

`swift`: OpenStack Swift (Apache-2.0) on one node with its S3 API. `moto`: a small server
(Apache-2.0) whose create-only PUT is atomic. Their environment is made once, in
`JDE_TEST_STORES` or `~/.cache/jde-ray`, with pip; where that cannot be done the tests are skipped.
"""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PACKAGES = ("swift==2.38.*", "keystonemiddleware", "setuptools<81", "moto[server]==5.*")
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test:tester", "AWS_SECRET_ACCESS_KEY": "testing"}
REGION = "us-east-1"
_INSTALL_S, _START_S = 300, 60

_SWIFT_CONF = """[swift-hash]
swift_hash_path_suffix = jde
swift_hash_path_prefix = jde
[storage-policy:0]
name = one
default = yes
policy_type = replication
"""
_BACKEND = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {etc}
devices = {devices}
mount_check = false
disable_fallocate = true
fallocate_reserve = 0
user = {user}
log_level = ERROR
log_address = {etc}/no-log
[pipeline:main]
pipeline = {name}-server
[app:{name}-server]
use = egg:swift#{name}
"""
_PROXY = """[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
swift_dir = {etc}
user = {user}
log_level = ERROR
[pipeline:main]
pipeline = catch_errors cache listing_formats s3api tempauth bulk slo proxy-server
[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:bulk]
use = egg:swift#bulk
[filter:slo]
use = egg:swift#slo
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin
[filter:s3api]
use = egg:swift#s3api
s3_acl = no
check_bucket_owner = no
location = us-east-1
max_bucket_listing = 50
"""
_RINGS = """
import sys
from swift.common.ring import RingBuilder
etc, *ports = sys.argv[1:]
for name, port in zip(("account", "container", "object"), ports):
    builder = RingBuilder(4, 1, 0)
    place = {"region": 1, "zone": 1, "ip": "127.0.0.1", "port": int(port), "device": "d1"}
    replication = {"replication_ip": "127.0.0.1", "replication_port": int(port)}
    builder.add_dev(place | replication | {"weight": 1.0})
    builder.rebalance()
    builder.get_ring().save(f"{etc}/{name}.ring.gz")
"""


class CannotRunError(Exception):
    """Why a store cannot be run on this machine."""


def environment() -> Path:
    """The bin folder of the stores' environment, made if it is not there.

    Raises:
        CannotRunError: If it cannot be installed.
    """
    root = Path(os.environ.get("JDE_TEST_STORES", Path.home() / ".cache/jde-ray")) / "stores-1"
    done = root / "installed"
    if not done.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", root], check=True, timeout=60)
            command = [root / "bin/python", "-m", "pip", "install", "--quiet", *PACKAGES]
            subprocess.run(command, check=True, timeout=_INSTALL_S, capture_output=True)
        except (OSError, subprocess.SubprocessError) as error:
            shutil.rmtree(root, ignore_errors=True)
            raise CannotRunError(f"the stores cannot be installed: {error}") from error
        done.touch()
    return root / "bin"


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on at the moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def client(endpoint: str, retries: int = 3) -> object:
    """A boto3 client of a store, for the tests' own look at it."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        config=Config(
            retries={"max_attempts": retries},
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


@contextmanager
def swift(root: Path) -> Iterator[str]:
    """A one-node Swift with its S3 API; gives its endpoint."""
    bin_folder = environment()
    etc, devices = root / "etc", root / "node"
    for folder in (etc, devices / "d1"):
        folder.mkdir(parents=True)
    try:
        os.setxattr(devices, "user.jde", b"1")
    except OSError as error:
        raise CannotRunError(f"no user xattrs in {root}: {error}") from error
    ports = free_ports(4)
    (etc / "swift.conf").write_text(_SWIFT_CONF)
    words = {"etc": etc, "devices": devices, "user": getpass.getuser()}
    for name, port in zip(("account", "container", "object"), ports, strict=False):
        (etc / f"{name}.conf").write_text(_BACKEND.format(name=name, port=port, **words))
    (etc / "proxy.conf").write_text(_PROXY.format(port=ports[3], **words))
    arguments = [bin_folder / "python", "-c", _RINGS, etc, *map(str, ports[:3])]
    subprocess.run(arguments, check=True, capture_output=True)
    commands = [
        [bin_folder / "python", bin_folder / f"swift-{name}-server", etc / f"{name}.conf"]
        for name in ("account", "container", "object", "proxy")
    ]
    endpoint = f"http://127.0.0.1:{ports[3]}"
    with _running(commands, root, {"SWIFT_DIR": str(etc)}, lambda: _answers(endpoint)):
        yield endpoint


@contextmanager
def moto(root: Path) -> Iterator[str]:
    """moto's server, in memory; gives its endpoint."""
    bin_folder = environment()
    (port,) = free_ports(1)
    endpoint = f"http://127.0.0.1:{port}"
    command = [bin_folder / "python", bin_folder / "moto_server", "-H", "127.0.0.1"]
    with _running([[*command, "-p", str(port)]], root, {}, lambda: _answers(endpoint)):
        yield endpoint


@contextmanager
def _running(
    commands: list[list[object]], root: Path, more: dict[str, str], is_up: Callable[[], bool]
) -> Iterator[None]:
    with (root / "log").open("w") as log:
        processes = [
            subprocess.Popen(
                [str(word) for word in command],
                env=os.environ | more,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            for command in commands
        ]
        try:
            end = time.monotonic() + _START_S
            while not is_up():
                dead = [p for p in processes if p.poll() is not None]
                if dead or time.monotonic() > end:
                    tail = (root / "log").read_text()[-500:]
                    raise CannotRunError(f"the store does not start: {tail}")
                time.sleep(0.2)
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def _answers(endpoint: str) -> bool:
    try:
        client(endpoint, retries=0).list_buckets()  # type: ignore[attr-defined]
    except (BotoCoreError, ClientError):
        return False
    return True
