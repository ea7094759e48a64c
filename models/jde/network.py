"""JDE: one convolutional network from images to boxes, scores and embeddings."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from jde_ray.models.backbones.pixels import from_bytes
from jde_ray.models.backbones.registry import BACKBONES
from jde_ray.models.jde.config import JDEConfig
from jde_ray.models.jde.decode import Candidates, FrameDetections, decode, select
from jde_ray.models.jde.head import FeaturePyramid, PredictionHead, ScaleMaps
from jde_ray.models.structures import check_frames


class JDE(nn.Module):
    """Backbone, feature pyramid and three prediction heads (paper, section "Architecture").

    Args:
        config: Architecture.

    Raises:
        ValueError: If the configuration names an unknown backbone.
    """

    def __init__(self, config: JDEConfig) -> None:
        super().__init__()
        if config.backbone not in BACKBONES:
            raise ValueError(f"backbone: got {config.backbone!r}, expected {' | '.join(BACKBONES)}")
        self.config = config
        self.backbone = BACKBONES[config.backbone]()
        channels = cast("tuple[int, int, int]", self.backbone.channels)
        self.neck = FeaturePyramid(config, channels)
        self.heads = nn.ModuleList(PredictionHead(config, c) for c in config.neck_channels)

    def maps(self, images: Tensor) -> list[ScaleMaps]:
        """Raw maps at strides 32, 16, 8 of `(B, 3, H, W)` RGB images in [0, 1]."""
        return self.predict(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """Inputs of the heads at strides 32, 16, 8; images are those of `maps`."""
        shared: list[Tensor] = self.neck(*self.backbone(images))
        return shared

    def predict(self, features: list[Tensor]) -> list[ScaleMaps]:
        """Raw maps of `features`."""
        return [head(f) for head, f in zip(self.heads, features, strict=True)]

    def forward(self, images: Tensor) -> Candidates:
        """All candidates before NMS, in the published row order.

        Args:
            images: `(B, 3, H, W)` float RGB in [0, 1]; H and W multiples of 32.

        Raises:
            ValueError: If the images have another shape.
        """
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % 32 or images.shape[3] % 32:
            raise ValueError(
                f"images: got shape {tuple(images.shape)}, expected (B, 3, H, W) "
                "with H and W multiples of 32"
            )
        return decode(self.config, self.maps(images))

    @torch.inference_mode()
    def detect(
        self,
        frames: Tensor,
        score_threshold: float = 0.5,
        nms_threshold: float = 0.4,
        max_detections: int = 300,
    ) -> list[FrameDetections]:
        """People in letterboxed frames, one result per frame; the batch size does not affect them.

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
        maps = self.maps(self.normalise(frames))
        candidates = decode(self.config, maps)
        return select(candidates, score_threshold, nms_threshold, max_detections)

    def normalise(self, frames: Tensor) -> Tensor:
        """`(B, H, W, 3)` uint8 as `(B, 3, H, W)` in [0, 1], where and as the parameters are."""
        return from_bytes(frames, next(self.parameters()))
