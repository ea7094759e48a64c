"""The networks that find people: joint ones, two-stage ones, or two separate ones.

The weights decide: a YAML file declares separate networks (`models.sde.declaration_file`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.structures import FloatArray
from jde_ray.pipelines.config import DetectionConfig, ResourceConfig
from jde_ray.pipelines.detection.devices import torch_device
from jde_ray.pipelines.detection.model import (
    Embedded,
    FoundInFrame,
    FoundInSource,
    Model,
    in_source_pixels,
)
from jde_ray.pipelines.detection.precision import precision_on
from jde_ray.pipelines.detection.queued import QueuedModel
from jde_ray.pipelines.detection.second_look import WithSecondLook
from jde_ray.pipelines.torch_setup import set_up_torch

if TYPE_CHECKING:
    from jde_ray.models.jde.gpu.runner import Runner
    from jde_ray.models.letterbox import Letterbox


class TorchModel:
    """The JDE network on its device, with its thresholds.

    Args:
        config: Weights, thresholds and precision.
        resources: Device and threads.
    """

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        import torch

        from jde_ray.models.jde.fusion import optimise
        from jde_ray.models.jde.weights import load
        from jde_ray.pipelines.detection.upload import Upload

        set_up_torch(resources.torch_threads)
        device = torch_device(resources.device)
        self._config = config
        self._upload = Upload(torch.device(device), pinned=device == "cuda")
        model = load(config.weights, config.size).to(device)
        precision = precision_on(resources.device, config.precision)
        self._model = optimise(
            model, "bf16" if precision == "bf16" else "fp32", compiled=config.compile
        )

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """Run the network on all frames of a chunk at once, padding included."""
        config = self._config
        found: Sequence[FoundInFrame] = self._model.detect(
            self._upload(frames),
            config.threshold,
            config.nms_threshold,
            config.max_detections,
        )
        return in_source_pixels(found, letterboxes)

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Run the network, and read the embedding of the candidate that overlaps each box most."""
        import torch

        from jde_ray.models.jde.person_cells import embeddings_of_boxes

        with torch.inference_mode():
            candidates = self._model(self._model.normalise(self._upload(frame[None])))
            boxes = torch.as_tensor(letterbox.to_network(tlbr), dtype=torch.float32)
            boxes = boxes.to(candidates.boxes.device)
            vectors: FloatArray = embeddings_of_boxes(candidates, boxes).cpu().numpy()
        return vectors

    def read(
        self,
        frames: NDArray[np.uint8],
        letterboxes: Sequence[Letterbox],
        people: Sequence[FloatArray],
    ) -> tuple[Sequence[FoundInFrame], list[Embedded]]:
        """Run the network once; embeddings are read where `models.jde.person_cells` says."""
        import torch

        from jde_ray.models.jde.decode import select
        from jde_ray.models.jde.person_cells import embeddings_of_people

        config = self._config
        limits = (config.threshold, config.nms_threshold, config.max_detections)
        with torch.inference_mode():
            candidates = self._model(self._model.normalise(self._upload(frames)))
            found = in_source_pixels(select(candidates, *limits), letterboxes)
            boxes = [box.to_network(tlbr) for box, tlbr in zip(letterboxes, people, strict=True)]
            return found, embeddings_of_people(self._model.config, candidates, boxes)

    def open_runner(self, largest: int) -> Runner | None:
        """The GPU's runner of this network and its thresholds; None where it cannot run.

        Args:
            largest: Frames of its largest batch.
        """
        from jde_ray.models.jde.gpu.building import batches_of, can_run, open_runner
        from jde_ray.models.jde.gpu.selection import Limits

        if not can_run(next(self._model.parameters()).device):
            return None
        config = self._config
        limits = Limits(config.threshold, config.nms_threshold, config.max_detections)
        return open_runner(self._model, limits, batches_of(self._model, largest))


