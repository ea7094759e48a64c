"""A re-identification network in 8-bit integers on a CPU, beside `models.jde.int8`."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models import openvino_files
from jde_ray.models.jde.weights import sha256
from jde_ray.models.openvino_files import QuantisedFileError, to_input
from jde_ray.models.reid.config import ReidConfig
from jde_ray.models.reid.export import onnx_bytes
from jde_ray.models.reid.network import ReidNet
from jde_ray.models.sde.declaration import QUALITY, DeclarationError

_AT_ONCE = 8
_BATCHES = (1, _AT_ONCE)
_FEWEST = 5  # crops that are worth a whole batch; fewer run one after the other


def quantise(
    model: ReidNet, crops: Sequence[NDArray[np.uint8]], path: Path, notes: dict[str, str]
) -> None:
    """Write a network in 8-bit integers as OpenVINO's `NAME.int8.xml` and `NAME.int8.bin`.

    The same crops give the same files. The network takes `crops` `(1, 3, H, W)`, float32 RGB in
    [0, 1], and gives what `models.reid.export.onnx_bytes` gives.

    Args:
        model: Network in float32.
        crops: `(H, W, 3)` uint8 RGB people of the network's input size.
        path: File to write, with the suffix `.int8.xml`; its folder is created.
        notes: Text metadata such as `licence`; the configuration is added.

    Raises:
        ImportError: If `openvino`, `nncf` or `onnx` is not installed.
    """
    import nncf
    import openvino

    logging.getLogger("nncf").setLevel(logging.ERROR)
    width, height = model.config.size
    converted = openvino.Core().read_model(onnx_bytes(model))
    converted.reshape([1, 3, height, width])
    samples = nncf.Dataset(list(crops), to_input)
    preset = nncf.QuantizationPreset.MIXED  # activations may be negative: leaky ReLU
    quantised = nncf.quantize(converted, samples, preset=preset, subset_size=len(crops))
    notes = {**notes, "config": model.config.to_json()}
    openvino_files.write(quantised, path, _outputs(model.config), notes, half=True)


class Int8CropNetwork:
    """A quantised network; `models.sde.network.CropNetwork` names its methods.

    With AMX, eight crops at once take half as long as eight single ones; without it, a fifth less.

    Args:
        path: File that `quantise` has written.
        threads: Threads of the CPU.

    Attributes:
        size: Width and height of its input.
        batch: Number of crops that it takes at once.
        path: Its file.
        outputs: Names of its outputs.

    Raises:
        DeclarationError: If the file cannot be used, or `openvino` is not installed.
    """

    def __init__(self, path: Path, threads: int = 1) -> None:
        self.path = path
        self.batch: int | None = _AT_ONCE
        try:
            network = openvino_files.read(path)
            config = ReidConfig.from_json(openvino_files.note(network, "config"))
        except QuantisedFileError as error:
            raise DeclarationError(str(error)) from None
        except ValueError as error:
            reason = " ".join(str(error).split())
            text = f"holds no re-identification network of ours ({reason})"
            raise DeclarationError(f"weights: {path} {text}") from None
        self.size: tuple[int, int] = config.size
        self.outputs = _outputs(config)
        self._compiled = {number: self._compile(network, number, threads) for number in _BATCHES}

    def _compile(self, network: Any, number: int, threads: int) -> Any:
        import openvino

        network.reshape([number, 3, self.size[1], self.size[0]])
        with openvino_files.signal_stack_kept():
            return openvino.Core().compile_model(network, "CPU", openvino_files.options(threads))

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture `(h, w, 3)` stretched to the input's size."""
        return np.asarray(cv2.resize(picture, self.size), np.uint8)

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """`(B, D)` vectors, of about unit length, of `(H, W, 3)` uint8 RGB crops.

        The `(B,)` quality of each crop follows, if the network gives it.
        """
        inputs = np.concatenate([to_input(picture) for picture in pictures])
        if len(inputs) < _FEWEST:
            found = [self._run(inputs[row : row + 1]) for row in range(len(inputs))]
            return [np.concatenate(own) for own in zip(*found, strict=True)]
        whole = np.zeros((_AT_ONCE, *inputs.shape[1:]), np.float32)
        whole[: len(inputs)] = inputs
        return [own[: len(inputs)] for own in self._run(whole)]

    def _run(self, inputs: NDArray[np.float32]) -> list[NDArray[Any]]:
        with openvino_files.signal_stack_kept():
            found = self._compiled[len(inputs)](inputs)
        return [found[index].copy() for index in range(len(self.outputs))]


def _outputs(config: ReidConfig) -> tuple[str, ...]:
    return ("vectors", *([QUALITY] if config.quality else []))


def find(weights: Path) -> Path | None:
    """The quantised file of these weights; None if there is none.

    Args:
        weights: `NAME.safetensors`.

    Raises:
        DeclarationError: If half of it is missing, it was made from other weights, or it cannot be
            read.
    """
    path = openvino_files.beside(weights)
    missing = [part for part in openvino_files.parts(path) if not part.is_file()]
    if len(missing) == len(openvino_files.parts(path)):
        return None
    if missing:
        raise DeclarationError(f"precision: {missing[0]} is missing; int8 needs both files")
    try:
        made_from = openvino_files.note(openvino_files.read(path), "source_sha256")
    except QuantisedFileError as error:
        raise DeclarationError(str(error)) from None
    if made_from != sha256(weights):
        raise DeclarationError(
            f"precision: {path} was quantised from other weights than {weights}; write it again "
            "with jde export --format openvino --int8"
        )
    return path
