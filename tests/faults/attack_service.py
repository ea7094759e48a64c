"""Attack a `jde serve` of this machine with one token while another one calls; print percentiles.

    python tests/faults/attack_service.py --seconds 60

It starts the service on 127.0.0.1. Each attack runs for the given seconds; meanwhile a second token
calls for detections and plays a stream. It exits with 1 if one of these calls is not answered
within 2 s, or if the ingress keeps more than 100 MiB of an attack's data.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import logging
import os
import random
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
from websockets.sync.client import connect

ATTACKER, CALLER = "the-token-of-the-attacker", "the-token-of-another"
WITHIN_S = 2.0
MAY_KEEP_MIB = 100
MIB = 1 << 20


def scan_bomb(num_scans: int, side: int = 2048) -> bytes:
    """A progressive JPEG whose last, nearly empty scan comes again and again."""
    settings = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 10)
    data = cv2.imencode(".jpg", np.full((side, side, 3), 128, np.uint8), settings)[1].tobytes()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * num_scans + b"\xff\xd9"


def text_bomb(num_chunks: int = 500, unpacked: int = 7_000_000) -> bytes:
    """A PNG of one pixel with compressed texts."""
    packed = b"a\0\0" + zlib.compress(bytes(unpacked), 9)
    chunk = struct.pack("!I", len(packed)) + b"zTXt" + packed
    chunk += struct.pack("!I", zlib.crc32(b"zTXt" + packed))
    data = cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    return data[:33] + chunk * num_chunks + data[33:]


def slow_image(seed: int) -> bytes:
    """A legal image that takes long: 36 megapixels of noise in 64 scans, or as PNG."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 255, (750, 750, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    settings = (cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_QUALITY, 50)
    data = cv2.imencode(".jpg", noise, settings)[1].tobytes()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (64 - data.count(b"\xff\xda")) + b"\xff\xd9"


def big_image() -> bytes:
    """A PNG of 15 MB."""
    noise = np.random.default_rng(0).integers(0, 255, (2236, 2236, 3), np.uint8)
    return cv2.imencode(".png", noise, (cv2.IMWRITE_PNG_COMPRESSION, 0))[1].tobytes()


def street(number: int) -> bytes:
    """A small frame, as a camera sends it."""
    rng = np.random.default_rng(number % 10)
    image = cv2.resize(rng.integers(0, 255, (36, 64, 3), np.uint8), (1280, 720))
    return cv2.imencode(".jpg", image)[1].tobytes()


@dataclass
class Service:
    """A running one."""

    port: int

    def call(self, token: str, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        """Status and body; 0 if the connection is cut."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"authorization": f"Bearer {token}", "content-type": "application/octet-stream"}
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException):
            return 0, b""
        finally:
            connection.close()

    def open(self, token: str) -> str | None:
        """A new stream's id."""
        status, body = self.call(token, "POST", "/v1/streams", b"{}")
        return json.loads(body)["stream"] if status == 201 else None

    def memory_mib(self) -> float:
        """Resident memory of whoever listens on the port, and of its decoding processes."""
        inodes = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[1].endswith(f":{self.port:04X}") and parts[3] == "0A":
                inodes.add(f"socket:[{parts[9]}]")
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]
        listening = {pid for pid in pids if inodes & set(_links(pid))}
        pages = 0
        for pid in pids:
            with contextlib.suppress(OSError):
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if pid in listening or parent in listening:
                    pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * 4096 / MIB


def _links(pid: int) -> Iterator[str]:
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                yield str(path.readlink())


def flood(service: Service, images: list[bytes], threads: int = 4) -> None:
    """Calls to detect, one after the other in each thread."""

    def send(seed: int) -> None:
        rng = random.Random(seed)
        while True:
            service.call(ATTACKER, "POST", "/v1/detect", rng.choice(images))

    _in_threads(send, threads)


def flood_sockets(service: Service, images: list[bytes], sockets: int, ahead: int = 16) -> None:
    """Sockets that are as far ahead as they may be, again and again."""

    def send(seed: int) -> None:
        rng = random.Random(seed)
        while True:
            stream = service.open(ATTACKER)
            if stream is None:
                time.sleep(0.2)
                continue
            with contextlib.suppress(Exception), _socket(service, ATTACKER, stream) as one:
                one.recv(timeout=5)
                for _ in range(ahead):
                    one.send(rng.choice(images))
                while True:
                    one.recv(timeout=5)
                    one.send(rng.choice(images))
            service.call(ATTACKER, "DELETE", f"/v1/streams/{stream}")

    _in_threads(send, sockets)


def hold_sockets(service: Service, number: int = 300) -> None:
    """More sockets than one token may have, and nothing sent over them."""
    held = contextlib.ExitStack()
    with held:
        for _ in range(number):
            with contextlib.suppress(Exception):
                stream = service.open(ATTACKER) or "none"
                held.enter_context(_socket(service, ATTACKER, stream))
        time.sleep(10**6)


def half_messages(service: Service, number: int = 100) -> None:
    """Sockets that begin a message of 16 MiB and never bring it to its end; bodies, too."""
    held = []
    for index in range(number):
        with contextlib.suppress(OSError):
            raw = socket.create_connection(("127.0.0.1", service.port), timeout=5)
            held.append(raw)
            head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {ATTACKER}\r\n"
            if index % 2:
                head = f"POST /v1/detect HTTP/1.1\r\n{head}Content-Length: {16 * MIB}\r\n\r\n"
                raw.sendall(head.encode() + bytes(4 * MIB))
            else:
                stream = service.open(ATTACKER) or "none"
                head = (
                    f"GET /v1/streams/{stream}/ws HTTP/1.1\r\n{head}Connection: Upgrade\r\n"
                    "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
                )
                raw.sendall(head.encode())
                raw.recv(4096)
                raw.sendall(b"\x82\xff" + struct.pack("!Q", 16 * MIB) + bytes(4))
                raw.sendall(bytes(15 * MIB))
    time.sleep(10**6)


