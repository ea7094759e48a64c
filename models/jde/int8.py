"""The network in 8-bit integers on a CPU: quantised once with NNCF, run by OpenVINO.

Quantised are the convolutions, after training, by the range of their inputs on sample pictures.
What follows the network's raw maps (decoding, suppression, embeddings) is the same float code.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jde_ray.models.jde import weights as files
from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.decode import Candidates, FrameDetections, decode, select
from jde_ray.models.jde.fusion import fold_batch_norms
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.refusals import CheckpointError, one_line
from jde_ray.models.structures import check_frames

SUFFIX = ".int8.xml"
OUTPUTS = tuple(f"{name}_{stride}" for stride in STRIDES for name in ScaleMaps._fields)
_NOTES = "jde"  # place of our metadata in the file
_MOST_SHAPES = 8  # input shapes whose compiled networks are kept


class MapsAsTuple(nn.Module):
    """The network's raw maps as a tuple, in the order of `OUTPUTS`.

    Args:
        model: Network.
    """

    def __init__(self, model: JDE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of `(B, 3, H, W)` images."""
        return tuple(part for maps in self.model.maps(images) for part in maps)


def quantise(
    model: JDE, pictures: Sequence[NDArray[np.uint8]], path: Path, notes: dict[str, str]
) -> None:
    """Write a network in 8-bit integers as OpenVINO's `NAME.int8.xml` and `NAME.int8.bin`.

    The same pictures give the same files. Input `images` `(1, 3, H, W)` float32 RGB in [0, 1], H
    and W multiples of 32; outputs `OUTPUTS`, the maps of `models.jde.head.ScaleMaps` per stride.

    Args:
        model: Network in float32; its batch norms are folded in place.
        pictures: `(H, W, 3)` uint8 RGB, letterboxed, of scenes such as those to be tracked.
        path: File to write, with the suffix `.int8.xml`; its folder is created.
        notes: Text metadata such as `licence`; the configuration is added.

    Raises:
        ImportError: If `openvino` or `nncf` is not installed.
    """
    import nncf

    logging.getLogger("nncf").setLevel(logging.ERROR)
    converted = _convert(model)
    samples = nncf.Dataset(list(pictures), to_input)
    preset = nncf.QuantizationPreset.MIXED  # activations may be negative: leaky ReLU
    quantised = nncf.quantize(converted, samples, preset=preset, subset_size=len(pictures))
    _save(quantised, path, {**notes, "config": model.config.to_json()}, half=True)


def write_float(model: JDE, path: Path) -> None:
    """Write a network in float32 in the form of `quantise`, to be compared with: `Int8JDE` runs it.

    Args:
        model: Network in float32; its batch norms are folded in place.
        path: File to write, with the suffix `.xml`.

    Raises:
        ImportError: If `openvino` is not installed.
    """
    _save(_convert(model), path, {"config": model.config.to_json()}, half=False)


def _convert(model: JDE) -> Any:
    import openvino

    logging.getLogger("openvino").setLevel(logging.ERROR)
    fold_batch_norms(model)
    width, height = model.config.size
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # OpenVINO traces; torch would have its exporter used
        return openvino.convert_model(
            MapsAsTuple(model.eval()),
            example_input=torch.zeros(1, 3, height, width),
            input=[(1, 3, -1, -1)],
        )


def _save(network: Any, path: Path, notes: dict[str, str], *, half: bool) -> None:
    """Write a network of OpenVINO; numbers that are float are kept in 16 bits if `half`."""
    import openvino

    for output, name in zip(network.outputs, OUTPUTS, strict=True):
        output.get_tensor().set_names({name})
    for key, text in notes.items():
        network.set_rt_info(text, [_NOTES, key])
    _name_nodes(network)
    path.parent.mkdir(parents=True, exist_ok=True)
    openvino.save_model(network, path, compress_to_fp16=half)


