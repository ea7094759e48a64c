"""The cells whose embeddings describe people with known boxes; `jde eval` scores these."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.decode import Candidates
from jde_ray.models.jde.losses.task_aligned import pair_iou
from jde_ray.models.structures import FloatArray, IntArray

SHAPE_IOU = 0.6  # least overlap of person and anchor, by width and height alone
CANDIDATE_IOU = 0.5


def person_rows(config: JDEConfig, candidates: Candidates, tlbr: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of candidates that represent people of the first image.

    A network of the published layout is read as its authors read it: on each scale whose most
    similar anchor overlaps the person by more than .6 (width and height alone), at the cell under
    the person's centre. A person therefore has up to three rows; if people share a cell and an
    anchor, the most similar one gets the row. Any other network is read at the candidate that
    overlaps the person most, by at least half.

    Args:
        config: Configuration of the network.
        candidates: Candidates of one or more images.
        tlbr: `(G, 4)` corners of the first image's people in network pixels.

    Returns:
        `(K,)` person and `(K,)` row of `candidates`.
    """
    if not len(tlbr):
        nothing = torch.zeros(0, dtype=torch.int64, device=tlbr.device)
        return nothing, nothing
    if config.has_published_layout:
        return _published(config, candidates, tlbr)
    return _overlapping(candidates, tlbr)


def embeddings_of_people(
    config: JDEConfig, candidates: Candidates, people: Sequence[FloatArray]
) -> list[tuple[IntArray, FloatArray]]:
    """Embeddings of people in the first n of a batch of images, at the rows of `person_rows`.

    Args:
        config: Configuration of the network.
        candidates: Candidates of B images.
        people: `(G, 4)` corners in network pixels, for each of n <= B images.

    Returns:
        For each of the n images the `(K,)` numbers of people, and their `(K, D)` float32 vectors
        of length 1, on the host.
    """
    embedded = []
    for image, tlbr in enumerate(people):
        own = slice(image, image + 1)
        one = Candidates(
            candidates.boxes[own],
            candidates.scores[own],
            tuple(maps[own] for maps in candidates.embedding_maps),
        )
        boxes = torch.as_tensor(tlbr, dtype=torch.float32, device=candidates.boxes.device)
        who, rows = person_rows(config, one, boxes)
        vectors: FloatArray = one.embeddings(0, rows).cpu().numpy()
        embedded.append((who.cpu().numpy(), vectors))
    return embedded


def embeddings_of_boxes(candidates: Candidates, tlbr: Tensor) -> Tensor:
    """Embeddings of people whose boxes are known, one each, whatever the layout.

    Args:
        candidates: Candidates of one image.
        tlbr: `(G, 4)` corners in network pixels.

    Returns:
        `(G, D)` L2-normalised vectors of the candidates that overlap the boxes most; zeros for a
        box that none overlaps by half.
    """
    width = candidates.embedding_maps[0].shape[1]
    vectors = torch.zeros((len(tlbr), width), device=tlbr.device)
    if len(tlbr):
        person, rows = _overlapping(candidates, tlbr)
        vectors[person] = candidates.embeddings(0, rows)
    return vectors


def _overlapping(candidates: Candidates, tlbr: Tensor) -> tuple[Tensor, Tensor]:
    """Which person, and which candidate overlaps it most, if by half at least."""
    xy, half = candidates.boxes[0, :, :2], candidates.boxes[0, :, 2:] / 2
    overlap, rows = pair_iou(tlbr, torch.cat((xy - half, xy + half), 1)).max(1)
    person = torch.nonzero(overlap >= CANDIDATE_IOU).squeeze(1)
    return person, rows[person]


def _published(config: JDEConfig, candidates: Candidates, tlbr: Tensor) -> tuple[Tensor, Tensor]:
    size = tlbr[:, 2:] - tlbr[:, :2]
    centre = (tlbr[:, 2:] + tlbr[:, :2]) / 2
    people, rows, start = [], [], 0
    for scale, maps in enumerate(candidates.embedding_maps):
        height, width = maps.shape[2:]
        anchors = tlbr.new_tensor(config.anchors[scale])
        common = torch.minimum(size[:, None], anchors[None]).prod(2)
        likeness = common / (size.prod(1)[:, None] + anchors.prod(1)[None] - common)
        best, anchor = likeness.max(1)
        limit = tlbr.new_tensor([width - 1, height - 1])
        cell = (centre / STRIDES[scale]).clamp(min=0).minimum(limit).floor().long()
        row = start + (anchor * height + cell[:, 1]) * width + cell[:, 0]
        # sort each row's people by similarity, then keep the first of each row
        order = torch.argsort(best, descending=True, stable=True)
        order = order[best[order] > SHAPE_IOU]
        taken: dict[int, int] = {}
        for index in order.tolist():
            taken.setdefault(int(row[index]), index)
        people += sorted(taken.values())
        rows += [int(row[index]) for index in sorted(taken.values())]
        start += len(anchors) * height * width
    device = tlbr.device
    return torch.tensor(people, device=device).long(), torch.tensor(rows, device=device).long()
