"""Faster R-CNN and Cascade R-CNN: proposals, then a closer look at each of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jde_ray.models.backbones.pixels import from_bytes
from jde_ray.models.jde.decode import Candidates, FrameDetections, select
from jde_ray.models.rcnn.config import RcnnConfig
from jde_ray.models.rcnn.heads import StageHead, StageOutputs, average, person_scores
from jde_ray.models.rcnn.proposals import AnchorOutputs, ProposalHead, Proposals, propose
from jde_ray.models.rcnn.roi import pool
from jde_ray.models.rcnn.trunk import Trunk
from jde_ray.models.structures import check_frames


@dataclass(frozen=True)
class RegionCandidates(Candidates):
    """Every proposal's score and final box; embeddings are read at the boxes that remain.

    Attributes:
        read: Embeddings `(K, D)` of `(K,)` pictures and `(K, 4)` corners.
    """

    read: Callable[[Tensor, Tensor], Tensor]

    def embeddings(self, image: int | Tensor, rows: Tensor) -> Tensor:
        """L2-normalised `(K, D)` vectors of candidate rows; arguments as in the base."""
        images = torch.as_tensor(image, device=rows.device).expand(len(rows))
        xy, half = self.boxes[images, rows, :2], self.boxes[images, rows, 2:] / 2
        return self.read(images, torch.cat((xy - half, xy + half), 1))


class RcnnNet(nn.Module):
    """A two-stage detector, or the two-stage joint network.

    Args:
        config: Architecture.
    """

    def __init__(self, config: RcnnConfig) -> None:
        super().__init__()
        self.config = config
        self.trunk = Trunk(config)
        self.rpn = ProposalHead(config, self.trunk.channels)
        widths = [0] * (len(config.stages) - 1) + [config.embedding_dim]
        self.stages = nn.ModuleList(
            StageHead(config, stage, self.trunk.channels, width)
            for stage, width in zip(config.stages, widths, strict=True)
        )

    @property
    def backbone(self) -> nn.Module:
        """The feature extractor, whose weights may come from elsewhere."""
        backbone: nn.Module = self.trunk.backbone
        return backbone

    def features(self, images: Tensor) -> list[Tensor]:
        """Maps at the configuration's strides of `(B, 3, H, W)` RGB images in [0, 1].

        Raises:
            ValueError: If the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(
                f"images: got shape {tuple(images.shape)}, expected (B, 3, H, W) "
                "with H and W multiples of 32"
            )
        maps: list[Tensor] = self.trunk(images)
        return maps

    def anchor_outputs(self, features: list[Tensor], size: tuple[int, int]) -> AnchorOutputs:
        """The first stage's outputs for maps of pictures of a width and height."""
        outputs: AnchorOutputs = self.rpn(features, size)
        return outputs

    def look(self, stage: int, features: list[Tensor], image: Tensor, tlbr: Tensor) -> StageOutputs:
        """A stage's outputs for `(R, 4)` corners in the pictures `(R,)`."""
        outputs: StageOutputs = self.stages[stage](pool(self.config, features, image, tlbr))
        return outputs

    def forward(self, images: Tensor) -> RegionCandidates:
        """The candidates of a batch before suppression, as many per picture as proposals in use.

        Args:
            images: `(B, 3, H, W)` float RGB in [0, 1]; H and W multiples of 32.

        Raises:
            ValueError: If the images have another shape.
        """
        features = self.features(images)
        size = (int(images.shape[3]), int(images.shape[2]))
        proposals = propose(self.config, self.anchor_outputs(features, size))
        scores, tlbr = self.refine(features, proposals, size)
        boxes = torch.cat(((tlbr[..., :2] + tlbr[..., 2:]) / 2, tlbr[..., 2:] - tlbr[..., :2]), -1)
        read = _Reader(self, features)
        return RegionCandidates(boxes=boxes, scores=scores, embedding_maps=(), read=read)

    def refine(
        self, features: list[Tensor], proposals: Proposals, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """`(B, P)` scores and `(B, P, 4)` corners after all stages; a score of 0 for filling."""
        batch, count = proposals.is_real.shape
        image = torch.arange(batch, device=proposals.tlbr.device).repeat_interleave(count)
        entering = tlbr = proposals.tlbr.reshape(-1, 4)
        scores = []
        for number, head in enumerate(self.stages):
            entering = tlbr
            outputs = self.look(number, features, image, entering)
            tlbr = head.boxes(outputs, entering, size)  # type: ignore[operator]
            if self.config.scored_boxes == "own":
                scores.append(person_scores(outputs.logits))
        if self.config.scored_boxes == "last":
            looks = (self.look(n, features, image, entering) for n in range(len(self.stages)))
            scores = [person_scores(outputs.logits) for outputs in looks]
        score = average(scores).view(batch, count)
        return score * proposals.is_real, tlbr.view(batch, count, 4)

    def read_embeddings(self, features: list[Tensor], image: Tensor, tlbr: Tensor) -> Tensor:
        """`(K, D)` L2-normalised vectors of boxes, from a pass of the last stage over them."""
        if not self.config.embedding_dim:
            return tlbr.new_zeros(len(tlbr), 0)
        raw = self.look(len(self.stages) - 1, features, image, tlbr).embedding
        return F.normalize(raw, dim=1, eps=1e-12)

    @torch.inference_mode()
    def detect(
        self,
        frames: Tensor,
        score_threshold: float = 0.05,
        nms_threshold: float = 0.5,
        max_detections: int = 100,
    ) -> list[FrameDetections]:
        """People in letterboxed frames, one result per frame, each with its embedding if any.

        Args:
            frames: `(B, H, W, 3)` uint8 RGB, on any device.
            score_threshold: Candidates must score above it.
            nms_threshold: IoU above which the box of lower score is suppressed.
            max_detections: Number of highest scores kept per frame.

        Raises:
            ValueError: If `frames` has another shape or type.
            FloatingPointError: If the network's output is not finite.
        """
        check_frames(frames)
        candidates = self(self.normalise(frames))
        return select(candidates, score_threshold, nms_threshold, max_detections)

    @torch.inference_mode()
    def embed(self, frames: Tensor, tlbr: Sequence[Tensor]) -> list[Tensor]:
        """Embeddings of people whose boxes are known.

        Args:
            frames: `(B, H, W, 3)` uint8 RGB, on any device.
            tlbr: For each frame `(N, 4)` corners in network pixels.

        Returns:
            For each frame `(N, D)` L2-normalised vectors, on the network's device.

        Raises:
            ValueError: If the network has no embedding, or `frames` another shape or type.
        """
        check_frames(frames)
        if not self.config.embedding_dim:
            raise ValueError(f"embed: {self.config.name} finds people, but has no embedding")
        images = self.normalise(frames)
        counts = [len(boxes) for boxes in tlbr]
        boxes = torch.cat([torch.as_tensor(one, dtype=torch.float32) for one in tlbr])
        image = torch.repeat_interleave(torch.tensor(counts))
        device = images.device
        vectors = self.read_embeddings(self.features(images), image.to(device), boxes.to(device))
        return list(torch.split(vectors, counts))

    def normalise(self, frames: Tensor) -> Tensor:
        """`(B, H, W, 3)` uint8 as `(B, 3, H, W)` in [0, 1], where and as the parameters are."""
        return from_bytes(frames, next(self.parameters()))


class _Reader:
    """Reads embeddings at boxes of pictures whose maps are kept."""

    def __init__(self, model: RcnnNet, features: list[Tensor]) -> None:
        self.model, self.features = model, features

    def __call__(self, image: Tensor, tlbr: Tensor) -> Tensor:
        return self.model.read_embeddings(self.features, image, tlbr)
