"""A weight file of ours as a function of crops, beside `models.sde.onnx_network`."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from jde_ray.models.jde.refusals import CheckpointError
from jde_ray.models.reid.export import onnx_bytes
from jde_ray.models.reid.network import ReidNet
from jde_ray.models.reid.weights import load
from jde_ray.models.sde.declaration import QUALITY, DeclarationError, NetworkDeclaration
from jde_ray.models.sde.onnx_network import start_session


class ReidCropNetwork:
    """An opened network of `models.reid`; `models.sde.network.CropNetwork` names its methods.

    On a CPU it runs through onnxruntime if that and `onnx` are installed, which takes a third of
    torch's time for a crop; vectors differ by less than 1e-5.

    Args:
        declaration: Its file; nothing else may be declared, since the file states its input.
        threads: Number of CPU threads of onnxruntime; torch has those of the process.
        device: Device that it runs on.

    Attributes:
        size: Width and height of its input.
        batch: None, since it takes any number of crops.
        path: Its file.
        outputs: Names of its outputs.

    Raises:
        DeclarationError: If the file cannot be used.
    """

    def __init__(
        self,
        declaration: NetworkDeclaration,
        threads: int = 1,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        self.path: Path = declaration.file
        check_input(declaration)
        try:
            model = load(self.path)
        except CheckpointError as error:
            raise DeclarationError(str(error)) from None
        self.size: tuple[int, int] = model.config.size
        self.batch: int | None = None
        self.outputs: tuple[str, ...] = ("vectors",) + (QUALITY,) * model.config.quality
        self._session: Any = None
        self._model: ReidNet | None = None
        if device == "cpu" and all(find_spec(name) for name in ("onnx", "onnxruntime")):
            self._session = start_session(onnx_bytes(model), self.path, threads)
        else:
            self._model = model.to(device).requires_grad_(False)
        self._device = device

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture `(h, w, 3)` stretched to the input's size."""
        return np.asarray(cv2.resize(picture, self.size), np.uint8)

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """`(B, D)` vectors of length 1 of `(H, W, 3)` uint8 RGB crops of the input's size.

        Behind them the `(B,)` quality of each crop, if the network tells it.
        """
        stacked = np.ascontiguousarray(np.stack(pictures).transpose(0, 3, 1, 2))
        if self._model is None:
            pixels = stacked.astype(np.float32)
            pixels *= np.float32(1 / 255)
            return [np.asarray(output) for output in self._session.run(None, {"crops": pixels})]
        with torch.inference_mode():
            crops = torch.from_numpy(stacked).to(self._device).float() / 255
            outputs = self._model.describe(crops)
            return [output.cpu().numpy() for output in outputs if output is not None]


def check_input(declaration: NetworkDeclaration) -> None:
    """Refuse a declaration of the input: the weight file states it.

    Raises:
        DeclarationError: If anything but the file, and colours beside it, is declared.
    """
    if replace(declaration, colours=0.0) != NetworkDeclaration(file=declaration.file):
        text = "states its own input; expected neither size, colour, divide_by, mean nor std"
        raise DeclarationError(f"weights: {declaration.file} {text}")
