"""The networks of ours that find people in pictures, one-stage or two-stage, by their weights."""

from __future__ import annotations

from pathlib import Path

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.jde.network import JDE
from jde_ray.models.letterbox import fitted_size
from jde_ray.models.rcnn import weights as two_stage_files
from jde_ray.models.rcnn.network import RcnnNet

Finder = JDE | RcnnNet


def load_finder(weights: str | Path, size: tuple[int, int] | None = None) -> Finder:
    """A network ready for inference on the CPU.

    Args:
        weights: Name of a shipped model, or path of a file of a joint or two-stage network.
        size: Width and height of its inputs; None for the size it was trained for.

    Raises:
        ValueError: If it cannot be used, or not at that size; one line.
    """
    if not two_stage_files.is_two_stage(weights):
        return joint_files.load(weights, size)
    joint_files.check_multiple(size)
    return two_stage_files.load(joint_files.resolve(weights))


def input_size(model: Finder, width: int, height: int) -> tuple[int, int]:
    """Width and height of the input for frames of a size, as in tracking by default."""
    return (
        model.config.size if has_one_size(model) else fitted_size(width, height, model.config.size)
    )


def has_one_size(model: Finder) -> bool:
    """Whether a network takes no input size but its own, for which its anchors were chosen."""
    return isinstance(model, JDE) and model.config.has_published_layout
