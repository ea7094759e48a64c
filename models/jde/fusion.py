"""Speeding up a loaded network: batch norms folded into convolutions, bfloat16, compilation.

`docs/measurements/performance.md` measures how each of these changes the results.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from jde_ray.models.jde.network import JDE


def fold_batch_norms(module: nn.Module) -> int:
    """Fold each batch norm into the convolution before it; return their number.

    In every network of this project a norm directly follows its convolution, also in the order of
    module names.

    Args:
        module: Module in evaluation mode; it and its state dict are changed in place.

    Raises:
        ValueError: If the module is in training mode, where norms use the batch's statistics.
    """
    if module.training:
        raise ValueError("fold: got a module in training mode, expected evaluation mode")
    folded = 0
    before: tuple[str, nn.Conv2d] | None = None
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d) and before is not None:
            setattr(module, before[0], fuse_conv_bn_eval(before[1], child))
            setattr(module, name, nn.Identity().eval())
            folded += 1
        else:
            folded += fold_batch_norms(child)
        before = (name, child) if isinstance(child, nn.Conv2d) else None
    return folded


def optimise(model: JDE, precision: Literal["fp32", "bf16"], *, compiled: bool = False) -> JDE:
    """Prepare a network for inference only: norms folded, channels last, the given precision.

    In `bf16` the convolutions and their weights are bfloat16; the last layer of boxes and scores
    stays float32, since its values are pixels. In `fp32` a GPU computes in float32 instead of
    torch's default TF32 with its 10-bit mantissa; this is set for the whole process.

    Args:
        model: Loaded network, changed in place.
        precision: Arithmetic of the convolutions.
        compiled: Let `torch.compile` fuse the remaining operations (needs a C++ compiler, or Triton
            on a GPU; takes up to minutes for each new batch shape). What was compiled is kept in
            `compiled_folder`, so that the next process finds it.
    """
    fold_batch_norms(model)
    if precision == "fp32":
        torch.backends.cudnn.allow_tf32 = False
        torch.backends.cuda.matmul.allow_tf32 = False  # torch's default
    if precision == "bf16":
        model.to(torch.bfloat16)
        for head in model.heads:
            cast("nn.Conv2d", head.box).float()
    model.requires_grad_(False)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if compiled:
        folder = compiled_folder()
        if folder is not None:  # torch reads it when it first compiles
            os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder))
        model.maps = torch.compile(model.maps)  # type: ignore[method-assign]
    return model


def compiled_folder() -> Path | None:
    """Where compiled networks are kept: in the user's cache; None if that cannot be written.

    torch would use a temporary folder, which is empty after the next start of the machine.
    """
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(caches or Path("~/.cache").expanduser()) / "jde-ray" / "compiled"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # RuntimeError: the user has no home folder
        return None
    return folder if os.access(folder, os.W_OK) else None
