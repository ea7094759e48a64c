"""Tiny ONNX files: a detector that sees red cells, an embedder that says the mean colour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

CELL = 8


def write_red_detector(path: Path, width: int = 64, height: int = 32) -> Path:
    """Layout yolov8, one class: a box a cell of 8x8 pixels, its score the cell's mean red."""
    helper = pytest.importorskip("onnx").helper
    rows, columns, cell = height // CELL, width // CELL, [CELL, CELL]
    grid_y, grid_x = np.mgrid[:rows, :columns]
    centres = [(grid_x + 0.5) * CELL, (grid_y + 0.5) * CELL]
    boxes = np.stack([*centres, np.full_like(centres[0], CELL), np.full_like(centres[0], CELL)])
    nodes = [
        helper.make_node("AveragePool", ["x"], ["cells"], kernel_shape=cell, strides=cell),
        helper.make_node("Slice", ["cells", "start", "end", "axis"], ["red"]),
        helper.make_node("Reshape", ["red", "flat"], ["scores"]),
        helper.make_node("Concat", ["boxes", "scores"], ["y"], axis=1),
    ]
    constants = {
        "start": np.array([0]),
        "end": np.array([1]),
        "axis": np.array([1]),
        "flat": np.array([1, 1, rows * columns]),
        "boxes": boxes.reshape(1, 4, -1).astype(np.float32),
    }
    return save(path, nodes, constants, [1, 3, height, width])


def write_mean_embedder(path: Path, width: int = 16, height: int = 32, batch: Any = 1) -> Path:
    """The mean of each of the three channels, as they were fed."""
    helper = pytest.importorskip("onnx").helper
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["y"]),
    ]
    return save(path, nodes, {}, [batch, 3, height, width])


def write_telling_embedder(path: Path, quality: str = "quality", scale: float = 1.0) -> Path:
    """As `write_mean_embedder`; a second output is the mean of the first channel times `scale`."""
    helper = pytest.importorskip("onnx").helper
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["y"]),
        helper.make_node("Gather", ["y", "first"], ["red"], axis=1),
        helper.make_node("Mul", ["red", "scale"], [quality]),
    ]
    constants = {"first": np.array(0), "scale": np.array([scale], np.float32)}
    return save(path, nodes, constants, ["batch", 3, 32, 16], ["y", quality])


def write_constant(path: Path, *outputs: np.ndarray) -> Path:
    """The same outputs whatever the picture of 64x32."""
    helper = pytest.importorskip("onnx").helper
    names = [f"y{i}" for i in range(len(outputs))]
    nodes = [
        helper.make_node("Identity", [f"c{name}"], [name]) for name in names
    ]  # the input is not used
    constants = {
        f"c{name}": output.astype(np.float32) for name, output in zip(names, outputs, strict=True)
    }
    return save(path, nodes, constants, [1, 3, 32, 64], names)


def save(
    path: Path,
    nodes: list[Any],
    constants: dict[str, np.ndarray],
    shape: list[Any],
    outputs: list[str] | None = None,
) -> Path:
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", number, shape)],
        [helper.make_tensor_value_info(name, number, None) for name in outputs or ["y"]],
        [onnx.numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def write_declaration(folder: Path, *, embedder: bool = True, frames: str = "128x64") -> Path:
    """Both tiny files and the YAML file that declares them."""
    folder.mkdir(parents=True, exist_ok=True)
    write_red_detector(folder / "det.onnx")
    text = f"frames: {frames}\ndetector: {{file: det.onnx, layout: yolov8}}\n"
    if embedder:
        write_mean_embedder(folder / "reid.onnx")
        text += "embedder: {file: reid.onnx}\n"
    path = folder / "sde.yaml"
    path.write_text(text)
    return path
