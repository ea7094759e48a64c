"""Running the two networks: boxes of a picture, and the appearance vector of each box's crop."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.letterbox import Letterbox
from jde_ray.models.sde.colours import ColourStripes
from jde_ray.models.sde.declaration import (
    QUALITY,
    Declaration,
    DeclarationError,
    DetectorDeclaration,
    NetworkDeclaration,
)
from jde_ray.models.sde.layouts import LAYOUTS, Found
from jde_ray.models.sde.onnx_network import OnnxNetwork
from jde_ray.models.structures import Described, FloatArray
from jde_ray.models.suppression import suppress

Device = Literal["cpu", "cuda"]
# On a CPU one crop at a time is fastest: OSNet takes 2.6 ms for one crop, and 4.4 ms per crop for
# 16 at once, which no longer fit the cache.
_CROPS_AT_ONCE = {"cpu": 1, "cuda": 32}
_HISTOGRAMS_AT_ONCE = 32  # of colours: alone, a crop takes twice as long
_WIDE = 1.2  # pictures wider than this times their height are also searched in halves
_HALVES = (0.55, 0.45)  # end of the left half and start of the right one, as shares of the width


def views_of(width: int, height: int) -> list[tuple[int, int]]:
    """Left and right edges in pixels of the views: the full picture, and its halves if it is wide.

    Args:
        width: Picture width in pixels.
        height: Picture height in pixels.
    """
    views = [(0, width)]
    if width > _WIDE * height:
        end, begin = (int(share * width) for share in _HALVES)
        views += [(0, end), (begin, width)]
    return views


class PictureDetector(Protocol):
    """Finds the people in a picture, as `PersonDetector` does."""

    def detect(
        self, picture: NDArray[np.uint8], score_threshold: float, nms_threshold: float = 0.45
    ) -> Found:
        """People of an `(H, W, 3)` uint8 RGB picture."""
        ...


class PersonDetector:
    """Finds the people in a picture, by an ONNX detector of a declared layout.

    Args:
        declaration: File, input and layout of the detector.
        threads: Number of CPU threads.
        device: Device that it runs on.

    Raises:
        DeclarationError: If the file is not as declared; a trial run checks this.
    """

    def __init__(
        self, declaration: DetectorDeclaration, threads: int = 1, device: Device = "cpu"
    ) -> None:
        self._network = OnnxNetwork(declaration, threads, device)
        self._declaration = declaration
        self._layout = LAYOUTS[declaration.layout]
        outputs = _probe(self._network)
        try:
            self._layout.check(declaration.layout, outputs, self._network.size, declaration.person)
        except ValueError as error:
            raise DeclarationError(f"weights: {declaration.file}: {error}") from None

    def detect(
        self, picture: NDArray[np.uint8], score_threshold: float, nms_threshold: float = 0.45
    ) -> Found:
        """People of a picture.

        Args:
            picture: `(H, W, 3)` uint8 RGB.
            score_threshold: Boxes must score above it.
            nms_threshold: IoU above which the box of lower score is suppressed.

        Returns:
            `(N, 4)` tlbr in the picture's pixels, clipped to it, and `(N,)` falling scores.

        Raises:
            FloatingPointError: If a score or a kept box is not finite.
        """
        height, width = picture.shape[:2]
        views = [(0, width)]
        if self._declaration.views == "halves":
            views = views_of(width, height)
        found = [self._view(picture, *view, score_threshold) for view in views]
        tlbr = np.concatenate([boxes for boxes, _ in found])
        scores = np.concatenate([score for _, score in found])
        tlbr[:, 0::2] = tlbr[:, 0::2].clip(0, width)
        tlbr[:, 1::2] = tlbr[:, 1::2].clip(0, height)
        order = np.argsort(-scores, kind="stable")
        kept = order[suppress(tlbr[order], nms_threshold)]
        return tlbr[kept], scores[kept]

    def _view(
        self, picture: NDArray[np.uint8], left: int, right: int, score_threshold: float
    ) -> Found:
        view = picture[:, left:right]
        height, width = view.shape[:2]
        size, letterbox = self._network.size, None
        if self._declaration.fit == "letterbox":
            letterbox = Letterbox(width, height, *size)
            fitted = letterbox.apply(np.ascontiguousarray(view))
        else:
            fitted = self._network.resized(view)
        boxes, scores = self._layout.decode(self._network([fitted]), size, self._declaration.person)
        if not np.isfinite(scores).all():
            raise FloatingPointError("the detector's scores are not finite")
        large = scores > score_threshold
        boxes, scores = boxes[large].astype(np.float32), scores[large].astype(np.float32)
        if not np.isfinite(boxes).all():
            raise FloatingPointError("the detector's boxes are not finite")
        if letterbox is not None:
            boxes = letterbox.to_source(boxes)
        else:
            boxes = boxes * np.array([width / size[0], height / size[1]] * 2, np.float32)
        return boxes + np.array([left, 0, left, 0], np.float32), scores


class CropNetwork(Protocol):
    """A network of crops, as `OnnxNetwork` is one.

    Attributes:
        size: Width and height of its input.
        batch: Number of crops that it takes at once; None for any.
        path: Its file.
        outputs: Names of its outputs.
    """

    size: tuple[int, int]
    batch: int | None
    path: Path
    outputs: tuple[str, ...]

    def resized(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """A picture `(h, w, 3)` stretched to the input's size."""

    def __call__(self, pictures: list[NDArray[np.uint8]]) -> list[NDArray[Any]]:
        """Outputs of some pictures of the input's size."""


