"""Scores networks by the published protocols: runs them, then compares with the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jde_ray.pipelines.config import ResourceConfig

if TYPE_CHECKING:
    from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings
    from jde_ray.pipelines.evaluation.figures import Scored
    from jde_ray.pipelines.evaluation.ground_truth import TruthRules
    from jde_ray.pipelines.evaluation.network_scores import ScoredFrames
    from jde_ray.pipelines.evaluation.pairing import Pairing

LABELS = {"unified": "list", "boxes": "boxes", "coco": "coco", "cvat": "cvat"}  # kind of source


def score_sequences(
    pairings: Sequence[Pairing],
    rules: TruthRules,
    address: str | None,
    *,
    network: dict[str, Any],
    of_boxes: bool,
) -> Scored:
    """Scores of a network on videos and image folders.

    Args:
        pairings: The frames and their ground truth.
        rules: Rules for reading ground truth.
        address: Ray to run on; None to choose by the number of frames.
        network: Arguments of `network_config`.
        of_boxes: Score its boxes, instead of its embeddings.
    """
    from jde_ray.pipelines.evaluation.network_scores import sequence_frames

    every = network["every"]
    sets = [sequence_frames(pairing, rules, every) for pairing in pairings]
    return score_sets(sets, address, network=network, of_boxes=of_boxes)


def score_sets(
    sets: Sequence[ScoredFrames], address: str | None, *, network: dict[str, Any], of_boxes: bool
) -> Scored:
    """Scores of a network on any labelled frames; the arguments are those of `score_sequences`."""
    from jde_ray.pipelines.evaluation.figures import show_network
    from jde_ray.pipelines.evaluation.network_scores import network_config
    from jde_ray.pipelines.tracking.network_readings import read_network

    wanted = [one.wanting("boxes" if of_boxes else "embeddings") for one in sets]
    resources = ResourceConfig(address=address or "local")
    readings = read_network(wanted, network_config(**network), resources)
    return show_network(sets, readings, of_boxes=of_boxes)


def read_lists(
    lists: Sequence[str], labels: str, root: Path | None, every: int
) -> list[ScoredFrames]:
    """The labelled pictures of the argument LIST of `jde eval --labels`.

    Args:
        lists: Files, or folders of `boxes`.
        labels: A key of `LABELS`.
        root: Folder to which the paths in a list are relative; None for the list's own.
        every: Take every n-th picture.

    Raises:
        ValueError: If the labels are unknown or wrong, or two lists have one name.
    """
    from jde_ray.pipelines.evaluation.network_scores import check_names
    from jde_ray.pipelines.training.data.scored_lists import read_scored
    from jde_ray.pipelines.training.source import Source

    if labels not in LABELS:
        raise ValueError(f"labels: got {labels}, expected {' | '.join(LABELS)}")
    if root is not None and not root.is_dir():
        raise ValueError(f"data: got {root}, expected a folder")
    sets = []
    for text in lists:
        path = Path(text).absolute()
        if not path.exists():
            raise ValueError(f"labels: {text} does not exist")
        source = Source(kind=LABELS[labels], path=str(path), every=every)
        sets.append(read_scored(path.parent if root is None else root, source))
    check_names(sets)
    return sets


def read_embeddings(
    pairing: Pairing,
    *,
    weights: str,
    size: tuple[int, int] | None = None,
    every: int = 1,
    max_frames: int | None = None,
) -> KnownEmbeddings:
    """Embeddings of the people of one sequence, read in this process.

    Args:
        pairing: The frames and their ground truth.
        weights: Name or path of the network.
        size: Width and height of its input; None for the size in the weights.
        every: Process every n-th frame.
        max_frames: Leave out later frames; None for none.

    Raises:
        ValueError: If the weights, the frames or the truth cannot be read, in one line.
    """
    import torch

    from jde_ray.pipelines.evaluation.network_scores import network_config, sequence_frames
    from jde_ray.pipelines.tracking.network_readings import read_here

    one = sequence_frames(pairing, every=every, max_frames=max_frames)
    config = network_config(weights, size, every, max_frames)
    resources = ResourceConfig(torch_threads=torch.get_num_threads())
    return one.embeddings(read_here([one.wanting("embeddings")], config, resources)[one.name])
