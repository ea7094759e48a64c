"""The device that a network runs on, in this process."""

from __future__ import annotations

from typing import Literal

from jde_ray.pipelines.config import Device


def has_cuda() -> bool:
    """Whether this machine has a GPU that torch can use."""
    import torch

    return torch.cuda.is_available()


def check_gpu(device: str) -> None:
    """Refuse `cuda` on a machine without a GPU.

    Raises:
        ValueError: In one line.
    """
    if device == "cuda" and not has_cuda():
        raise ValueError("device: got cuda, but this machine has no GPU; use cpu")


def torch_device(wanted: Device) -> Literal["cpu", "cuda"]:
    """Device of a network in torch: for `auto` a GPU, if torch can use one."""
    if wanted == "auto":
        return "cuda" if has_cuda() else "cpu"
    return wanted


def onnx_device(wanted: Device) -> Literal["cpu", "cuda"]:
    """Device of an ONNX file: for `auto` a GPU, if onnxruntime can use one."""
    import onnxruntime

    from jde_ray.models.sde.onnx_network import CUDA

    if wanted == "auto":
        return "cuda" if CUDA in onnxruntime.get_available_providers() else "cpu"
    return wanted