CropNetworkOpener = Callable[[NetworkDeclaration, int, Device], CropNetwork]


class AppearanceEmbedder:
    """Computes an L2-normalised appearance vector for each box of a picture, from its crop.

    A network whose second output is named `quality` also says how good each crop is.

    Args:
        declaration: File and input of the re-identification network.
        threads: Number of CPU threads.
        device: Device that it runs on.
        open_network: Opens the file; those of `models.reid` are opened by their own class.

    Attributes:
        width: D, the length of a vector.

    Raises:
        DeclarationError: If the file is not as declared; a trial run checks this.
    """

    def __init__(
        self,
        declaration: NetworkDeclaration,
        threads: int = 1,
        device: Device = "cpu",
        *,
        open_network: CropNetworkOpener = OnnxNetwork,
    ) -> None:
        self._network = open_network(declaration, threads, device)
        most = _HISTOGRAMS_AT_ONCE if declaration.is_colours else _CROPS_AT_ONCE[device]
        self._at_once = self._network.batch or most
        shapes = [output.shape for output in _probe(self._network)]
        self._tells = tuple(self._network.outputs[1:]) == (QUALITY,) and shapes[1] in ((1,), (1, 1))
        if len(shapes) - self._tells != 1 or shapes[0][0] != 1 or len(shapes[0]) < 2:
            got = ", ".join(map(str, shapes))
            raise DeclarationError(
                f"weights: {declaration.file}: got output {got}, an embedder gives (1, D), and may "
                f"give {QUALITY} (1,)"
            )
        self._own_width = self.width = int(np.prod(shapes[0]))
        self._colours = ColourStripes() if declaration.colours else None
        self._share = declaration.colours
        if self._colours is not None:
            self.width += int(np.prod(_probe(self._colours)[0].shape))

    def embed(self, picture: NDArray[np.uint8], tlbr: FloatArray) -> FloatArray:
        """The vectors of `describe`."""
        return self.describe(picture, tlbr).vectors

    def describe(self, picture: NDArray[np.uint8], tlbr: FloatArray) -> Described:
        """Vectors of the `(N, 4)` boxes of an RGB picture, and the quality of their crops.

        Both are zeros for boxes under 2 px. A part for colours follows the network's, if declared.

        Raises:
            FloatingPointError: If a vector or a quality is not finite, or a quality below 0.
        """
        vectors = np.zeros((len(tlbr), self._own_width), np.float32)
        quality = np.zeros(len(tlbr), np.float32)
        rows, crops, coloured = [], [], []
        for row, (x1, y1, x2, y2) in enumerate(np.rint(tlbr).astype(int).tolist()):
            crop = picture[max(y1, 0) : max(y2, 0), max(x1, 0) : max(x2, 0)]
            if min(crop.shape[:2]) >= 2:
                rows.append(row)
                crops.append(self._network.resized(crop))
                if self._colours is not None:
                    coloured.append(self._colours.resized(crop))
        for first in range(0, len(rows), self._at_once):
            part = slice(first, first + self._at_once)
            outputs = self._network(crops[part])
            vectors[rows[part]] = outputs[0].reshape(-1, self._own_width)
            if self._tells:
                quality[rows[part]] = outputs[1].reshape(-1)
        if not np.isfinite(vectors).all():
            raise FloatingPointError("the embedder's vectors are not finite")
        if not (np.isfinite(quality).all() and (quality >= 0).all()):
            raise FloatingPointError("the embedder's qualities are not finite, or below 0")
        vectors = _unit(vectors)
        if self._colours is not None:
            colours = np.zeros((len(tlbr), self.width - self._own_width), np.float32)
            if coloured:
                colours[rows] = self._colours(coloured)[0]
            own = np.float32(math.sqrt(1 - self._share**2))
            vectors = np.concatenate((own * vectors, np.float32(self._share) * _unit(colours)), 1)
        return Described(vectors, quality if self._tells else None)


