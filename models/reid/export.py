"""A re-identification network as an ONNX file."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from jde_ray.models.reid.network import ReidNet
from jde_ray.models.sde.declaration import QUALITY

OPSET = 17


class _Describing(nn.Module):
    """A network whose forward pass gives both outputs."""

    def __init__(self, model: ReidNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, crops: Tensor) -> tuple[Tensor, Tensor | None]:
        return self.model.describe(crops)


def onnx_bytes(model: ReidNet) -> bytes:
    """A float32 ONNX graph for any number of crops.

    Input `crops` `(B, 3, H, W)` RGB in [0, 1], output `vectors` `(B, D)` of length 1, and `quality`
    `(B,)` in (0, 1) if the network tells it.

    Raises:
        ImportError: If `onnx` is not installed.
    """
    import onnx  # noqa: F401 - torch needs it, and says so only in many lines

    width, height = model.config.size
    memory = io.BytesIO()
    tells = model.config.quality
    outputs = ["vectors", QUALITY] if tells else ["vectors"]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the newer exporter needs one more package
        torch.onnx.export(
            (_Describing(model) if tells else model).eval().cpu(),
            (torch.zeros(2, 3, height, width),),
            memory,  # type: ignore[arg-type]
            input_names=["crops"],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in ("crops", *outputs)},
            opset_version=OPSET,
            dynamo=False,
        )
    return memory.getvalue()


def write_onnx(model: ReidNet, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write the graph of `onnx_bytes` to a file; its folder is created.

    Args:
        model: The network.
        path: File to write.
        notes: Text metadata such as `licence`; the configuration is added.

    Raises:
        ImportError: If `onnx` is not installed.
    """
    import onnx

    graph = onnx.load_from_string(onnx_bytes(model))
    onnx.helper.set_model_props(graph, {**(notes or {}), "config": model.config.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(graph, str(path))