class Int8Model:
    """The JDE network in 8-bit integers on the CPU, with its thresholds.

    Args:
        config: Weights, beside which the quantised file lies, and thresholds.
        resources: Threads.
    """

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:

        from jde_ray.models.jde import int8

        set_up_torch(resources.torch_threads)
        self._config = config
        self._model = int8.Int8JDE(int8.find(config.weights), resources.torch_threads)

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """Run the network on each frame that is not padding."""
        config = self._config
        limits = (config.threshold, config.nms_threshold, config.max_detections)
        found = self._model.detect(frames[: len(letterboxes)], *limits)
        return in_source_pixels(found, letterboxes)

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Run the network, and read the embedding of the candidate that overlaps each box most."""
        import torch

        from jde_ray.models.jde.person_cells import embeddings_of_boxes

        with torch.inference_mode():
            boxes = torch.as_tensor(letterbox.to_network(tlbr), dtype=torch.float32)
            vectors: FloatArray = embeddings_of_boxes(self._model.candidates(frame), boxes).numpy()
        return vectors


class SeparateModel:
    """A detector and an embedder from files (`models.sde`), run per frame in float32.

    Args:
        config: Path of the declaration, and thresholds.
        resources: Device and threads.
    """

    def __init__(self, config: DetectionConfig, resources: ResourceConfig) -> None:
        import cv2

        from jde_ray.models.sde.declaration_file import read_declaration
        from jde_ray.models.sde.network import SeparateNetworks
        from jde_ray.pipelines.detection.detectors import open_detector_for
        from jde_ray.pipelines.detection.embedders import open_embedder_for

        cv2.setNumThreads(resources.torch_threads)  # OpenCV resizes the crops
        self._config = config
        self._networks = SeparateNetworks(
            read_declaration(config.weights),
            resources.torch_threads,
            open_detector=lambda declared, *_: open_detector_for(declared, resources),
            open_embedder=lambda declared, *_: open_embedder_for(declared, resources),
        )

    def detect(
        self, frames: NDArray[np.uint8], letterboxes: Sequence[Letterbox]
    ) -> Sequence[FoundInFrame]:
        """Detect in each frame without its grey borders, then embed its crops."""
        config = self._config
        limits = (config.threshold, config.nms_threshold, config.max_detections)
        return [
            FoundInSource.of(self._networks.detect(picture, *limits), box.picture_to_source)
            for box, group in groupby(range(len(letterboxes)), letterboxes.__getitem__)
            for picture in box.pictures(frames[list(group)])
        ]

    def embed(self, frame: NDArray[np.uint8], letterbox: Letterbox, tlbr: FloatArray) -> FloatArray:
        """Embed the crop of each box, from the frame without its grey borders."""
        if self._networks.embedder is None:
            raise ValueError(f"weights: {self._config.weights} names no embedder, expected one")
        (picture,) = letterbox.pictures(frame[None])
        return self._networks.embedder.embed(picture, letterbox.source_to_picture(tlbr))


ModelBuilder = Callable[[DetectionConfig, ResourceConfig], Model]


def is_separate(weights: str) -> bool:
    """Whether the weights are a YAML file that declares separate networks."""
    return weights.lower().endswith((".yaml", ".yml"))


def load_network(config: DetectionConfig, resources: ResourceConfig) -> Model:
    """Load the networks that the weights name; the default `ModelBuilder`.

    Raises:
        ValueError: If they cannot be used.
    """
    model = _load(config, resources)
    if not config.looks_again:
        return model
    import cv2

    from jde_ray.models.sde.declaration_file import read_embedder
    from jde_ray.pipelines.detection.embedders import open_embedder_for

    cv2.setNumThreads(resources.torch_threads)  # OpenCV resizes the crops
    declared, quantised = read_embedder(config.second_look), config.precision == "int8"
    embedder = open_embedder_for(declared, resources, quantised=quantised)
    only_needed = config.reid_mode == "needed"
    return WithSecondLook(
        model,
        embedder,
        only_needed=only_needed,
        least_score=config.reid_score if only_needed else 0.0,
    )


def _load(config: DetectionConfig, resources: ResourceConfig) -> Model:
    from jde_ray.models.rcnn.weights import is_two_stage

    if is_separate(config.weights):
        return SeparateModel(config, resources)
    if config.precision == "int8":
        return Int8Model(config, resources)
    if is_two_stage(config.weights):
        from jde_ray.pipelines.detection.two_stage import TwoStageModel

        return TwoStageModel(config, resources)
    model = TorchModel(config, resources)
    runner = model.open_runner(resources.chunk_frames) if resources.graphs else None
    return model if runner is None else QueuedModel(runner, model)
