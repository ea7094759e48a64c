"""Two-stage networks (`models.rcnn`) in the pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from jde_ray.models.jde.decode import select
from jde_ray.models.jde.weights import resolve
from jde_ray.models.rcnn.weights import load
from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.devices import torch_device
from jde_ray.pipelines.detection.model import Embedded, FoundInFrame, in_source_pixels
from jde_ray.pipelines.detection.precision import precision_on
from jde_ray.pipelines.detection.upload import Upload
from jde_ray.pipelines.torch_setup import set_up_torch

if TYPE_CHECKING:
    from jde_ray.models.letterbox import Letterbox


class TwoStageModel:
    """A two-stage network on its device, with its thresholds; embeddings of width 0 if it has none.

    On a CPU it runs on one frame at a time: its second stage is most of its work, and does not
    become faster by more boxes. A frame's numbers then do not depend on its neighbours.

    Args:
        config: Weights, thresholds and precision.
        resources: Device and threads.
    """

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        set_up_torch(resources.torch_threads)
        device = torch_device(resources.device)
        precision = precision_on(resources.device, config.precision)
        self._config = config
        self._upload = Upload(torch.device(device), pinned=device == "cuda")
        self._at_once = 0 if device == "cuda" else 1
        model = load(resolve(config.weights)).to(device).requires_grad_(False)
        self._model = model.to(torch.bfloat16) if precision == "bf16" else model

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """Run the network, on a GPU on all frames of a chunk at once, padding included."""
        config = self._config
        limits = (config.threshold, config.nms_threshold, config.max_detections)
        number = len(frames) if not self._at_once else len(letterboxes)
        found: list[FoundInFrame] = []
        for first in range(0, number, self._at_once or number):
            part = frames[first : first + (self._at_once or number)]
            found += self._model.detect(self._upload(part), *limits)
        return in_source_pixels(found, letterboxes)

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Embeddings at given boxes, from a pass of the second stage over them."""
        self._check_embeddings()
        boxes = torch.as_tensor(letterbox.to_network(tlbr), dtype=torch.float32)
        (vectors,) = self._model.embed(self._upload(frame[None]), [boxes])
        return np.asarray(vectors.float().cpu().numpy(), np.float32)

    @torch.inference_mode()
    def read(
        self,
        frames: NDArray[np.uint8],
        letterboxes: Sequence[Letterbox],
        people: Sequence[FloatArray],
    ) -> tuple[Sequence[FoundInFrame], list[Embedded]]:
        """Run the first stage once per frame; embeddings are read at the boxes themselves.

        A detector without embeddings finds people where nobody is to be embedded.
        """
        if any(len(tlbr) for tlbr in people):
            self._check_embeddings()
        config = self._config
        limits = (config.threshold, config.nms_threshold, config.max_detections)
        found: list[FoundInFrame] = []
        embedded: list[Embedded] = []
        for frame, letterbox, tlbr in zip(frames, letterboxes, people, strict=False):  # padding
            candidates = self._model(self._model.normalise(self._upload(frame[None])))
            found += in_source_pixels(select(candidates, *limits), [letterbox])
            boxes = torch.as_tensor(letterbox.to_network(tlbr), dtype=torch.float32)
            image = torch.zeros(len(boxes), dtype=torch.int64)
            device = candidates.boxes.device
            vectors = candidates.read(image.to(device), boxes.to(device))
            who = np.arange(len(tlbr))
            embedded.append((who, np.asarray(vectors.float().cpu().numpy(), np.float32)))
        return found, embedded

    def _check_embeddings(self) -> None:
        if not self._model.config.embedding_dim:
            text = f"{self._config.weights} is a detector without embeddings"
            raise ValueError(f"weights: {text}, expected a joint network")
