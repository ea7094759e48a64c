"""`Detector` finds people in a program's own images; `similarity` compares two people."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jde_ray.models.cards import DEFAULT_WEIGHTS
from jde_ray.models.letterbox import Letterbox, fitted_size
from jde_ray.models.structures import Detections, FloatArray
from jde_ray.models.tracking.config import check_range
from jde_ray.pipelines.config import DetectionConfig, Device, Precision, ResourceConfig
from jde_ray.pipelines.detection import detector
from jde_ray.pipelines.detection.devices import check_gpu
from jde_ray.pipelines.detection.networks import ModelBuilder, is_separate, load_network
from jde_ray.pipelines.detection.settings import detection_for, resolve_precision
from jde_ray.pipelines.live.images import bgr_to_rgb
from jde_ray.pipelines.structures import VideoInfo

Image = NDArray[np.uint8]


class Detector:
    """Finds people in images and embeds their appearance.

    It uses the networks, sizes and thresholds of `jde track`. It changes nothing else in the
    process, except the number of threads if `threads` is set.

    Args:
        weights: Name of a shipped network, a weight file, or a YAML file of ONNX networks.
        size: Width and height of the network's input in pixels, multiples of 32; None for the size
            of the weights. If the weights allow it, the input takes each image's shape and keeps
            this area.
        conf: Detections up to this score, in [0, 1], are left out. None keeps all that a tracker
            can use, which are more than most programs want to show.
        nms: Of two boxes whose IoU exceeds this, the one with the lower score is left out.
        device: `auto` uses a GPU if the machine has one.
        precision: Arithmetic of the network: `auto`, `fp32`, `bf16` or `int8`.
        threads: CPU threads **of the whole process** (of torch, or of OpenCV for ONNX files); None
            keeps the current number. With another number, sums differ in the last digits.
        reid: What describes people beside the weights, as `jde track --reid` takes it: `colours`,
            a shipped re-identification network, or a file; `none`; `auto` for what the card of
            the weights recommends.
        build_model: Function that loads the network; pass your own to use your own model.

    Raises:
        ValueError: If the weights cannot be used, a setting is out of range, or there is no GPU.
        OSError: If a file cannot be read.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] = DEFAULT_WEIGHTS,
        *,
        size: tuple[int, int] | None = None,
        conf: float | None = None,
        nms: float = 0.4,
        device: Device = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        reid: str = "auto",
        build_model: ModelBuilder = load_network,
    ) -> None:
        weights, is_ours = os.fspath(weights), build_model is load_network
        config = detection_for(weights, size, reid=reid) if is_ours else DetectionConfig()
        config = replace(config, nms_threshold=nms, precision=precision)
        if conf is not None:
            check_range("conf", conf, 0.0, 1.0)
            config = replace(config, score_threshold=conf)
        if is_ours:
            check_gpu(device)
            config = resolve_precision(config, device)
        self.config = config
        resources = ResourceConfig(
            device=device,
            torch_threads=_threads_now(config.weights) if threads is None else threads,
        )
        self._network = detector.Detector(config, resources, build_model)

    @overload
    def detect(self, images: Image) -> Detections: ...

    @overload
    def detect(self, images: Sequence[Image]) -> list[Detections]: ...

    def detect(self, images: Any) -> Detections | list[Detections]:
        """Find people in an image, or in each of several images of any sizes.

        Args:
            images: `(H, W, 3)` uint8 BGR, as OpenCV reads it (grey and BGRA are converted); or a
                list of them, or a `(B, H, W, 3)` array. Images of one size go through the network
                together.

        Returns:
            Boxes as corners x1, y1, x2, y2 in pixels of the image, scores from 0 to 1 in descending
            order, and L2-normalised embeddings; a list of these for several images.

        Raises:
            ValueError: If an image is empty or has another shape or type.
            VideoError: If the network gave a number that is not finite.
        """
        is_one = not isinstance(images, (list, tuple)) and np.ndim(images) < 4
        pictures = [bgr_to_rgb(image) for image in ([images] if is_one else images)]
        found: dict[int, Detections] = {}
        for shape in dict.fromkeys(picture.shape for picture in pictures):
            places = [place for place, other in enumerate(pictures) if other.shape == shape]
            box = self._letterbox(shape[1], shape[0])
            frames = np.stack([box.apply(pictures[place]) for place in places])
            infos = [VideoInfo(shape[1], shape[0], 1.0)] * len(places)
            results, _ = self._network.find(frames, infos, places)
            found |= zip(places, results, strict=True)
        ordered = [found[place] for place in range(len(pictures))]
        return ordered[0] if is_one else ordered

    def letterboxed(self, image: Image) -> tuple[Image, Letterbox]:
        """The network's input for an image, and the position of the image in it.

        Args:
            image: As for `detect`.

        Returns:
            `(H, W, 3)` uint8 RGB, and the letterbox.

        Raises:
            ValueError: If the image is empty or has another shape or type.
        """
        rgb = bgr_to_rgb(image)
        box = self._letterbox(rgb.shape[1], rgb.shape[0])
        return box.apply(rgb), box

    def find(self, pixels: Image, box: Letterbox) -> Detections:
        """`detect` for an image that `letterboxed` has prepared."""
        info = VideoInfo(box.source_width, box.source_height, 1.0)
        (found,), _ = self._network.find(pixels[None], [info], [0])
        return found

    def embed(self, image: Image, boxes: ArrayLike) -> FloatArray:
        """Embed the people in given boxes.

        Args:
            image: `(H, W, 3)` uint8 BGR, grey or BGRA, as for `detect`.
            boxes: `(N, 4)` corners x1, y1, x2, y2 in pixels of the image.

        Returns:
            `(N, D)` float32 L2-normalised vectors; compare them with `similarity`. The joint
            network gives the embedding of its own candidate that overlaps the box most, or zeros if
            no IoU reaches .5. Separate networks embed the content of the box.

        Raises:
            ValueError: If the image or the boxes are wrong, or the weights have no embedder.
        """
        rgb = bgr_to_rgb(image)
        tlbr = np.asarray(boxes, np.float32)
        if not tlbr.size:
            tlbr = tlbr.reshape(0, 4)
        if tlbr.ndim != 2 or tlbr.shape[1] != 4 or not np.isfinite(tlbr).all():
            raise ValueError(f"boxes: got shape {tlbr.shape}, expected (N, 4) finite numbers")
        return self._network.embed(rgb, self._letterbox(rgb.shape[1], rgb.shape[0]), tlbr)

    def _letterbox(self, width: int, height: int) -> Letterbox:
        size = self.config.size
        if self.config.rect:
            size = fitted_size(width, height, size)
        return Letterbox(width, height, *size)


