"""Opens what describes crops of people: an ONNX file, weights of ours, or their colours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from jde_ray.models.sde.colours import ColourStripes
from jde_ray.models.sde.declaration import NetworkDeclaration
from jde_ray.models.sde.network import AppearanceEmbedder
from jde_ray.pipelines.detection.devices import onnx_device, torch_device

if TYPE_CHECKING:
    from jde_ray.pipelines.config import ResourceConfig


def open_embedder(
    declaration: NetworkDeclaration,
    threads: int = 1,
    device: Literal["cpu", "cuda"] = "cpu",
    *,
    quantised: bool = False,
) -> AppearanceEmbedder:
    """The embedder of a file, on a device.

    Args:
        declaration: The embedder's file and input.
        threads: CPU threads.
        device: Device that it runs on.
        quantised: Run the 8-bit file beside our weights, if there is one.

    Raises:
        DeclarationError: If the file cannot be used as declared.
    """
    if declaration.is_colours:
        return AppearanceEmbedder(declaration, open_network=lambda *_: ColourStripes())
    if not declaration.is_own:
        return AppearanceEmbedder(declaration, threads, device)
    from jde_ray.models.reid.crop_network import ReidCropNetwork, check_input

    if quantised and (path := quantised_file(declaration)) is not None:
        from jde_ray.models.reid.int8 import Int8CropNetwork

        check_input(declaration)
        return AppearanceEmbedder(
            declaration, open_network=lambda *_: Int8CropNetwork(path, threads)
        )
    return AppearanceEmbedder(declaration, threads, device, open_network=ReidCropNetwork)


def quantised_file(declaration: NetworkDeclaration) -> Path | None:
    """The 8-bit file beside our weights; None for other embedders, or if there is none.

    Raises:
        DeclarationError: If half of it is missing, it was made from other weights, or it cannot be
            read.
    """
    if not declaration.is_own:
        return None
    from jde_ray.models.reid import int8

    return int8.find(declaration.file)


def open_embedder_for(
    declaration: NetworkDeclaration, resources: ResourceConfig, *, quantised: bool = False
) -> AppearanceEmbedder:
    """The embedder of a file, with the threads and on the device of a run.

    Raises:
        DeclarationError: If the file cannot be used as declared.
    """
    if declaration.is_colours:
        return open_embedder(declaration)
    device = (torch_device if declaration.is_own else onnx_device)(resources.device)
    return open_embedder(declaration, resources.torch_threads, device, quantised=quantised)
