"""The number formats that a machine computes quickly in."""

from __future__ import annotations

import logging
from typing import Literal

from jde_ray.pipelines.config import Device, Precision
from jde_ray.pipelines.detection.devices import has_cuda

logger = logging.getLogger(__name__)


def is_emulated(precision: str, device: Device) -> bool:
    """Whether a precision is one that this machine has no units for."""
    return precision == "bf16" and quick_precision(device) != "bf16"


def warn_of_emulation(precision: str, device: Device) -> None:
    """Say so in one line, wherever a precision is given."""
    if is_emulated(precision, device):
        logger.warning(
            "precision: this machine emulates bf16, which takes about ten times as long as fp32"
        )


def quick_precision(device: Device) -> Literal["fp32", "bf16"]:
    """`bf16` if this machine has units for it (a GPU, AMX, AVX512_BF16), else `fp32`.

    For a run on a cluster, the machine that starts it decides.
    """
    import torch

    if device != "cpu" and has_cuda():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    if device == "cuda":  # the cluster has GPUs, but this machine has none
        return "bf16"
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11
    units = ("amx_bf16", "avx512_bf16")
    return "bf16" if any(capabilities.get(unit, False) for unit in units) else "fp32"


def precision_on(device: Device, wanted: Precision) -> Precision:
    """The precision that is wanted; for `auto` the quick one."""
    return quick_precision(device) if wanted == "auto" else wanted
