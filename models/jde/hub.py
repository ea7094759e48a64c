"""Weights on a model hub: `hf://OWNER/NAME/FILE@COMMIT`, through huggingface_hub.

Only safetensors, which hold no code, and only a commit, which cannot change: a branch or a tag
could give other rows tomorrow, or other weights to a worker than to the run.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

from jde_ray.models.jde.refusals import CheckpointError, one_line

PREFIX = "hf://"
FORM = "hf://OWNER/NAME/FILE.safetensors@COMMIT[#sha256=DIGEST]"
_PART = r"[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(
    rf"hf://(?P<repository>{_PART}/{_PART})/(?P<file>(?:{_PART}/)*{_PART}\.safetensors)"
    r"@(?P<commit>[0-9a-f]{40})(?:#sha256=(?P<sha256>[0-9a-f]{64}))?"
)


@dataclass(frozen=True)
class Address:
    """A file of a repository at a commit.

    Attributes:
        repository: `OWNER/NAME`.
        file: Path in the repository.
        commit: 40 hex digits.
        sha256: What the file's SHA-256 must be, 64 hex digits; empty if none was given.
    """

    repository: str
    file: str
    commit: str
    sha256: str = ""


def is_on_hub(weights: str | Path) -> bool:
    """Whether weights name a file of a model hub."""
    return str(weights).startswith(PREFIX)


def parse(weights: str) -> Address:
    """Read an address.

    Raises:
        CheckpointError: If it has another form, as with a branch instead of a commit.
    """
    found = _ADDRESS.fullmatch(weights)
    if found is None:
        raise CheckpointError(
            f"weights: got {weights}, expected {FORM}; COMMIT has 40 hex digits, since branches and"
            " tags may change"
        )
    return Address(**found.groupdict(default=""))


def fetch(weights: str) -> Path:
    """Path of the file in the hub's cache on this machine; it is downloaded once.

    `HF_ENDPOINT` names a mirror, `HF_HOME` the cache.

    Raises:
        CheckpointError: If the address has another form, the file cannot be had, or has another
            SHA-256.
    """
    address = parse(weights)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        from huggingface_hub import hf_hub_download
    except ImportError:
        raise CheckpointError(
            f"weights: {PREFIX} needs the package huggingface_hub; pip install -e '.[hub]'"
        ) from None
    try:
        path = Path(hf_hub_download(address.repository, address.file, revision=address.commit))
    except Exception as error:  # noqa: BLE001  of the hub, of HTTP, of the cache's folder
        raise CheckpointError(f"weights: {weights} cannot be had ({one_line(error)})") from None
    if address.sha256:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != address.sha256:
            raise CheckpointError(
                f"weights: {weights}: the file's sha256 is {digest}, expected {address.sha256}"
            )
    return path
