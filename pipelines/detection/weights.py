"""Facts that weights state of themselves: size, fingerprint, and how their network can run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jde_ray.pipelines.config import DetectionConfig, Precision
from jde_ray.pipelines.detection.networks import is_separate

if TYPE_CHECKING:
    from jde_ray.models.sde.network import AppearanceEmbedder


@dataclass(frozen=True)
class NetworkFacts:
    """Facts about weights that are known before a run.

    Attributes:
        size: Width and height of the frames in pixels.
        sha256: Fingerprint of the weight file, or of the files of both separate networks and their
            declaration.
        has_one_size: Whether other sizes are refused, since the anchors were chosen for this one.
        can_compile: Whether torch.compile can run it.
        rect: Whether the input follows each video's shape by default: true if no size was given
            and the weights accept several sizes.
    """

    size: tuple[int, int]
    sha256: str
    has_one_size: bool
    can_compile: bool
    rect: bool


def inspect(weights: str, size: tuple[int, int] | None = None) -> NetworkFacts:
    """Load the weights once, so that their errors are reported before any other work.

    Args:
        weights: Weights in the form of `DetectionConfig.weights`.
        size: Width and height of the frames; None for the size in the weights.

    Raises:
        ValueError: If they cannot be used.
        OSError: If a file cannot be read.
    """
    if is_separate(weights):
        from jde_ray.models.sde.declaration_file import read_declaration
        from jde_ray.models.sde.network import SeparateNetworks
        from jde_ray.pipelines.detection.detectors import open_detector
        from jde_ray.pipelines.detection.embedders import open_embedder

        declaration = read_declaration(weights)
        SeparateNetworks(declaration, open_detector=open_detector, open_embedder=open_embedder)
        frames, digest = size or declaration.frames, declaration.sha256()
        return NetworkFacts(
            frames, digest, has_one_size=False, can_compile=False, rect=size is None
        )
    from jde_ray.models.jde.weights import sha256
    from jde_ray.models.rcnn.weights import is_two_stage
    from jde_ray.pipelines.detection.finders import has_one_size, load_finder

    model = load_finder(weights, size)
    one_size = has_one_size(model)
    return NetworkFacts(
        size or model.config.size,
        sha256(weights),
        one_size,
        can_compile=not is_two_stage(weights),
        rect=size is None and not one_size,
    )


def inspect_reid(path: str) -> str:
    """Load a re-identification network once, and return its fingerprint.

    Raises:
        ValueError: If it cannot be used.
    """
    load_reid(path)
    return reid_fingerprint(path)


def load_reid(path: str, threads: int = 1) -> AppearanceEmbedder:
    """A re-identification network on CPU threads.

    Raises:
        ValueError: If it cannot be used.
    """
    from jde_ray.models.sde.declaration_file import read_embedder
    from jde_ray.pipelines.detection.embedders import open_embedder

    with _named_after_its_flag():
        return open_embedder(read_embedder(path), threads)


def reid_fingerprint(path: str, *, quantised: bool = False) -> str:
    """Fingerprint of a re-identification network, without loading it.

    Args:
        path: The network.
        quantised: Whether its file in 8-bit integers runs, if there is one.

    Raises:
        ValueError: If it does not exist, or the quantised file is of another network.
    """
    from jde_ray.models.sde.declaration import sha256_of
    from jde_ray.models.sde.declaration_file import read_embedder
    from jde_ray.pipelines.detection.embedders import quantised_file

    with _named_after_its_flag():
        declared = read_embedder(path)
        found = sha256_of({"reid": declared})
        if not quantised or (file := quantised_file(declared)) is None:
            return found
    from jde_ray.models import openvino_files

    return hashlib.sha256(f"{found} {openvino_files.sha256(file)}".encode()).hexdigest()


def reid_name(reid: str) -> str:
    """Short name of a re-identification network: its file's without suffix, and what follows it.

    >>> reid_name("runs/osnet.onnx+colours")
    'osnet+colours'
    """
    file, *more = Path(reid).name.split("+", 1)
    return "+".join([Path(file).stem, *more])


@contextmanager
def _named_after_its_flag() -> Iterator[None]:
    """Errors of ONNX files name the flag `weights`, which is not the one that named this file."""
    try:
        yield
    except ValueError as error:
        raise ValueError(
            f"reid: {str(error).removeprefix('weights: ').removeprefix('reid: ')}"
        ) from error


def fingerprint(weights: str) -> str:
    """Fingerprint of weights, without loading them.

    Raises:
        ValueError: If the weights do not exist.
    """
    if is_separate(weights):
        from jde_ray.models.sde.declaration_file import read_declaration

        return read_declaration(weights).sha256()
    from jde_ray.models.jde.weights import sha256

    return sha256(weights)


def only_precision(weights: str) -> Precision | None:
    """The only precision in which the network runs; None if there are several."""
    return "fp32" if is_separate(weights) else None


def embedder_name(detection: DetectionConfig) -> str:
    """Name of the networks that embeddings come from."""
    names = [detection.weights, *([detection.second_look] if detection.looks_again else [])]
    return " + ".join(name.rstrip("/").rpartition("/")[2] for name in names)


def embedder_sha256(detection: DetectionConfig) -> str:
    """Fingerprint of the networks that embeddings come from; empty if it is unknown."""
    found = [detection.weights_sha256, *([detection.reid_sha256] if detection.looks_again else [])]
    return "+".join(found) if all(found) else ""
