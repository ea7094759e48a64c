"""One ONNX file as a function of pictures.

OpenCV resizes a picture (bilinear); `(value / divide_by - mean) / std` is computed as one
multiplication and one addition per channel.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.sde.declaration import DeclarationError, NetworkDeclaration

_NUMBERS = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
CUDA = "CUDAExecutionProvider"


def open_session(path: Path, threads: int, device: Literal["cpu", "cuda"] = "cpu") -> Any:
    """An onnxruntime session.

    Args:
        path: ONNX file.
        threads: Number of CPU threads; they sleep between calls, since sessions share the CPU.
        device: `cuda` needs onnxruntime's build for it.

    Raises:
        DeclarationError: If onnxruntime is not installed, the file is missing or not an ONNX file,
            or the device is not available.
    """
    if not path.is_file() and find_spec("onnxruntime") is not None:
        raise DeclarationError(f"weights: {path} is missing")
    return start_session(str(path), path, threads, device)


def start_session(
    graph: str | bytes, path: Path, threads: int, device: Literal["cpu", "cuda"] = "cpu"
) -> Any:
    """An onnxruntime session of a file's path or of a graph in memory, as `open_session`.

    Args:
        graph: Path or content of an ONNX file.
        path: File to name in errors.
        threads: Number of CPU threads.
        device: `cuda` needs onnxruntime's build for it.
    """
    try:
        import onnxruntime
    except ImportError:
        raise DeclarationError(
            "weights: ONNX files need onnxruntime: pip install -e '.[onnx]'"
        ) from None
    if device == "cuda" and CUDA not in onnxruntime.get_available_providers():
        raise DeclarationError("device: got cuda, but this onnxruntime has none; use cpu")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # failures are raised; onnxruntime's own output adds nothing
    providers = [CUDA] * (device == "cuda") + ["CPUExecutionProvider"]
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # noqa: BLE001  its exceptions have no common class
        reason = str(error).splitlines()[0]
        raise DeclarationError(f"weights: {path} is not a usable ONNX file ({reason})") from None


class OnnxNetwork:
    """An opened ONNX file.

    Args:
        declaration: Path and input of the file.
        threads: Number of CPU threads.
        device: Device that it runs on.

    Attributes:
        size: Width and height of its input.
        batch: Number of pictures it takes at once: 1, or None for any.
        outputs: Names of its outputs.

    Raises:
        DeclarationError: If the file cannot be used as declared.
    """

    def __init__(
        self,
        declaration: NetworkDeclaration,
        threads: int = 1,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.path = declaration.file
        self._session = open_session(declaration.file, threads, device)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape
        if len(inputs) != 1 or len(shape) != 4 or shape[1] != 3 or inputs[0].type not in _NUMBERS:
            got = ", ".join(f"{one.type} {one.shape}" for one in inputs)
            raise DeclarationError(
                f"weights: {self.path} takes {got}, expected one float input (batch, 3, H, W)"
            )
        self._input, self._number = inputs[0].name, _NUMBERS[inputs[0].type]
        self.batch = shape[0] if isinstance(shape[0], int) else None
        self.outputs = tuple(output.name for output in self._session.get_outputs())
        self.size = self._check_size(declaration.size, shape)
        if self.batch not in (1, None):
            raise DeclarationError(
                f"weights: {self.path} takes {self.batch} pictures at once, expected 1 or any"
            )
        std = np.array(declaration.std)
        factor, offset = 1 / (declaration.divide_by * std), np.array(declaration.mean) / std
        self._factor = factor.astype(np.float32)[:, None, None]
        self._offset = offset.astype(np.float32)[:, None, None]
        self._is_bgr = declaration.colour == "bgr"

    def _check_size(self, declared: tuple[int, int] | None, shape: list[Any]) -> tuple[int, int]:
        fixed = [side if isinstance(side, int) else None for side in (shape[3], shape[2])]
        size = declared or (fixed[0], fixed[1])
        for got, side in zip(size, fixed, strict=True):
            if got is None:
                raise DeclarationError(f"weights: {self.path} fixes no input size: declare `size`")
            if side not in (None, got):
                raise DeclarationError(
                    f"weights: {self.path} takes {fixed[0]}x{fixed[1]}, got size "
                    f"{size[0]}x{size[1]}"
                )
        return int(size[0] or 0), int(size[1] or 0)

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture `(h, w, 3)` stretched to the input's size."""
        return np.asarray(cv2.resize(picture, self.size), np.uint8)

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """Outputs of a batch.

        Args:
            pictures: `(H, W, 3)` uint8 RGB of the input's size, at most `batch` of them.
        """
        stacked = np.stack(pictures)
        if self._is_bgr:
            stacked = stacked[..., ::-1]
        # bytes are cheaper to transpose than floats
        pixels = np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)).astype(np.float32)
        pixels *= self._factor
        pixels -= self._offset
        feed = {self._input: pixels.astype(self._number, copy=False)}
        return [np.asarray(output) for output in self._session.run(None, feed)]
