"""From raw maps to detections in tensors of fixed shapes, without waiting for the device.

What `models.jde.decode.select` decides by asking the device (how many candidates there are, whether
all numbers are finite) is computed for the most there can be, and sent along with the boxes. It
keeps the same boxes: those that score above the threshold, the `MAX_CANDIDATES` best of them,
without those that a better one suppresses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jde_ray.models.jde.config import STRIDES, JDEConfig
from jde_ray.models.jde.decode import MAX_CANDIDATES, FrameDetections, cell_centres
from jde_ray.models.jde.gpu.padded import Convolutions
from jde_ray.models.jde.head import ScaleMaps
from jde_ray.models.losses import box_coding
from jde_ray.models.structures import FloatArray

HEADER = 4  # numbers before a frame's boxes: kept, found, scores finite, boxes finite


@dataclass(frozen=True)
class RawMaps:
    """Raw output of a network at strides 32, 16, 8, on its device.

    Attributes:
        boxes: `(B, A, 4, H, W)` float32 dx, dy, dw, dh per stride.
        scores: `(B, A, S, H, W)` float32 logits per stride.
        embed: `(K, D)` vectors of cells, given a scale and `(K,)` image, y, x.
    """

    boxes: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]
    embed: Callable[[int, Tensor, Tensor, Tensor], Tensor]

    @staticmethod
    def of(maps: Sequence[ScaleMaps]) -> RawMaps:
        """Of the dense maps that `JDE.maps` gives."""

        def embed(scale: int, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
            return maps[scale].embedding[image, :, y, x].float()

        boxes = tuple(m.box.float() for m in maps)
        return RawMaps(boxes, tuple(m.score.float() for m in maps), embed)


@dataclass(frozen=True)
class Limits:
    """Thresholds of `JDE.detect`."""

    score_threshold: float = 0.5
    nms_threshold: float = 0.4
    max_detections: int = 300


class NotFiniteError(FloatingPointError):
    """Numbers of a frame that are not finite.

    Args:
        name: What they are.
        image: The frame's place in its batch.
    """

    def __init__(self, name: str, image: int) -> None:
        super().__init__(f"the network's {name} of image {image} are not finite")
        self.name, self.image = name, image

    def at(self, image: int) -> NotFiniteError:
        """The same, of a frame in another place."""
        return NotFiniteError(self.name, image)


class Selection:
    """Selects in batches of one shape.

    Args:
        config: Configuration of the network.
        size: Height and width of its input in pixels.
        limits: Thresholds.
        work: Suppresses.
        device: Where the maps are.
    """

    def __init__(
        self,
        config: JDEConfig,
        size: tuple[int, int],
        limits: Limits,
        work: Convolutions,
        device: torch.device,
    ) -> None:
        self._config, self._limits, self._work = config, limits, work
        self._grids = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
        anchors, centres, self._starts = [], [], [0]
        for scale, (height, width) in enumerate(self._grids):
            own = torch.tensor(config.anchors[scale], device=device)
            anchors.append(own.repeat_interleave(height * width, 0))
            middle = cell_centres(config, height, width, device) * STRIDES[scale]
            centres.append(middle.flatten(1).T.repeat(config.num_anchors, 1))
            self._starts.append(self._starts[-1] + len(anchors[-1]))
        self._anchors, self._centres = torch.cat(anchors), torch.cat(centres)
        self._most = min(MAX_CANDIDATES, len(self._anchors))
        self._kept = min(limits.max_detections, self._most)

    @property
    def width(self) -> int:
        """Numbers per frame of the result."""
        return HEADER + self._kept * (5 + self._config.embedding_dim)

    def __call__(self, maps: RawMaps) -> Tensor:
        """`(B, width)` float32: per frame the header, then corners, scores and vectors."""
        scores = self._scores(maps.scores)
        best, rows = self._best(scores)
        is_real = best > self._limits.score_threshold
        offsets = torch.cat([box.permute(0, 1, 3, 4, 2).flatten(1, 3) for box in maps.boxes], 1)
        offsets = offsets.gather(1, rows[..., None].expand(-1, -1, 4))
        cxcywh = box_coding.decode(offsets, self._anchors[rows], self._centres[rows])
        half = cxcywh[..., 2:] / 2
        tlbr = torch.cat((cxcywh[..., :2] - half, cxcywh[..., :2] + half), 2)
        counts = is_real.sum(1, dtype=torch.int32)
        survives = self._work.suppress(tlbr, counts, self._limits.nms_threshold) & is_real
        rank = survives.cumsum(1)
        place = self._places(survives, rank)
        found = rank[:, -1]
        kept = found.clamp(max=self._kept)
        header = torch.stack(
            (
                kept.float(),
                found.float(),
                torch.isfinite(scores).all(1).float(),
                (torch.isfinite(tlbr).all(2) | ~is_real).all(1).float(),
            ),
            1,
        )
        columns = (
            tlbr.gather(1, place[..., None].expand(-1, -1, 4)).flatten(1),
            best.gather(1, place),
            self._embeddings(maps, rows.gather(1, place)).flatten(1),
        )
        return torch.cat((header, *columns), 1)

    def _scores(self, logits: Sequence[Tensor]) -> Tensor:
        parts = [
            logit.softmax(2)[:, :, 1]
            if self._config.score == "softmax"
            else logit[:, :, 0].sigmoid()
            for logit in logits
        ]
        return torch.cat([part.flatten(1) for part in parts], 1)

    def _best(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, most)` highest scores and their rows; of equal scores the first row comes first."""
        bits = scores.contiguous().view(torch.int32).to(torch.int64)  # in the order of the scores
        last = scores.shape[1] - 1
        key = (bits << 32) | (last - torch.arange(last + 1, device=scores.device))
        rows = last - (key.topk(self._most, dim=1).values & 0xFFFFFFFF)
        return scores.gather(1, rows), rows

    def _places(self, survives: Tensor, rank: Tensor) -> Tensor:
        """`(B, kept)` places of the first survivors; 0 where there are fewer."""
        end = self._kept
        target = torch.where(survives & (rank <= end), rank - 1, end)
        places = torch.zeros((len(rank), end + 1), dtype=torch.int64, device=rank.device)
        source = torch.arange(rank.shape[1], device=rank.device).expand_as(rank)
        return places.scatter(1, target, source)[:, :end]

    def _embeddings(self, maps: RawMaps, rows: Tensor) -> Tensor:
        """`(B, kept, D)` L2-normalised vectors of candidate rows."""
        images = torch.arange(len(rows), device=rows.device)[:, None].expand_as(rows).flatten()
        flat = rows.flatten()
        total: Tensor | None = None
        for scale, (height, width) in enumerate(self._grids):
            offset = flat - self._starts[scale]
            inside = (offset >= 0) & (flat < self._starts[scale + 1])
            cell = torch.where(inside, offset % (height * width), 0)
            vectors = maps.embed(scale, images, cell // width, cell % width)
            vectors = torch.where(inside[:, None], vectors, 0.0)
            total = vectors if total is None else total + vectors
        assert total is not None  # noqa: S101  there are three scales
        return F.normalize(total, dim=1, eps=1e-12).reshape(*rows.shape, -1)

    def read(self, results: FloatArray) -> list[FrameDetections | NotFiniteError]:
        """Detections of frames from their rows of the result, copied out of it.

        Args:
            results: `(n, width)` rows.

        Returns:
            One per frame; an error, with its place, where a score or a candidate's box is not
            finite.
        """
        found: list[FrameDetections | NotFiniteError] = []
        for image, row in enumerate(results):
            kept, number, scores_are_finite, boxes_are_finite = row[:HEADER]
            if not (scores_are_finite and boxes_are_finite):
                found.append(NotFiniteError("boxes" if scores_are_finite else "scores", image))
                continue
            end, last = int(kept), self._kept
            corners, scores, vectors = np.split(row[HEADER:], (4 * last, 5 * last))
            found.append(
                FrameDetections(
                    corners.reshape(last, 4)[:end].copy(),
                    scores[:end].copy(),
                    vectors.reshape(last, -1)[:end].copy(),
                    int(number) - end,
                )
            )
        return found
