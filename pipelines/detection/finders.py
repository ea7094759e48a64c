"""The networks of ours that find people in pictures, one-stage or two-stage, by their weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from jde_ray.models.jde import weights as joint_files
from jde_ray.models.jde.decode import Candidates
from jde_ray.models.jde.network import JDE
from jde_ray.models.jde.person_cells import person_rows
from jde_ray.models.letterbox import fitted_size
from jde_ray.models.rcnn import weights as two_stage_files
from jde_ray.models.rcnn.network import RcnnNet, RegionCandidates

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


def read_people(model: Finder, candidates: Candidates, tlbr: Tensor) -> tuple[Tensor, Tensor]:
    """Embeddings of people whose boxes are known, where each kind of network describes them.

    A one-stage network is read at cells (`models.jde.person_cells`), so that a person may have none
    or several vectors; a two-stage one at the boxes themselves.

    Args:
        model: The network.
        candidates: Its candidates for one image.
        tlbr: `(G, 4)` corners in network pixels.

    Returns:
        `(K,)` person and `(K, D)` L2-normalised vectors.
    """
    if isinstance(candidates, RegionCandidates):
        image = torch.zeros(len(tlbr), dtype=torch.int64, device=tlbr.device)
        return torch.arange(len(tlbr), device=tlbr.device), candidates.read(image, tlbr)
    assert isinstance(model, JDE)  # noqa: S101 - it has given these candidates
    people, rows = person_rows(model.config, candidates, tlbr)
    return people, candidates.embeddings(0, rows)
