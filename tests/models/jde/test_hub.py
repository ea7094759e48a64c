"""`hf://`: from a mirror of one file that the test serves, and what is refused."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jde_ray.models.jde import hub
from jde_ray.models.jde.refusals import CheckpointError
from jde_ray.models.jde.weights import load, metadata, resolve, sha256

constants = pytest.importorskip("huggingface_hub.constants")

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ADDRESS = f"hf://someone/people/nets/small.safetensors@{COMMIT}"


class Mirror(ThreadingHTTPServer):
    """Answers like the hub, for one file at one commit."""

    def __init__(self, content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.requests: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def _answer(self, *, has_body: bool) -> None:
        self.server.requests.append(f"{self.command} {self.path}")
        is_known = self.path == f"/someone/people/resolve/{COMMIT}/nets/small.safetensors"
        body = self.server.content if is_known else b""
        self.send_response(200 if is_known else 404)
        if is_known:
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
        else:
            self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if has_body:
            self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer(has_body=True)

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror of the shipped network, and an empty cache."""
    server = Mirror(resolve("small").read_bytes())
    threading.Thread(target=server.serve_forever, daemon=True).start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield server
    server.shutdown()
    server.server_close()


def test_a_file_is_downloaded_once_and_is_the_network(mirror: Mirror) -> None:
    wanted = f"{ADDRESS}#sha256={sha256('small')}"
    assert load(wanted).config == load("small").config
    assert sha256(wanted) == sha256("small")
    assert metadata(wanted) == metadata("small")
    downloads = [line for line in mirror.requests if line.startswith("GET /someone")]
    assert downloads == [f"GET /someone/people/resolve/{COMMIT}/nets/small.safetensors"]
    before = len(mirror.requests)
    resolve(ADDRESS)
    assert len(mirror.requests) == before  # a commit cannot change: nobody is asked again


@pytest.mark.usefixtures("mirror")
def test_another_sha256_is_refused() -> None:
    with pytest.raises(CheckpointError, match=f"sha256 is {sha256('small')}, expected 0{{64}}"):
        resolve(f"{ADDRESS}#sha256={'0' * 64}")


@pytest.mark.usefixtures("mirror")
def test_a_file_that_is_not_there_is_one_line() -> None:
    with pytest.raises(CheckpointError, match="cannot be had") as refused:
        resolve(ADDRESS.replace("small", "large"))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    [
        "hf://someone/people/small.safetensors",
        "hf://someone/people/small.safetensors@main",
        "hf://someone/people/small.safetensors@v1.0",
        f"hf://someone/people/small.safetensors@{COMMIT[:7]}",
        f"hf://someone/people/small.pt@{COMMIT}",
        f"hf://someone/people/../other/small.safetensors@{COMMIT}",
        f"hf://someone/small.safetensors@{COMMIT}",
        f"{ADDRESS}#sha256=abc",
        f"{ADDRESS}?download=true",
    ],
)
def test_unpinned_and_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(CheckpointError, match=r"expected hf://OWNER/NAME/FILE\.safetensors@COMMIT"):
        hub.parse(address)
