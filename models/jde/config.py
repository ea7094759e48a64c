"""The architecture of a JDE network, as one frozen value that is saved in its weight file."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

STRIDES = (32, 16, 8)  # coarse to fine: the published row order

Anchors = tuple[tuple[tuple[float, float], ...], ...]


@dataclass(frozen=True, kw_only=True)
class JDEConfig:
    """Architecture of one network.

    Attributes:
        name: Name of the configuration, for display.
        size: Width and height in pixels it was trained for, multiples of 32.
        backbone: A key of `models.backbones.registry.BACKBONES`.
        neck_channels: Channels of the pyramid at strides 32, 16, 8.
        neck_block: `conv5` is the published stack of five convolutions, `residual` a 1x1
            convolution and `neck_depth` residual units of two 3x3 convolutions.
        neck_depth: Residual units at strides 32, 16, 8 (only for `residual`).
        activation: Activation after every convolution with batch norm outside the backbone.
        head_expansion: Channels of the box head's hidden layer, as a multiple of the neck's.
        embedding_dim: D, length of an appearance vector.
        embedding_hidden: Whether a hidden 3x3 convolution precedes the embedding layer.
        anchors: (width, height) of each anchor in network pixels, for strides 32, 16, 8.
        cell_offset: Position of an anchor in its cell: 0 the corner (as published), .5 the centre.
        score: `softmax` over a (background, foreground) pair as published, or one `sigmoid`.

    Raises:
        ValueError: If the size is no multiple of 32 or the strides differ in number of anchors.
    """

    name: str
    size: tuple[int, int]
    backbone: str
    neck_channels: tuple[int, int, int]
    neck_block: Literal["conv5", "residual"]
    neck_depth: tuple[int, int, int] = (0, 0, 0)
    activation: Literal["leaky_relu", "silu"] = "leaky_relu"
    head_expansion: int = 2
    embedding_dim: int = 512
    embedding_hidden: bool = False
    anchors: Anchors
    cell_offset: float = 0.0
    score: Literal["softmax", "sigmoid"] = "softmax"

    def __post_init__(self) -> None:
        if any(side < 32 or side % 32 for side in self.size):
            raise ValueError(f"size: got {self.size}, expected multiples of 32")
        counts = {len(scale) for scale in self.anchors}
        if len(self.anchors) != len(STRIDES) or len(counts) != 1:
            raise ValueError(f"anchors: got {self.anchors}, expected equally many a stride")

    @property
    def num_anchors(self) -> int:
        """Anchors per cell."""
        return len(self.anchors[0])

    @property
    def score_channels(self) -> int:
        """Logits per anchor: 2 for `softmax`, 1 for `sigmoid`."""
        return 2 if self.score == "softmax" else 1

    @property
    def has_published_layout(self) -> bool:
        """Whether neck, heads and decoding are the published ones.

        Such a network takes exactly `size`, for which its anchors were chosen.
        """
        return self.neck_block == "conv5" and self.score == "softmax"

    def at_size(self, size: tuple[int, int]) -> JDEConfig:
        """The network for another input size, with the same anchors.

        Anchors fit the strides, not the input: one much narrower than its stride overlaps hardly
        anybody by half, whatever the cell.

        Raises:
            ValueError: If the size is no multiple of 32.
        """
        return replace(self, size=size)

    def with_text_anchors(self) -> JDEConfig:
        """The network with the anchors of the paper's text instead of its code's.

        The text has twelve of 1:3, 8 x 2^(k/2) wide, for a 1088x608 input. The two largest of the
        code are not 1:3; published weights need the code's.

        Raises:
            ValueError: If the network has no fixed anchors, four a scale.
        """
        if not self.has_published_layout or self.num_anchors != 4:
            text = "expected a network with the published anchors"
            raise ValueError(f"anchors: got text with {self.name}; {text}")
        scale = min(self.size[0] / 1088, self.size[1] / 608)
        widths = [8 * 2 ** (k / 2) * scale for k in range(1, 13)]
        rows = (widths[8:], widths[4:8], widths[:4])  # strides 32, 16, 8
        return replace(self, anchors=tuple(tuple((w, 3 * w) for w in row) for row in rows))

    def to_json(self) -> str:
        """Canonical text, as stored in the metadata of a weight file."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> JDEConfig:
        """Inverse of `to_json`.

        Raises:
            ValueError: If the text is not JSON of exactly these fields.
        """
        try:
            return JDEConfig(**with_tuples(json.loads(text)))
        except TypeError as error:
            raise ValueError(f"network configuration: {error}") from None