def _name_nodes(model: Any) -> None:
    """Names by type and place, since OpenVINO's count what the process has built before."""
    model.set_friendly_name("jde")
    for number, node in enumerate(model.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")


class Int8JDE:
    """A quantised network on the CPU, one frame after the other.

    One frame at a time is as fast as a batch there, and a frame's numbers cannot depend on its
    neighbours.

    Args:
        path: File that `quantise` has written.
        threads: Threads of the CPU.
        exact: Compute what is float in float32 also where OpenVINO would choose bfloat16.

    Attributes:
        config: Configuration of the network.

    Raises:
        CheckpointError: If the file cannot be used, or `openvino` is not installed.
    """

    def __init__(self, path: Path, threads: int, *, exact: bool = False) -> None:
        self._model = _read(path)
        try:
            self.config = JDEConfig.from_json(_note(self._model, "config"))
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"weights: {path} holds no network of ours ({one_line(error)})"
            ) from None
        self._options: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # or all detectors of a machine would sit on one core
        }
        if exact:
            self._options["INFERENCE_PRECISION_HINT"] = "f32"
        self._compiled: dict[tuple[int, int], Any] = {}

    def maps(self, frame: NDArray[np.uint8]) -> list[ScaleMaps]:
        """Raw maps at strides 32, 16, 8 of a `(H, W, 3)` uint8 RGB frame."""
        with _signal_stack_kept():
            outputs = self._network(frame.shape[0], frame.shape[1])(to_input(frame))
        parts = [torch.from_numpy(outputs[index].copy()) for index in range(len(OUTPUTS))]
        width = len(ScaleMaps._fields)
        return [ScaleMaps(*parts[at : at + width]) for at in range(0, len(parts), width)]

    def candidates(self, frame: NDArray[np.uint8]) -> Candidates:
        """All candidates of a `(H, W, 3)` uint8 RGB frame before suppression."""
        return decode(self.config, self.maps(frame))

    @torch.inference_mode()
    def detect(
        self,
        frames: NDArray[np.uint8],
        score_threshold: float = 0.5,
        nms_threshold: float = 0.4,
        max_detections: int = 300,
    ) -> list[FrameDetections]:
        """People in letterboxed frames, as `JDE.detect` finds them.

        Args:
            frames: `(B, H, W, 3)` uint8 RGB.
            score_threshold: Candidates must score above it.
            nms_threshold: IoU above which the box of lower score is suppressed.
            max_detections: Number of highest scores kept per frame.

        Raises:
            ValueError: If `frames` has another shape or type.
            FloatingPointError: If the network's output is not finite.
        """
        check_frames(frames)
        limits = (score_threshold, nms_threshold, max_detections)
        return [found for frame in frames for found in select(self.candidates(frame), *limits)]

    def _network(self, height: int, width: int) -> Any:
        import openvino

        if (height, width) not in self._compiled:
            if len(self._compiled) == _MOST_SHAPES:
                self._compiled.pop(next(iter(self._compiled)))
            shaped = self._model.clone()
            shaped.reshape([1, 3, height, width])
            compiled = openvino.Core().compile_model(shaped, "CPU", self._options)
            self._compiled[height, width] = compiled
        return self._compiled[height, width]


class _SignalStack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (("base", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def _signal_stack_kept() -> Iterator[None]:
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


def find(weights: str | Path) -> Path:
    """The quantised file beside weights: `NAME.int8.xml` beside `NAME.safetensors`.

    Raises:
        CheckpointError: If there is none, or its other half is missing.
    """
    source = files.resolve(weights)
    path = source.with_name(source.stem + SUFFIX)
    for part in (path, path.with_suffix(".bin")):
        if not part.is_file():
            raise CheckpointError(
                f"precision: int8 needs {part.name} beside {source}; write it with jde export "
                f"{weights} --format openvino --int8 --calibration VIDEO --out {path}"
            )
    return path


def sha256(path: Path) -> str:
    """SHA-256 over both files of a quantised network, 64 hex digits."""
    digest = hashlib.sha256(path.read_bytes())
    digest.update(path.with_suffix(".bin").read_bytes())
    return digest.hexdigest()


def check(path: Path, weights: str | Path) -> None:
    """Refuse a quantised network that was made from other weights than those beside it.

    Raises:
        CheckpointError: If it was, or cannot be read.
    """
    made_from = _note(_read(path), "source_sha256")
    if made_from != files.sha256(weights):
        raise CheckpointError(
            f"precision: {path} was quantised from other weights than {files.resolve(weights)}; "
            "write it again with jde export --format openvino --int8"
        )


def _read(path: Path) -> Any:
    try:
        from openvino.frontend import FrontEndManager
    except ImportError:
        raise CheckpointError(
            "precision: int8 needs the package openvino; pip install -e '.[int8]'"
        ) from None
    # `read_model` would try the readers of TensorFlow and others on a damaged file
    reader = FrontEndManager().load_by_framework("ir")
    try:
        return reader.convert(reader.load(str(path)))
    except Exception as error:  # noqa: BLE001  its readers raise several kinds
        raise CheckpointError(f"weights: {path} cannot be read ({one_line(error)})") from None


def _note(model: Any, key: str) -> str:
    place = [_NOTES, key]
    return str(model.get_rt_info(place).astype(str)) if model.has_rt_info(place) else ""


def to_input(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """`(H, W, 3)` uint8 RGB as `(1, 3, H, W)` in [0, 1]."""
    planes = frame.transpose(2, 0, 1)[None].astype(np.float32)
    planes /= 255
    return np.ascontiguousarray(planes)
