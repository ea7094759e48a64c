"""Quantised networks as files of OpenVINO: `NAME.int8.xml` and `NAME.int8.bin` beside the weights.

The file holds our notes: the configuration, the licence, and the SHA-256 of the weights.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.cards import INT8_SUFFIX

_NOTES = "jde"  # place of our metadata in the file


class QuantisedFileError(ValueError):
    """The file of a quantised network is refused; one line says why."""


def write(
    network: Any, path: Path, outputs: Sequence[str], notes: dict[str, str], *, half: bool
) -> None:
    """Write a network of OpenVINO.

    Args:
        network: The network.
        path: File to write; its folder is created.
        outputs: Names of its outputs.
        notes: Text metadata.
        half: Store floats in 16 bits.

    Raises:
        OSError: If it cannot be written.
    """
    import openvino

    for output, name in zip(network.outputs, outputs, strict=True):
        output.get_tensor().set_names({name})
    for key, text in notes.items():
        network.set_rt_info(text, [_NOTES, key])
    _name_nodes(network)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        openvino.save_model(network, path, compress_to_fp16=half)
    except RuntimeError as error:
        raise OSError(" ".join(str(error).split())) from None


def _name_nodes(network: Any) -> None:
    """Names by type and place, since OpenVINO's count what the process has built before."""
    network.set_friendly_name("jde")
    for number, node in enumerate(network.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")


def read(path: Path) -> Any:
    """The network of a file.

    Raises:
        QuantisedFileError: If it cannot be read, or `openvino` is not installed.
    """
    try:
        from openvino.frontend import FrontEndManager
    except ImportError:
        raise QuantisedFileError(
            "precision: int8 needs the package openvino; pip install -e '.[int8]'"
        ) from None
    # `read_model` would try the readers of TensorFlow and others on a damaged file
    reader = FrontEndManager().load_by_framework("ir")
    try:
        return reader.convert(reader.load(str(path)))
    except Exception as error:  # noqa: BLE001  its readers raise several kinds
        reason = " ".join(str(error).split())
        raise QuantisedFileError(f"weights: {path} cannot be read ({reason})") from None


def note(network: Any, key: str) -> str:
    """Text metadata of a network; empty if it has none of this name."""
    place = [_NOTES, key]
    return str(network.get_rt_info(place).astype(str)) if network.has_rt_info(place) else ""


def beside(weights: Path) -> Path:
    """Path of the quantised file of `NAME.safetensors`, which is `NAME.int8.xml` beside it."""
    return weights.with_name(weights.stem + INT8_SUFFIX)


def parts(path: Path) -> tuple[Path, Path]:
    """Both files of a quantised network."""
    return path, path.with_suffix(".bin")


def sha256(path: Path) -> str:
    """SHA-256 over both files of a quantised network, 64 hex digits."""
    digest = hashlib.sha256()
    for part in parts(path):
        digest.update(part.read_bytes())
    return digest.hexdigest()


def options(threads: int, *, exact: bool = False) -> dict[str, Any]:
    """Options for OpenVINO's CPU.

    Args:
        threads: Threads of the CPU.
        exact: Compute floats in float32 even where OpenVINO would choose bfloat16.
    """
    own: dict[str, Any] = {
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,  # or all detectors of a machine would sit on one core
    }
    return own | ({"INFERENCE_PRECISION_HINT": "f32"} if exact else {})


class _SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def signal_stack_kept() -> Iterator[None]:
    """Give this thread back the stack on which its signals are handled.

    OpenVINO sets one of its own and frees it with the network, in any order of several. Python
    handles all signals on that stack: the next Ctrl-C or end of a child would be a segmentation
    fault.
    """
    if sys.platform != "linux":
        yield
        return
    system, before = ctypes.CDLL(None), _SignalStack()
    system.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        system.sigaltstack(ctypes.byref(before), None)


def to_input(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(H, W, 3)` uint8 RGB as `(1, 3, H, W)` in [0, 1]."""
    planes = picture.transpose(2, 0, 1)[None].astype(np.float32)
    planes /= 255
    return np.ascontiguousarray(planes)
