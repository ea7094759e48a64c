"""The network in 8-bit integers on a CPU: quantised once with NNCF, run by OpenVINO.

Quantised are the convolutions, after training, by the range of their inputs on sample pictures.
What follows the network's raw maps (decoding, suppression, embeddings) is the same float code.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from jde_ray.models import openvino_files
from jde_ray.models.jde import weights as files
from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.decode import Candidates, FrameDetections, decode, select
from jde_ray.models.jde.fusion import fold_batch_norms
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.refusals import CheckpointError, one_line
from jde_ray.models.openvino_files import to_input
from jde_ray.models.structures import check_frames

OUTPUTS = tuple(f"{name}_{stride}" for stride in STRIDES for name in ScaleMaps._fields)
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
    notes = {**notes, "config": model.config.to_json()}
    openvino_files.write(quantised, path, OUTPUTS, notes, half=True)


def write_float(model: JDE, path: Path) -> None:
    """Write a network in float32 in the form of `quantise`, to be compared with: `Int8JDE` runs it.

    Args:
        model: Network in float32; its batch norms are folded in place.
        path: File to write, with the suffix `.xml`.

    Raises:
        ImportError: If `openvino` is not installed.
    """
    notes = {"config": model.config.to_json()}
    openvino_files.write(_convert(model), path, OUTPUTS, notes, half=False)


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


class Int8JDE:
    """A quantised network on the CPU, one frame after the other.

    One frame at a time is as fast as a batch there, and a frame's numbers cannot depend on its
    neighbours.

    Args:
        path: File that `quantise` has written.
        threads: Threads of the CPU.
        exact: Compute floats in float32 even where OpenVINO would choose bfloat16.

    Attributes:
        config: Configuration of the network.

    Raises:
        CheckpointError: If the file cannot be used, or `openvino` is not installed.
    """

    def __init__(self, path: Path, threads: int, *, exact: bool = False) -> None:
        self._model = _read(path)
        try:
            self.config = JDEConfig.from_json(openvino_files.note(self._model, "config"))
        except (RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"weights: {path} holds no network of ours ({one_line(error)})"
            ) from None
        self._options = openvino_files.options(threads, exact=exact)
        self._compiled: dict[tuple[int, int], Any] = {}

    def maps(self, frame: NDArray[np.uint8]) -> list[ScaleMaps]:
        """Raw maps at strides 32, 16, 8 of a `(H, W, 3)` uint8 RGB frame."""
        with openvino_files.signal_stack_kept():
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


def find(weights: str | Path) -> Path:
    """The quantised file beside weights: `NAME.int8.xml` beside `NAME.safetensors`.

    Raises:
        CheckpointError: If there is none, or its other half is missing.
    """
    source = files.resolve(weights)
    path = openvino_files.beside(source)
    for part in openvino_files.parts(path):
        if not part.is_file():
            raise CheckpointError(
                f"precision: int8 needs {part.name} beside {source}; write it with jde export "
                f"{weights} --format openvino --int8 --calibration VIDEO --out {path}"
            )
    return path


def check(path: Path, weights: str | Path) -> None:
    """Refuse a quantised network that was made from other weights than those beside it.

    Raises:
        CheckpointError: If it was, or cannot be read.
    """
    made_from = openvino_files.note(_read(path), "source_sha256")
    if made_from != files.sha256(weights):
        raise CheckpointError(
            f"precision: {path} was quantised from other weights than {files.resolve(weights)}; "
            "write it again with jde export --format openvino --int8"
        )


def _read(path: Path) -> Any:
    try:
        return openvino_files.read(path)
    except openvino_files.QuantisedFileError as error:
        raise CheckpointError(str(error)) from None