def _socket(service: Service, token: str, stream: str) -> connect:
    return connect(
        f"ws://127.0.0.1:{service.port}/v1/streams/{stream}/ws",
        additional_headers={"authorization": f"Bearer {token}"},
        max_size=None,
        compression=None,
        open_timeout=10,
        close_timeout=1,
    )


def _in_threads(target: Callable[[int], None], number: int) -> None:
    threads = [threading.Thread(target=target, args=(seed,), daemon=True) for seed in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass
class Caller:
    """The other token: how long its calls took, and what was not answered with 200."""

    service: Service
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    most_memory_mib: float = 0.0

    def run(self, for_s: float) -> None:
        """Detections, a stream over REST, and /readyz, one after the other."""
        stream, seq = self._open(), 0
        until = time.monotonic() + for_s
        while time.monotonic() < until:
            self._timed("POST", "/v1/detect", street(seq))
            if self._timed("POST", f"/v1/streams/{stream}/frames/{seq}", street(seq)):
                seq += 1
            self._timed("GET", "/readyz")
            self.most_memory_mib = max(self.most_memory_mib, self.service.memory_mib())
            time.sleep(0.05)
        self.service.call(CALLER, "DELETE", f"/v1/streams/{stream}")

    def _open(self) -> str:
        since = time.perf_counter()
        stream = self.service.open(CALLER)
        self.seconds.append(time.perf_counter() - since)
        if stream is None:
            self.failures.append("POST /v1/streams")
        return stream or "none"

    def _timed(self, method: str, path: str, body: bytes = b"") -> bool:
        since = time.perf_counter()
        status, answer = self.service.call(CALLER, method, path, body)
        self.seconds.append(time.perf_counter() - since)
        if status != 200:
            self.failures.append(f"{method} {path}: {status} {answer[:200].decode()}")
        return status == 200


@contextlib.contextmanager
def serving(arguments: list[str]) -> Iterator[Service]:
    """A `jde serve` with two tokens."""
    with socket.socket() as probe, tempfile.TemporaryDirectory() as folder:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        tokens = Path(folder, "tokens")
        tokens.write_text(f"{ATTACKER}\n{CALLER}\n")
        command = [sys.executable, "-m", "jde_ray.jobs.cli", "serve", "--port", str(port)]
        process = subprocess.Popen(
            [*command, "--token-file", str(tokens), *arguments], stdout=subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            assert b"jde serves" in process.stdout.readline()
            yield Service(port)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)


def run_attack(name: str, port: int) -> None:
    """Attack until this process is killed. It yields to the service: attackers are elsewhere."""
    os.nice(10)
    logging.disable()
    ATTACKS[name](Service(port))


ATTACKS: dict[str, Callable[[Service], None]] = {
    "nothing": lambda service: time.sleep(10**6),
    "thousands of scans": lambda service: flood(service, [scan_bomb(3372), scan_bomb(14_558)]),
    "packed texts": lambda service: flood(service, [text_bomb()]),
    "36 megapixels in 64 scans": lambda service: flood(service, [slow_image(0), slow_image(1)]),
    "the same over 16 sockets": lambda service: flood_sockets(service, [slow_image(0)], 16, 8),
    "15 MB over 12 sockets": lambda service: flood_sockets(service, [big_image()], 12),
    "300 sockets": hold_sockets,
    "half messages": half_messages,
}


def _some(failures: list[str]) -> str:
    return ", ".join(sorted(set(failures))[:3])


def main() -> int:
    """Run the attacks that were asked for; 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each attack")
    parser.add_argument("--only", default="", help="names that begin so")
    parser.add_argument("serve", nargs="*", help="arguments of jde serve, behind --")
    wanted = parser.parse_args()
    is_kept = True
    with serving(wanted.serve) as service:
        while service.call(CALLER, "GET", "/readyz")[0] != 200:
            time.sleep(0.2)
        service.call(CALLER, "POST", "/v1/detect", street(0))
        print(
            f"{'attack':27} calls  p50 ms  p95 ms  p99 ms  max ms  failed   "
            "MiB: before, most, after"
        )
        for name in ATTACKS:
            if not name.startswith(wanted.only):
                continue
            before = service.memory_mib()
            # in a process of its own, whose threads take no time from the caller's
            attacker = get_context("spawn").Process(target=run_attack, args=(name, service.port))
            attacker.start()
            time.sleep(5.0)  # its images are made
            caller = Caller(service)
            caller.run(wanted.seconds)
            attacker.kill()
            attacker.join()
            time.sleep(8.0)  # what is being decoded is over by now
            after = service.memory_mib()
            times = np.array(caller.seconds)
            p50, p95, p99 = (1000 * np.percentile(times, part) for part in (50, 95, 99))
            print(
                f"{name:27} {len(times):5} {p50:7.0f} {p95:7.0f} {p99:7.0f} "
                f"{1000 * times.max():7.0f} {len(caller.failures):7}   {before:.0f}, "
                f"{caller.most_memory_mib:.0f}, {after:.0f}  {_some(caller.failures)}",
                flush=True,
            )
            is_kept &= not caller.failures and times.max() <= WITHIN_S
            is_kept &= name == "nothing" or after - before <= MAY_KEEP_MIB
    print("kept" if is_kept else "NOT KEPT")
    return 0 if is_kept else 1


if __name__ == "__main__":
    sys.exit(main())