def with_tuples(value: Any) -> Any:
    """A value of JSON with a tuple for each list, as the fields of configurations have them."""
    if isinstance(value, list):
        return tuple(with_tuples(item) for item in value)
    if isinstance(value, dict):
        return {key: with_tuples(item) for key, item in value.items()}
    return value


SMALL = JDEConfig(
    name="small",
    size=(576, 320),
    backbone="csp",
    neck_channels=(192, 128, 96),
    neck_block="residual",
    neck_depth=(1, 1, 1),
    activation="silu",
    head_expansion=1,
    embedding_dim=128,
    embedding_hidden=True,
    anchors=(((80.0, 224.0),), ((36.0, 100.0),), ((16.0, 44.0),)),
    cell_offset=0.5,
    score="sigmoid",
)

# Twice as wide: 22 M parameters, for GPUs. Its anchors are those of `small`, from whose weights it
# starts (`models.jde.widening`).
BASE = replace(
    SMALL, name="base", size=(864, 480), backbone="csp-wide", neck_channels=(384, 256, 192)
)

# The first `small`: 5.0 M parameters, 0.15 M of them in the backbone
SMALL_SHUFFLENET = replace(
    SMALL,
    name="small-shufflenet",
    backbone="shufflenet",
    neck_channels=(224, 144, 96),
    neck_depth=(2, 2, 1),
)

# (width, height) for strides 32, 16, 8 of the published networks, by input size
PUBLISHED_ANCHORS: dict[tuple[int, int], Anchors] = {
    (1088, 608): (
        ((128.0, 384.0), (180.0, 540.0), (256.0, 640.0), (512.0, 640.0)),
        ((32.0, 96.0), (45.0, 135.0), (64.0, 192.0), (90.0, 271.0)),
        ((8.0, 24.0), (11.0, 34.0), (16.0, 48.0), (23.0, 68.0)),
    ),
    (864, 480): (
        ((102.0, 305.0), (143.0, 429.0), (203.0, 508.0), (407.0, 508.0)),
        ((25.0, 76.0), (36.0, 107.0), (51.0, 152.0), (71.0, 215.0)),
        ((6.0, 19.0), (9.0, 27.0), (13.0, 38.0), (18.0, 54.0)),
    ),
    (576, 320): (
        ((85.0, 255.0), (120.0, 360.0), (170.0, 420.0), (340.0, 320.0)),
        ((21.0, 64.0), (30.0, 90.0), (43.0, 128.0), (60.0, 180.0)),
        ((6.0, 16.0), (8.0, 23.0), (11.0, 32.0), (16.0, 45.0)),
    ),
}


def published(backbone: str, size: tuple[int, int]) -> JDEConfig:
    """The published neck, heads and anchors over a backbone.

    Args:
        backbone: A key of `models.backbones.registry.BACKBONES`.
        size: A key of `PUBLISHED_ANCHORS`.
    """
    return JDEConfig(
        name=f"{backbone}-{size[0]}x{size[1]}",
        size=size,
        backbone=backbone,
        neck_channels=(512, 256, 128),
        neck_block="conv5",
        anchors=PUBLISHED_ANCHORS[size],
    )


# The published layout at a size for CPUs, for comparing losses: 4.3 M parameters
ANCHOR_SMALL = replace(
    published("csp", (576, 320)),
    name="anchor-small",
    neck_channels=(128, 96, 64),
    embedding_dim=128,
)

_BACKBONES = ("darknet53", "resnet50", "resnet101")
_PUBLISHED = [published(b, size) for b in _BACKBONES for size in PUBLISHED_ANCHORS]
CONFIGURATIONS = {
    config.name: config for config in (SMALL, BASE, SMALL_SHUFFLENET, ANCHOR_SMALL, *_PUBLISHED)
}