def similarity(one: ArrayLike, other: ArrayLike) -> Any:
    """How similar two people look: the cosine of their embeddings, 1 for the same vector.

    Only vectors of the same network can be compared. The value above which two vectors show the
    same person depends on the network; `jde eval --embeddings` measures it on your own footage.

    Args:
        one: `(D,)` vector, or `(N, D)`.
        other: `(D,)` vector, or `(M, D)`.

    Returns:
        A number from -1 to 1; `(N, M)` of them for two arrays. A vector of zeros, which means
        that no person was found, gives 0.

    Raises:
        ValueError: If the vectors have different lengths.

    >>> similarity([1.0, 0.0], [0.6, 0.8])
    0.6
    >>> similarity([[1.0, 0.0], [0.0, 2.0]], [[0.6, 0.8]]).tolist()
    [[0.6], [0.8]]
    """
    first, second = (_unit(np.atleast_2d(np.asarray(v, np.float64))) for v in (one, other))
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"embeddings: got lengths {first.shape[1]} and {second.shape[1]}, expected one length"
        )
    cosines = first @ second.T
    return float(cosines[0, 0]) if np.ndim(one) == np.ndim(other) == 1 else cosines


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(lengths, 1e-12)


def _threads_now(weights: str) -> int:
    """The process's current number of threads, which loading a network then keeps."""
    if is_separate(weights):
        import cv2

        return max(1, cv2.getNumThreads())
    import torch

    return torch.get_num_threads()