def _unit(vectors: FloatArray) -> FloatArray:
    unit: FloatArray = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit


@dataclass(frozen=True)
class FrameFound:
    """Detections of one frame in the frame's pixels, with the fields of `Detections`."""

    tlbr: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    num_capped: int
    quality: FloatArray | None = None


class SeparateNetworks:
    """Runs detector and embedder one after the other, on one picture at a time.

    Args:
        declaration: Files and inputs of both networks.
        threads: Number of CPU threads.
        device: Device that they run on.
        open_detector: Opens the detector.
        open_embedder: Opens the embedder.

    Raises:
        DeclarationError: If a file is not as declared.
    """

    def __init__(
        self,
        declaration: Declaration,
        threads: int = 1,
        device: Device = "cpu",
        *,
        open_detector: Callable[
            [DetectorDeclaration, int, Device], PictureDetector
        ] = PersonDetector,
        open_embedder: Callable[
            [NetworkDeclaration, int, Device], AppearanceEmbedder
        ] = AppearanceEmbedder,
    ) -> None:
        self.detector = open_detector(declaration.detector, threads, device)
        self.embedder: AppearanceEmbedder | None = None
        if declaration.embedder is not None:
            self.embedder = open_embedder(declaration.embedder, threads, device)

    def detect(
        self,
        picture: NDArray[np.uint8],
        score_threshold: float,
        nms_threshold: float,
        max_detections: int,
    ) -> FrameFound:
        """People of one `(H, W, 3)` uint8 RGB picture, with their appearance.

        Without an embedder the vectors have length 0.

        Raises:
            FloatingPointError: If an output is not finite.
        """
        tlbr, scores = self.detector.detect(picture, score_threshold, nms_threshold)
        num_capped = max(0, len(scores) - max_detections)
        tlbr, scores = tlbr[:max_detections], scores[:max_detections]
        looks = Described(np.zeros((len(scores), 0), np.float32))
        if self.embedder is not None:
            looks = self.embedder.describe(picture, tlbr)
        return FrameFound(tlbr, scores, looks.vectors, num_capped, looks.quality)


def _probe(network: OnnxNetwork | CropNetwork) -> list[NDArray[np.generic]]:
    """Outputs of the network for a grey picture, since files need not state their output shapes."""
    width, height = network.size
    grey = np.full((height, width, 3), 128, np.uint8)
    try:
        return network([grey])
    except Exception as error:  # noqa: BLE001  onnxruntime's exceptions have no common class
        reason = str(error).splitlines()[0]
        raise DeclarationError(
            f"weights: {network.path} cannot take {width}x{height} ({reason})"
        ) from None
