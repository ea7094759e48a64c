"""The nginx block of docs/serving.md, in a real nginx in front of a service in this process."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import blocks
from serving_service import TOKEN, call, frame, free_port, running
from tls_front import certificate

from jde_ray.pipelines.serving.client.calls import ServiceError
from jde_ray.pipelines.serving.client.connection import connect

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/bin")
FRAMES = [frame(number) for number in range(20)]


@contextlib.contextmanager
def proxy(
    folder: Path, service_port: int, upstream: str = "", **changes: str
) -> Iterator[tuple[int, Path]]:
    """An nginx with the documented block; its port, and the certificate that it shows."""
    (block,) = (block for block in blocks() if block.kind == "nginx" and "listen" in block.text)
    key, public = certificate(folder)
    port = free_port()
    text = block.text
    for old, new in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "video.example.com;": "localhost;",
        "/etc/ssl/video.example.com.pem": str(public),
        "/etc/ssl/video.example.com.key": str(key),
        "127.0.0.1:8000": f"127.0.0.1:{service_port}",
        **changes,
    }.items():
        assert old in text
        text = text.replace(old, new)
    text = upstream + text
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    settings = folder / "nginx.conf"
    settings.write_text(
        f"daemon off; pid {folder}/pid; error_log stderr;"
        f"events {{}} http {{ access_log off; {temporary}\n{text} }}"
    )
    process = subprocess.Popen([str(NGINX), "-p", str(folder), "-c", str(settings)])
    try:
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield port, public
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if NGINX is None:
        pytest.skip("needs nginx (apt-get install nginx-light)")
    return tmp_path


def test_calls_and_sockets_pass_with_a_token_and_a_path_of_their_own(folder: Path) -> None:
    with running(tokens=(TOKEN,)) as service, proxy(folder, service.port) as (port, public):
        client = connect(f"https://localhost:{port}/people", TOKEN, ca_file=str(public))
        service.wait_until_ready()
        assert client.is_ready()
        direct = connect(service.url, TOKEN)
        assert len(client.detect(FRAMES[3])) == len(direct.detect(FRAMES[3])) > 0
        rows = []
        for one in (client, direct):
            with one.stream(25, encoding="png") as stream:
                rows.append([tracks.tlbr.tolist() for tracks in stream.track(FRAMES)])
        assert rows[0] == rows[1]
        with pytest.raises(ServiceError, match="wrong_token"):
            connect(f"https://localhost:{port}/people", "x" * 20, ca_file=str(public)).stream()


def test_a_body_as_large_as_the_service_takes_passes(folder: Path) -> None:
    """nginx refuses more than 1 MB unless its block says otherwise."""
    with running(tokens=(TOKEN,)) as service, proxy(folder, service.port) as (port, public):
        curl = shutil.which("curl")
        if curl is None:
            pytest.skip("there is no curl")
        body = folder / "body"
        body.write_bytes(bytes(15 << 20))
        said = subprocess.run(
            [
                *(curl, "-s", f"https://localhost:{port}/people/v1/detect", "--cacert", public),
                *("-H", f"Authorization: Bearer {TOKEN}", "--data-binary", f"@{body}"),
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        assert "got another format, expected a JPEG, PNG or WebP" in said.stdout
        assert call(service.port, "GET", "/readyz")[0] == 200


def test_a_stream_goes_on_in_the_other_service_while_one_restarts(folder: Path) -> None:
    """The recipe of docs/serving.md; the services share their snapshots."""
    (block,) = (block for block in blocks() if block.kind == "nginx" and "upstream" in block.text)
    rows = []
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(contextlib.ExitStack()) for _ in range(2)]
        services = [each.enter_context(running(tokens=(TOKEN,))) for each in kept]
        for service in services:
            service.backend.snapshots = services[0].backend.snapshots
            service.backend.lose_session()
            service.wait_until_ready()
        upstream = block.text
        for old, service in zip(("127.0.0.1:8000", "127.0.0.1:8001"), services, strict=True):
            assert old in upstream
            upstream = upstream.replace(old, f"127.0.0.1:{service.port}")
        with connect(services[1].url, TOKEN).stream(25, encoding="png") as stream:
            wanted = [tracks.tlbr.tolist() for tracks in stream.track(FRAMES)]
        changes = {f"http://127.0.0.1:{services[0].port}/": "http://people/"}
        port, public = stack.enter_context(proxy(folder, services[0].port, upstream, **changes))
        client = connect(f"https://localhost:{port}/people", TOKEN, ca_file=str(public))
        with client.stream(25, encoding="png") as stream:
            for tracks in stream.track(FRAMES):
                rows.append(tracks.tlbr.tolist())
                if len(rows) == 8:
                    first = next(n for n in (0, 1) if len(services[n].backend.session.table))
                    kept[first].close()  # as SIGTERM does: its port, then its sockets
            other = services[1 - first].backend.session
            assert other.num_resumed == 1
            assert len(other.table) == 1
    assert rows == wanted
