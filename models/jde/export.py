"""A network as an ONNX file, for runtimes without torch."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from jde_ray.models.jde.fusion import fold_batch_norms
from jde_ray.models.jde.network import JDE

OUTPUTS = ("boxes", "scores", "embeddings_32", "embeddings_16", "embeddings_8")
OPSET = 17


class _Flat(nn.Module):
    """The network's candidates as a tuple, since ONNX has no dataclasses."""

    def __init__(self, model: JDE) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Tensors in the order of `OUTPUTS`."""
        candidates = self.model(images)
        return (candidates.boxes, candidates.scores, *candidates.embedding_maps)


def write_onnx(model: JDE, path: Path, notes: dict[str, str] | None = None) -> None:
    """Write a float32 ONNX file for any batch size at the network's input size.

    Input `images` `(B, 3, H, W)` RGB in [0, 1]. Outputs, before NMS: `boxes` `(B, N, 4)` cx, cy, w,
    h in network pixels and `scores` `(B, N)`, in the order of `models.jde.decode.Candidates`; and
    `embeddings_{stride}` `(B, D, H / stride, W / stride)`, to be read at the kept boxes' cells and
    normalised to length 1.

    Args:
        model: Network in float32; its batch norms are folded in place.
        path: File to write; its folder is created.
        notes: Text metadata such as `licence`; the configuration is added.

    Raises:
        ImportError: If `onnx` is not installed.
    """
    import onnx

    dynamic = {name: {0: "batch"} for name in ("images", *OUTPUTS)}
    _write(_Flat(model), model, path, OUTPUTS, dynamic)
    graph = onnx.load(str(path))
    onnx.helper.set_model_props(graph, {**(notes or {}), "config": model.config.to_json()})
    onnx.save(graph, str(path))


def write_maps(model: JDE, path: Path) -> None:
    """Write an ONNX file whose outputs are the raw maps of one picture, to be quantised.

    Input `images` `(1, 3, H, W)`; outputs `models.jde.int8.OUTPUTS`.

    Args:
        model: Network in float32; its batch norms are folded in place.
        path: File to write; its folder is created.

    Raises:
        ImportError: If `onnx` is not installed.
    """
    from jde_ray.models.jde import int8

    _write(int8.MapsAsTuple(model), model, path, int8.OUTPUTS, {})


def _write(
    flat: nn.Module,
    model: JDE,
    path: Path,
    outputs: Sequence[str],
    dynamic: dict[str, dict[int, str]],
) -> None:
    fold_batch_norms(model)
    width, height = model.config.size
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the newer exporter needs one more package
        torch.onnx.export(
            flat.eval(),
            (torch.zeros(1, 3, height, width),),
            str(path),
            input_names=["images"],
            output_names=list(outputs),
            dynamic_axes=dynamic,
            opset_version=OPSET,
            dynamo=False,
        )
