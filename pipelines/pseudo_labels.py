"""Teachers: labels and appearance targets from ONNX models, used only while training.

A person detector finds people in unlabelled frames (and unlabelled people in partly labelled
ones); a re-identification network gives every box, with or without an identity, the appearance
vector that our embedding is distilled from.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from models.boxes import cxcywh_to_tlbr, iou_matrix
from models.structures import FloatArray

PERSON = 5  # first channel of the 80 COCO classes behind 1 objectness and 4 box channels
IMAGENET_MEAN = np.array([0.485, 0.456, 0.406], np.float32)
IMAGENET_STD = np.array([0.229, 0.224, 0.225], np.float32)


def open_session(path: Path) -> Any:
    """An onnxruntime session on one CPU thread.

    Raises:
        ValueError: If onnxruntime is not installed or the file is missing.
    """
    try:
        import onnxruntime
    except ImportError:
        raise ValueError("teachers need onnxruntime: pip install 'jde-ray[teachers]'") from None
    if not path.is_file():
        raise ValueError(f"teacher: {path} is missing")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _suppress(tlbr: FloatArray, scores: FloatArray, threshold: float) -> NDArray[np.intp]:
    order = np.argsort(-scores, kind="stable")
    overlap = iou_matrix(tlbr[order], tlbr[order])
    kept: list[int] = []
    for row in range(len(order)):
        if not kept or overlap[row, kept].max() <= threshold:
            kept.append(row)
    return order[kept]


@dataclass(frozen=True)
class PersonDetector:
    """FastestDet (COCO): one 352x352 view, all its boxes of class person."""

    session: Any

    def _view(
        self, image: NDArray[np.uint8], left: int, right: int
    ) -> tuple[FloatArray, FloatArray]:
        view = cv2.resize(image[:, left:right], (352, 352))[:, :, ::-1]
        blob = np.ascontiguousarray(view.transpose(2, 0, 1)[None], np.float32) / 255
        raw = self.session.run(None, {self.session.get_inputs()[0].name: blob})[0][0]
        rows, columns = raw.shape[1:]
        grid_y, grid_x = np.mgrid[:rows, :columns]
        size = np.array([right - left, image.shape[0]], np.float32)
        centre_x = (np.tanh(raw[1]) + grid_x) / columns * size[0] + left
        centre_y = (np.tanh(raw[2]) + grid_y) / rows * size[1]
        width, height = (1 / (1 + np.exp(-raw[i])) * size[i - 3] for i in (3, 4))
        score = raw[0] ** 0.6 * raw[PERSON] ** 0.4 * (raw[PERSON:].argmax(0) == 0)
        boxes = np.stack([centre_x, centre_y, width, height], -1).reshape(-1, 4)
        return cxcywh_to_tlbr(boxes).astype(np.float32), score.reshape(-1).astype(np.float32)

    def detect(
        self, image: NDArray[np.uint8], score_threshold: float
    ) -> tuple[FloatArray, FloatArray]:
        """People of an RGB image: the whole view and, where it is wide, its two halves.

        Returns:
            `(N, 4)` tlbr px clipped to the image and `(N,)` scores above the threshold.
        """
        height, width = image.shape[:2]
        views = [(0, width)]
        if width > 1.2 * height:
            views += [(0, int(0.55 * width)), (int(0.45 * width), width)]
        found = [self._view(image, *view) for view in views]
        tlbr = np.concatenate([boxes for boxes, _ in found])
        scores = np.concatenate([score for _, score in found])
        tlbr[:, 0::2] = tlbr[:, 0::2].clip(0, width)
        tlbr[:, 1::2] = tlbr[:, 1::2].clip(0, height)
        large = scores > score_threshold
        kept = _suppress(tlbr[large], scores[large], 0.45)
        return tlbr[large][kept], scores[large][kept]


@dataclass(frozen=True)
class AppearanceTeacher:
    """OSNet: an L2-normalised 512-vector of each box."""

    session: Any

    def embed(self, image: NDArray[np.uint8], tlbr: FloatArray) -> FloatArray:
        """`(N, 512)` vectors of `(N, 4)` boxes of an RGB image; boxes under 2 px give zeros."""
        vectors = np.zeros((len(tlbr), 512), np.float32)
        for row, box in enumerate(np.rint(tlbr).astype(int)):
            crop = image[max(box[1], 0) : box[3], max(box[0], 0) : box[2]]
            if min(crop.shape[:2]) < 2:
                continue
            scaled = cv2.resize(crop, (128, 256)).astype(np.float32) / 255
            blob = ((scaled - IMAGENET_MEAN) / IMAGENET_STD).transpose(2, 0, 1)[None]
            name = self.session.get_inputs()[0].name
            vector = self.session.run(None, {name: np.ascontiguousarray(blob)})[0][0]
            vectors[row] = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return vectors


def principal_directions(vectors: FloatArray, width: int) -> tuple[FloatArray, FloatArray]:
    """Mean and the `(512, width)` directions of largest variance of teacher vectors.

    Projected and normalised again, they keep the teacher's similarities in fewer dimensions.
    """
    mean = vectors.mean(0)
    _, _, directions = np.linalg.svd(vectors - mean, full_matrices=False)
    return mean, directions[:width].T
