"""Opens the detector of separate networks: an ONNX file, or weights of ours."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jde_ray.models.jde.decode import Candidates, select
from jde_ray.models.letterbox import Letterbox
from jde_ray.models.rcnn.network import RegionCandidates
from jde_ray.models.sde.declaration import DeclarationError, DetectorDeclaration
from jde_ray.models.sde.layouts import Found
from jde_ray.models.sde.network import PersonDetector, PictureDetector
from jde_ray.pipelines.detection.devices import onnx_device, torch_device
from jde_ray.pipelines.detection.finders import input_size, load_finder
from jde_ray.pipelines.torch_setup import set_up_torch

if TYPE_CHECKING:
    from jde_ray.pipelines.config import ResourceConfig

LEAST_SIDE = 1.0  # pixels of a box within the picture
MOST = 100_000  # boxes of a picture: the caller limits them


class OwnDetector:
    """A two-stage or joint network of ours, of which only the boxes are used, in float32.

    Args:
        declaration: Its file.
        threads: Number of torch's threads, which the process has.
        device: Device that it runs on.

    Raises:
        DeclarationError: If the file cannot be used.
    """

    def __init__(
        self,
        declaration: DetectorDeclaration,
        threads: int = 1,
        device: Literal["cpu", "cuda"] = "cpu",
    ) -> None:
        del threads
        try:
            self._model = load_finder(declaration.file).to(device).requires_grad_(False)
        except ValueError as error:
            raise DeclarationError(str(error)) from None

    @torch.inference_mode()
    def detect(
        self, picture: NDArray[np.uint8], score_threshold: float, nms_threshold: float = 0.45
    ) -> Found:
        """People of a picture, letterboxed to the size that the network was trained for.

        Args:
            picture: `(H, W, 3)` uint8 RGB.
            score_threshold: Boxes must score above it.
            nms_threshold: IoU above which the box of lower score is suppressed.

        Returns:
            `(N, 4)` tlbr in the picture's pixels, clipped to it, and `(N,)` falling scores; boxes
            in the letterbox's border are left out.

        Raises:
            FloatingPointError: If a score or a kept box is not finite.
        """
        model = self._model
        height, width = picture.shape[:2]
        box = Letterbox(width, height, *input_size(model, width, height))
        frame = torch.from_numpy(box.apply(np.ascontiguousarray(picture)))
        candidates = _without_embeddings(model(model.normalise(frame[None])))
        (found,) = select(candidates, score_threshold, nms_threshold, MOST)
        tlbr = box.to_source(found.tlbr)
        tlbr[:, 0::2] = tlbr[:, 0::2].clip(0, width)
        tlbr[:, 1::2] = tlbr[:, 1::2].clip(0, height)
        shows = (tlbr[:, 2:] - tlbr[:, :2]).min(1, initial=np.inf) >= LEAST_SIDE
        return tlbr[shows], found.scores[shows]


def _without_embeddings(candidates: Candidates) -> Candidates:
    """Candidates of which a two-stage network reads no embeddings, since nobody uses them."""
    return (
        replace(candidates, read=_nothing)
        if isinstance(candidates, RegionCandidates)
        else candidates
    )


def _nothing(_image: Tensor, tlbr: Tensor) -> Tensor:
    return tlbr.new_zeros(len(tlbr), 0)


def open_detector(
    declaration: DetectorDeclaration, threads: int = 1, device: Literal["cpu", "cuda"] = "cpu"
) -> PictureDetector:
    """The detector of a file, on a device.

    Raises:
        DeclarationError: If the file cannot be used as declared.
    """
    opener = OwnDetector if declaration.is_own else PersonDetector
    return opener(declaration, threads, device)


def open_detector_for(
    declaration: DetectorDeclaration, resources: ResourceConfig
) -> PictureDetector:
    """The detector of a file, with the threads and on the device of a run.

    Raises:
        DeclarationError: If the file cannot be used as declared.
    """
    if declaration.is_own:
        set_up_torch(resources.torch_threads)
    device = (torch_device if declaration.is_own else onnx_device)(resources.device)
    return open_detector(declaration, resources.torch_threads, device)
