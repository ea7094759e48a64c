"""NanoDet-g, a detector of COCO's 80 classes: the small model's start and a teacher of training.

https://github.com/RangiLyu/nanodet, configuration `nanodet_g.yml` (Apache-2.0; 22.9 mAP on COCO at
416x416). It is read from its TensorFlow.js form (`nanodet.json`, `nanodet.bin`), published on npm
with batch norms folded and numbers in float16: see `docs/training.md`. Other detectors are used as
ONNX files, through `models.sde`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.backbones.csp import CspNet
from jde_ray.models.jde.refusals import CheckpointError

STRIDES = (8, 16, 32)
WIDTH, CLASSES, BINS = 128, 80, 11
PERSON = 0  # class number
_HEAD_CONVOLUTIONS = (28, 29, 30, 31, 32, 33)  # a 3x3 and a 1x1 at each stride


class NanoDet(nn.Module):
    """Backbone, pyramid of sums, one small head per stride.

    The distance of a box edge from the cell's centre, in strides, is the mean of a predicted
    distribution over `BINS` distances (Li et al., "Generalized Focal Loss", 2020).
    """

    def __init__(self) -> None:
        super().__init__()
        self.backbone = CspNet()
        self.laterals = nn.ModuleList(nn.Conv2d(c, WIDTH, 1) for c in self.backbone.channels)
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
                nn.LeakyReLU(0.1, inplace=True),
                nn.Conv2d(WIDTH, CLASSES + 4 * BINS, 1),
            )
            for _ in STRIDES
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """People of `(B, 3, H, W)` RGB images in [0, 1]: `(B, N, 4)` corners, `(B, N)` scores.

        H and W are multiples of 32; corners are in input pixels, before NMS.
        """
        taps = self.backbone(images)
        p8, p16, p32 = (lateral(tap) for lateral, tap in zip(self.laterals, taps, strict=True))
        p16 = p16 + _scaled(p32, 2.0)
        p8 = p8 + _scaled(p16, 2.0)
        p16 = p16 + _scaled(p8, 0.5)
        p32 = p32 + _scaled(p16, 0.5)
        boxes, scores = [], []
        for head, features, stride in zip(self.heads, (p8, p16, p32), STRIDES, strict=True):
            raw = head(features).float()
            height, width = raw.shape[2:]
            cells = raw.flatten(2).transpose(1, 2)
            scores.append(cells[..., PERSON].sigmoid())
            distances = cells[..., CLASSES:].unflatten(2, (4, BINS)).softmax(3)
            edges = distances @ torch.arange(BINS, dtype=raw.dtype, device=raw.device)
            y, x = torch.meshgrid(
                torch.arange(height, device=raw.device),
                torch.arange(width, device=raw.device),
                indexing="ij",
            )
            centres = torch.stack((x, y), -1).flatten(0, 1) + 0.5
            corners = torch.cat((centres - edges[..., :2], centres + edges[..., 2:]), 2)
            boxes.append(corners * stride)
        return torch.cat(boxes, 1), torch.cat(scores, 1)


def _scaled(features: Tensor, factor: float) -> Tensor:
    return F.interpolate(features, scale_factor=factor, mode="bilinear", align_corners=False)


def read_nanodet(path: Path) -> NanoDet:
    """The detector of a `nanodet.json` and the `.bin` file beside it, for inference.

    It was trained on BGR; the input channels of the first convolution are swapped for RGB.

    Raises:
        CheckpointError: If a file is missing or belongs to another network.
    """
    arrays = _read_graph_model(path)
    model = NanoDet()
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for number, convolution in enumerate(convolutions):
        kernel, bias = _names(number)
        if kernel not in arrays or bias not in arrays:
            raise CheckpointError(f"weights: {path} lacks {kernel} or {bias} of NanoDet-g")
        weight = torch.from_numpy(arrays[kernel])
        if weight.ndim != 4 or weight.permute(3, 2, 0, 1).shape != convolution.weight.shape:
            raise CheckpointError(
                f"weights: {path}: {kernel} is {tuple(weight.shape)}, NanoDet-g has "
                f"{tuple(convolution.weight.permute(2, 3, 1, 0).shape)}"
            )
        convolution.weight.data = weight.permute(3, 2, 0, 1).contiguous()
        assert convolution.bias is not None  # noqa: S101 - no convolution here is without
        convolution.bias.data = torch.from_numpy(arrays[bias])
    stem = convolutions[0]
    stem.weight.data = stem.weight.data.flip(1).contiguous()
    return model.eval()


def _names(number: int) -> tuple[str, str]:
    """Kernel and bias of a convolution, by its place in the graph."""
    kernel = f"PartitionedCall/split_{number}" if number else "PartitionedCall/split"
    if number in _HEAD_CONVOLUTIONS:  # each stride has a constant shape before its biases
        stride, part = divmod(number - _HEAD_CONVOLUTIONS[0], 2)
        return kernel, f"unknown_{(60, 66, 70)[stride] + 2 * part}"
    return kernel, f"unknown_{2 * number}"


def _read_graph_model(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """The weights of a TensorFlow.js graph model, float16 ones as float32.

    Raises:
        CheckpointError: If it is no such model, or its weights are truncated or packed otherwise.
    """
    try:
        manifest = json.loads(path.read_text())["weightsManifest"]
        content = b"".join(
            (path.parent / name).read_bytes() for group in manifest for name in group["paths"]
        )
        weights = [weight for group in manifest for weight in group["weights"]]
        arrays, used = {}, 0
        for weight in weights:
            packed = weight.get("quantization", {}).get("dtype", weight["dtype"])
            kind = np.dtype(packed).newbyteorder("<")
            count = int(np.prod(weight["shape"], dtype=np.int64))
            array = np.frombuffer(content, kind, count, used).reshape(weight["shape"])
            used += array.nbytes
            if kind.kind == "f":
                arrays[weight["name"]] = array.astype(np.float32)
    except OSError as error:
        raise CheckpointError(f"weights: {error.filename}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(f"weights: {path} is not a TensorFlow.js model ({reason})") from None
    if used != len(content):
        raise CheckpointError(f"weights: {path}: got {len(content) - used} bytes after the weights")
    return arrays
