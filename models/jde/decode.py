"""From raw maps to detections: candidates, threshold, NMS, embeddings of the boxes that remain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.losses import box_coding
from jde_ray.models.structures import FloatArray
from jde_ray.models.suppression import suppress

MAX_CANDIDATES = 4096  # per image, that reach NMS
MAX_PAIRS = MAX_CANDIDATES**2  # candidate pairs compared at once, over all images


@dataclass(frozen=True)
class Candidates:
    """Every anchor of every cell, in the published row order.

    Rows are ordered by stride (32, 16, 8), then by anchor, row and column.

    Attributes:
        boxes: `(B, N, 4)` cx, cy, w, h in network pixels, float32.
        scores: `(B, N)` in [0, 1], float32.
        embedding_maps: The raw `(B, D, H, W)` maps; `embeddings` reads single cells of them.
    """

    boxes: Tensor
    scores: Tensor
    embedding_maps: tuple[Tensor, ...]

    def embeddings(self, image: int | Tensor, rows: Tensor) -> Tensor:
        """L2-normalised `(K, D)` vectors of candidate rows, on the device.

        Only these cells are read; the dense maps are never copied or normalised.

        Args:
            image: Index of the image, or `(K,)` indices, one per row.
            rows: `(K,)` int64.
        """
        width = self.embedding_maps[0].shape[1]
        out = torch.zeros((len(rows), width), device=rows.device)
        images = torch.as_tensor(image, device=rows.device).expand(len(rows))
        start = 0
        anchors = self.boxes.shape[1] // sum(m.shape[2] * m.shape[3] for m in self.embedding_maps)
        for maps in self.embedding_maps:
            cells = maps.shape[2] * maps.shape[3]
            offset = rows - start
            inside = (offset >= 0) & (offset < anchors * cells)
            cell = torch.where(inside, offset % cells, 0)
            gathered = maps[images, :, cell // maps.shape[3], cell % maps.shape[3]].float()
            out = out + gathered * inside[:, None]
            start += anchors * cells
        return F.normalize(out, dim=1, eps=1e-12)


@dataclass(frozen=True)
class FrameDetections:
    """Detections of one frame in network pixels, on the host.

    Attributes:
        tlbr: `(N, 4)` float32 corners in network pixels, in order of falling score.
        scores: `(N,)` float32.
        embeddings: `(N, D)` float32, L2-normalised.
        num_capped: Detections left out because there were more than `max_detections`.
    """

    tlbr: FloatArray
    scores: FloatArray
    embeddings: FloatArray
    num_capped: int


def cell_centres(config: JDEConfig, height: int, width: int, device: torch.device) -> Tensor:
    """`(2, H, W)` x and y of every cell in units of cells, with the configured offset."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device, dtype=torch.float32),
        torch.arange(width, device=device, dtype=torch.float32),
        indexing="ij",
    )
    return torch.stack((x, y)) + config.cell_offset


def decode_scale(config: JDEConfig, scale: int, maps: ScaleMaps) -> tuple[Tensor, Tensor]:
    """Boxes and scores of one stride.

    Boxes are coded as in `models.losses.box_coding`; the score is the foreground's softmax
    probability or a sigmoid.

    Args:
        config: Configuration of the network.
        scale: 0, 1, 2 for strides 32, 16, 8.
        maps: Raw output of that stride.

    Returns:
        `(B, A H W, 4)` cx, cy, w, h in network pixels and `(B, A H W)` scores, float32.
    """
    box = maps.box.float()
    anchors = torch.tensor(config.anchors[scale], device=box.device)[None, :, :, None, None]
    centres = cell_centres(config, box.shape[3], box.shape[4], box.device) * STRIDES[scale]
    boxes = box_coding.decode(box, anchors, centres, dim=2).permute(0, 1, 3, 4, 2).flatten(1, 3)
    logits = maps.score.float()
    score = logits.softmax(2)[:, :, 1] if config.score == "softmax" else logits[:, :, 0].sigmoid()
    return boxes, score.flatten(1)


def decode(config: JDEConfig, maps: Sequence[ScaleMaps]) -> Candidates:
    """All candidates of a batch."""
    decoded = [decode_scale(config, scale, m) for scale, m in enumerate(maps)]
    return Candidates(
        boxes=torch.cat([boxes for boxes, _ in decoded], 1),
        scores=torch.cat([scores for _, scores in decoded], 1),
        embedding_maps=tuple(m.embedding for m in maps),
    )


def nms(tlbr: Tensor, threshold: float) -> Tensor:
    """Greedy non-maximum suppression, class-agnostic, continuous IoU (no added pixel).

    A box is suppressed when it overlaps a kept box of higher score by more than `threshold`. Greedy
    suppression is the fixed point of "kept unless a kept, earlier box suppresses it"; iterating
    that rule on the whole matrix converges in a few steps and runs on the device.

    Args:
        tlbr: `(..., N, 4)` corners in order of falling score.
        threshold: IoU in [0, 1].

    Returns:
        `(..., N)` bool, true where the box is kept.
    """
    corner = torch.maximum(tlbr[..., :, None, :2], tlbr[..., None, :, :2])
    size = (torch.minimum(tlbr[..., :, None, 2:], tlbr[..., None, :, 2:]) - corner).clamp(min=0)
    overlap = size[..., 0] * size[..., 1]
    area = (tlbr[..., 2] - tlbr[..., 0]) * (tlbr[..., 3] - tlbr[..., 1])
    iou = overlap / (area[..., :, None] + area[..., None, :] - overlap).clamp(min=1e-9)
    suppresses = torch.triu(iou > threshold, diagonal=1).float()
    kept = torch.ones(tlbr.shape[:-1], device=tlbr.device)
    while True:
        settled = ((kept[..., None, :] @ suppresses)[..., 0, :] == 0).float()
        if torch.equal(settled, kept):
            return settled.bool()
        kept = settled


