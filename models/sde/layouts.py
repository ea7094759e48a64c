"""Output layouts of detectors: from raw arrays to boxes in input pixels and scores of one class.

Each layout states the shape it takes; a file of another shape is refused when it is opened. C is
the number of classes, N the number of boxes, `person` the number of a class.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.boxes import cxcywh_to_tlbr
from jde_ray.models.structures import FloatArray

Outputs = Sequence[NDArray[Any]]
Found = tuple[FloatArray, FloatArray]  # (N, 4) tlbr in input pixels, (N,) scores
_YOLOX_STRIDES = (8, 16, 32)


@dataclass(frozen=True)
class Layout:
    """How one family of detectors encodes boxes and scores.

    Attributes:
        shape: Shape of the outputs it takes, as text for error messages.
        num_classes: Number of classes, given the outputs' shapes and the input's
            `(width, height)`; None if the shapes do not fit.
        decode: `(outputs, (width, height), person)` to boxes and scores.
    """

    shape: str
    num_classes: Callable[[list[tuple[int, ...]], tuple[int, int]], int | None]
    decode: Callable[[Outputs, tuple[int, int], int], Found]

    def check(self, name: str, outputs: Outputs, size: tuple[int, int], person: int) -> None:
        """Refuse outputs of another shape.

        Args:
            name: Name of the layout, for error messages.
            outputs: Outputs for any picture.
            size: Width and height of the input.
            person: Number of the class person.

        Raises:
            ValueError: If they do not fit, naming the shapes and what the layout takes.
        """
        shapes = [output.shape for output in outputs]
        classes = self.num_classes(shapes, size)
        if classes is None:
            got = ", ".join(map(str, shapes))
            raise ValueError(f"got output {got}, layout {name} takes {self.shape}")
        if person >= classes:
            raise ValueError(f"person: got {person}, the output has classes 0 to {classes - 1}")


def decode_fastestdet(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """FastestDet: per cell objectness, centre (tanh), size (sigmoid), class probabilities.

    The score is objectness^.6 * class^.4 if the class is the cell's most probable one, else 0.
    """
    raw = outputs[0][0]
    rows, columns = raw.shape[1:]
    grid_y, grid_x = np.mgrid[:rows, :columns]
    centre_x = (np.tanh(raw[1]) + grid_x) / columns * size[0]
    centre_y = (np.tanh(raw[2]) + grid_y) / rows * size[1]
    width, height = (1 / (1 + np.exp(-raw[i])) * size[i - 3] for i in (3, 4))
    likeliest = raw[5:].argmax(0) == person
    score = raw[0] ** 0.6 * raw[5 + person] ** 0.4 * likeliest
    boxes = np.stack([centre_x, centre_y, width, height], -1).reshape(-1, 4)
    return cxcywh_to_tlbr(boxes), score.reshape(-1)


def decode_yolov5(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """Exported YOLOv5 to v7: centre and size in pixels, objectness, class probabilities."""
    rows = outputs[0][0]
    return cxcywh_to_tlbr(rows[:, :4]), rows[:, 4] * rows[:, 5 + person]


def decode_yolov8(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """YOLOv8 and later: like v5 without objectness, with boxes along the last axis."""
    columns = outputs[0][0]
    return cxcywh_to_tlbr(columns[:4].T), columns[4 + person]


def decode_yolox(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """YOLOX exported without decoding: offsets in cells and log sizes, strides 8, 16, 32."""
    rows = outputs[0][0]
    cells, strides = [], []
    for stride in _YOLOX_STRIDES:
        grid_y, grid_x = np.mgrid[: size[1] // stride, : size[0] // stride]
        cells.append(np.stack([grid_x, grid_y], -1).reshape(-1, 2))
        strides.append(np.full((grid_x.size, 1), stride))
    cell, stride_of = np.concatenate(cells), np.concatenate(strides)
    centre = (rows[:, :2] + cell) * stride_of
    boxes = np.concatenate([centre, np.exp(rows[:, 2:4]) * stride_of], axis=1)
    return cxcywh_to_tlbr(boxes), rows[:, 4] * rows[:, 5 + person]


def decode_end2end(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """Detectors that include their own NMS: corners in pixels, score, class."""
    rows = outputs[0][0]
    return rows[:, :4], rows[:, 4] * (np.rint(rows[:, 5]) == person)


def decode_detr(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """RT-DETR, D-FINE, RF-DETR: centre and size as shares of the input, and logits of every class.

    The score is the sigmoid of the logit, as these networks are trained. The order of the outputs
    differs between exporters; with four classes the boxes are first.
    """
    boxes, logits = (output[0] for output in outputs)
    if boxes.shape[1] != 4:
        boxes, logits = logits, boxes
    scores = 1 / (1 + np.exp(-logits[:, person].astype(np.float64)))
    shares = np.array([*size, *size], np.float32)
    return cxcywh_to_tlbr(boxes * shares), scores.astype(np.float32)


def decode_boxes_scores(outputs: Outputs, size: tuple[int, int], person: int) -> Found:
    """Two outputs: corners in pixels, and the scores of every class."""
    return outputs[0][0], outputs[1][0][:, person]


def _grid(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> int | None:
    fits = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][0] == 1 and shapes[0][1] > 5
    return shapes[0][1] - 5 if fits else None


def _rows(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> int | None:
    # with more columns than boxes it is the transposed layout, yolov8
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] == 1
    return shapes[0][2] - 5 if fits and 5 < shapes[0][2] <= shapes[0][1] else None


def _columns(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> int | None:
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] == 1
    return shapes[0][1] - 4 if fits and 4 < shapes[0][1] <= shapes[0][2] else None


def _yolox_rows(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> int | None:
    number = sum((size[0] // stride) * (size[1] // stride) for stride in _YOLOX_STRIDES)
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][:2] == (1, number)
    return shapes[0][2] - 5 if fits and shapes[0][2] > 5 else None


def _six(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> int | None:
    fits = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][0] == 1 and shapes[0][2] == 6
    return 1 << 30 if fits else None  # the class is a number in the row, so no shape limits it


def _two(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> int | None:
    if len(shapes) != 2 or any(len(shape) != 3 or shape[0] != 1 for shape in shapes):
        return None
    (_, number, four), (_, as_many, classes) = shapes
    return classes if four == 4 and as_many == number else None


def _two_in_any_order(shapes: list[tuple[int, ...]], size: tuple[int, int]) -> int | None:
    first = _two(shapes, size)
    return _two(shapes[::-1], size) if first is None else first


LAYOUTS: dict[str, Layout] = {
    "fastestdet": Layout("(1, 5 + C, rows, columns)", _grid, decode_fastestdet),
    "yolov5": Layout("(1, N, 5 + C)", _rows, decode_yolov5),
    "yolov8": Layout("(1, 4 + C, N)", _columns, decode_yolov8),
    "yolox": Layout(
        "(1, N, 5 + C) with N the cells of strides 8, 16 and 32", _yolox_rows, decode_yolox
    ),
    "end2end": Layout("(1, N, 6)", _six, decode_end2end),
    "detr": Layout("(1, N, 4) and (1, N, C), in any order", _two_in_any_order, decode_detr),
    "boxes_scores": Layout("(1, N, 4) and (1, N, C)", _two, decode_boxes_scores),
}