def _surviving(tlbr: Tensor, is_real: Tensor, threshold: float) -> Tensor:
    """`(I, K)` bool: which boxes of each image remain. The images' boxes are in order of score.

    On a CPU the matrix of all pairs took 30 to 70 times as long as OpenCV's loop.
    """
    if tlbr.device.type != "cpu":
        return nms(tlbr, threshold) & is_real
    survives = torch.zeros_like(is_real)
    for image, real in enumerate(is_real.sum(1).tolist()):  # the rest of the row is padding
        survives[image, suppress(tlbr[image, :real].numpy(), threshold)] = True
    return survives


def select(
    candidates: Candidates, score_threshold: float, nms_threshold: float, max_detections: int
) -> list[FrameDetections]:
    """Keep each image's boxes that score above the threshold and survive NMS, highest scores first.

    All images are processed together, so that a batch needs few synchronisations with the GPU and
    one copy to the host.

    Raises:
        FloatingPointError: If a score or a kept box is not finite, naming the image.
    """
    is_finite = torch.isfinite(candidates.scores).all(1)
    if not is_finite.all():
        wrong = is_finite.tolist().index(False)
        raise FloatingPointError(f"the network's scores of image {wrong} are not finite")
    image, row = torch.nonzero(candidates.scores > score_threshold, as_tuple=True)
    counts = torch.bincount(image, minlength=len(is_finite))
    kept: list[FrameDetections] = []
    limits = [0, *counts.cumsum(0).tolist()]
    most = max(end - start for start, end in pairwise(limits))
    group = max(1, MAX_PAIRS // max(1, min(most, MAX_CANDIDATES)) ** 2)
    for first in range(0, len(counts), group):
        last = min(first + group, len(counts))
        part = slice(limits[first], limits[last])
        chunk = _Chunk(first, last, image[part], row[part])
        kept += _select_chunk(candidates, chunk, nms_threshold, max_detections)
    return kept


@dataclass(frozen=True)
class _Chunk:
    """Images `first` to `last` and the `(K,)` image and row of each of their candidates."""

    first: int
    last: int
    image: Tensor
    row: Tensor


def _by_score(candidates: Candidates, chunk: _Chunk) -> tuple[Tensor, Tensor]:
    """`(I, K)` rows of each image by falling score, and their scores; padded with -1."""
    counts = torch.bincount(chunk.image - chunk.first, minlength=chunk.last - chunk.first)
    width = int(counts.max())
    place = torch.arange(len(chunk.row), device=chunk.row.device)
    place = place - (counts.cumsum(0) - counts)[chunk.image - chunk.first]
    rows = chunk.row.new_zeros(len(counts), width)
    scores = candidates.scores.new_full((len(counts), width), -1.0)
    rows[chunk.image - chunk.first, place] = chunk.row
    scores[chunk.image - chunk.first, place] = candidates.scores[chunk.image, chunk.row]
    # NMS is quadratic in the candidates; the cap lies far above any cap on detections
    scores, order = torch.sort(scores, dim=1, descending=True, stable=True)
    return rows.gather(1, order)[:, :MAX_CANDIDATES], scores[:, :MAX_CANDIDATES]


def _select_chunk(
    candidates: Candidates, chunk: _Chunk, nms_threshold: float, max_detections: int
) -> list[FrameDetections]:
    rows, scores = _by_score(candidates, chunk)
    cxcywh = candidates.boxes[chunk.first : chunk.last].gather(1, rows[..., None].expand(-1, -1, 4))
    tlbr = torch.cat(
        (cxcywh[..., :2] - cxcywh[..., 2:] / 2, cxcywh[..., :2] + cxcywh[..., 2:] / 2), 2
    )
    is_real = scores >= 0
    is_finite = (torch.isfinite(tlbr).all(2) | ~is_real).all(1)
    if not is_finite.all():
        wrong = chunk.first + is_finite.tolist().index(False)
        raise FloatingPointError(f"the network's boxes of image {wrong} are not finite")
    survives = _surviving(tlbr, is_real, nms_threshold)
    rank = survives.cumsum(1)
    image, place = torch.nonzero(survives & (rank <= max_detections), as_tuple=True)
    embeddings = candidates.embeddings(image + chunk.first, rows[image, place])
    packed = torch.cat((tlbr[image, place], scores[image, place, None], embeddings), 1)
    values = packed.cpu().numpy()
    found = rank[:, -1].tolist() if rank.shape[1] else [0] * len(rank)
    numbers = [min(number, max_detections) for number in found]
    parts = np.split(values, np.cumsum(numbers)[:-1])
    return [
        FrameDetections(
            np.ascontiguousarray(part[:, :4]),
            np.ascontiguousarray(part[:, 4]),
            np.ascontiguousarray(part[:, 5:]),
            number - kept,
        )
        for part, number, kept in zip(parts, found, numbers, strict=True)
    ]
