"""The architecture of a two-stage detector, as one frozen value that is saved in its weight file.

Ren et al., "Faster R-CNN" (2015), Lin et al., "Feature Pyramid Networks for Object Detection"
(2017), Cai and Vasconcelos, "Cascade R-CNN" (2018). With `embedding_dim` above 0 it is the
two-stage joint network of the paper's Figure 1b.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

from jde_ray.models.jde.config import with_tuples

BACKBONES = ("resnet50", "resnet101", "csp", "csp16", "vgg16")
PYRAMID_STRIDES = {"resnet50": (4, 8, 16, 32), "resnet101": (4, 8, 16, 32), "csp": (8, 16, 32)}
SINGLE_STRIDE = {"vgg16": 16, "csp16": 16}  # of the backbones whose last map is used alone


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One head of the second stage, and what it learns.

    Attributes:
        deviations: Standard deviations of dx, dy, dw, dh, by which its offsets are divided.
        positive_iou: Least IoU with a person of its positives.
        loss_weight: Factor of its losses.
    """

    deviations: tuple[float, float, float, float] = (0.1, 0.1, 0.2, 0.2)
    positive_iou: float = 0.5
    loss_weight: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RcnnConfig:
    """Architecture of one network, and how its two stages sample.

    Pairs `(training, use)` are numbers of boxes in each of the two.

    Attributes:
        name: Name of the configuration.
        size: Width and height in pixels it was trained for, multiples of 32; it takes others.
        backbone: One of `BACKBONES`; `csp16` is the CSP network of `small` without its last stage.
        frozen_groups: First groups of the backbone that do not learn; the stem of a ResNet counts.
        pyramid_channels: Channels of the pyramid; 0 for the backbone's last map alone.
        anchor_sizes: Square roots of the anchors' areas in pixels, at each stride, fine to coarse.
        aspects: Height / width of the anchors.
        trains_crossing: Whether anchors learn that cross the picture's border.
        rpn_channels: Channels of the proposals' hidden layer.
        rpn_logits: 2 for a softmax of (background, person), 1 for a sigmoid.
        level_proposals: (training, use) best anchors of a stride that reach NMS.
        proposals: (training, use) proposals of a picture.
        proposal_nms: IoU above which the proposal of lower score is suppressed, at each stride.
        sampled_anchors: Anchors of a picture that learn, at most half of them positives.
        sampled_boxes: Proposals of a picture that learn, at most a quarter of them positives.
        background_iou: Least IoU with a person of a sampled negative proposal.
        roi: `align` (bilinear) or `max` (maximum of the cells).
        half_pixel: Whether `align` takes a cell's value at its centre, not at its corner.
        roi_cells: A box reads the map in which its area's root has this many cells or up to twice
            as many.
        head_widths: Widths of the two fully connected layers of each stage.
        dropout: Share of their outputs that is left out in training.
        stages: One for Faster R-CNN, three for Cascade R-CNN.
        class_agnostic: Whether classes share their offsets.
        box_beta: Where the smooth L1 of the stages turns linear.
        scored_boxes: `own` averages the scores of the stages on the boxes that entered each of
            them; `last` on the boxes that entered the last.
        num_classes: Background, person, then classes that are not reported.
        embedding_dim: D, length of an appearance vector; 0 for a detector without one.

    Raises:
        ValueError: If a name is unknown or the numbers do not fit each other.
    """

    name: str
    size: tuple[int, int]
    backbone: str
    frozen_groups: int = 0
    pyramid_channels: int = 256
    anchor_sizes: tuple[tuple[float, ...], ...]
    aspects: tuple[float, ...] = (0.5, 1.0, 2.0)
    trains_crossing: bool = True
    rpn_channels: int = 256
    rpn_logits: Literal[1, 2] = 1
    level_proposals: tuple[int, int] = (2000, 1000)
    proposals: tuple[int, int] = (2000, 1000)
    proposal_nms: float = 0.7
    sampled_anchors: int = 256
    sampled_boxes: int = 512
    background_iou: float = 0.0
    roi: Literal["align", "max"] = "align"
    half_pixel: bool = True
    roi_cells: float = 14.0
    head_widths: tuple[int, int] = (1024, 1024)
    dropout: float = 0.0
    stages: tuple[Stage, ...] = (Stage(),)
    class_agnostic: bool = False
    box_beta: float = 1 / 9
    scored_boxes: Literal["own", "last"] = "own"
    num_classes: int = 2
    embedding_dim: int = 0

    def __post_init__(self) -> None:
        if self.backbone not in BACKBONES:
            got = f"got {self.backbone!r}"
            raise ValueError(f"backbone: {got}, expected {' | '.join(BACKBONES)}")
        if any(side < 32 or side % 32 for side in self.size):
            raise ValueError(f"size: got {self.size}, expected multiples of 32")
        if bool(self.pyramid_channels) != (self.backbone in PYRAMID_STRIDES):
            takes = "0" if self.backbone in SINGLE_STRIDE else "more than 0"
            got = f"got {self.pyramid_channels}, {self.backbone} takes {takes}"
            raise ValueError(f"pyramid_channels: {got}")
        counts = {len(sizes) for sizes in self.anchor_sizes}
        if len(self.anchor_sizes) != len(self.strides) or len(counts) != 1:
            text = f"expected equally many at each of the strides {self.strides}"
            raise ValueError(f"anchor_sizes: got {self.anchor_sizes}, {text}")
        if self.roi not in ("align", "max") or self.scored_boxes not in ("own", "last"):
            got = f"got {self.roi!r} and {self.scored_boxes!r}"
            raise ValueError(f"roi, scored_boxes: {got}, expected align | max and own | last")
        if not self.stages or self.num_classes < 2 or self.embedding_dim < 0:
            got = f"got {len(self.stages)}, {self.num_classes}, {self.embedding_dim}"
            raise ValueError(
                f"stages, num_classes, embedding_dim: {got}, expected at least 1, 2, 0"
            )

    @property
    def roi_strides(self) -> tuple[int, ...]:
        """Strides of the maps that boxes are read from."""
        if self.backbone in SINGLE_STRIDE:
            return (SINGLE_STRIDE[self.backbone],)
        return PYRAMID_STRIDES[self.backbone]

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the maps that propose boxes; a pyramid has one more, the last one halved."""
        maps = self.roi_strides
        return (*maps, 2 * maps[-1]) if self.pyramid_channels else maps

    @property
    def num_anchors(self) -> int:
        """Anchors per cell."""
        return len(self.anchor_sizes[0]) * len(self.aspects)

    def to_json(self) -> str:
        """Canonical text, as stored in the metadata of a weight file."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> RcnnConfig:
        """Inverse of `to_json`.

        Raises:
            ValueError: If the text is not JSON of exactly these fields.
        """
        try:
            values = {key: with_tuples(value) for key, value in json.loads(text).items()}
            stages = tuple(Stage(**stage) for stage in values.pop("stages"))
            return RcnnConfig(**values, stages=stages)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"network configuration: {error}") from None


FRCNN_R50 = RcnnConfig(
    name="frcnn-r50",
    size=(1088, 608),
    backbone="resnet50",
    frozen_groups=2,
    anchor_sizes=((32.0,), (64.0,), (128.0,), (256.0,), (512.0,)),
)
CASCADE_R50 = replace(
    FRCNN_R50,
    name="cascade-r50",
    stages=(
        Stage(),
        Stage(deviations=(0.05, 0.05, 0.1, 0.1), positive_iou=0.6, loss_weight=0.5),
        Stage(deviations=(0.033, 0.033, 0.067, 0.067), positive_iou=0.7, loss_weight=0.25),
    ),
    class_agnostic=True,
    box_beta=1.0,
)
FRCNN_VGG16 = RcnnConfig(
    name="frcnn-vgg16",
    size=(1088, 608),
    backbone="vgg16",
    frozen_groups=2,
    pyramid_channels=0,
    anchor_sizes=((128.0, 256.0, 512.0),),
    trains_crossing=False,
    rpn_channels=512,
    rpn_logits=2,
    level_proposals=(6000, 6000),
    proposals=(2000, 300),
    sampled_boxes=128,
    background_iou=0.1,
    roi="max",
    head_widths=(4096, 4096),
    dropout=0.5,
    box_beta=1.0,
)

# Small ones for CPUs, on the backbone that `small` starts from, ours in all that follows it. Their
# anchors are upright and small, as people are in pictures of this size.
FRCNN_SMALL = RcnnConfig(
    name="frcnn-small",
    size=(576, 320),
    backbone="csp",
    pyramid_channels=96,
    anchor_sizes=((16.0, 24.0), (32.0, 48.0), (64.0, 96.0), (128.0, 192.0)),
    aspects=(1.0, 2.0, 3.0),
    rpn_channels=96,
    level_proposals=(300, 100),
    proposals=(300, 100),
    sampled_boxes=128,
    roi_cells=7.0,
    head_widths=(256, 256),
)
CASCADE_SMALL = replace(
    FRCNN_SMALL,
    name="cascade-small",
    stages=CASCADE_R50.stages,
    class_agnostic=True,
    box_beta=1.0,
)
FRCNN_VGG_SMALL = replace(
    FRCNN_VGG16,
    name="frcnn-vgg-small",
    size=(576, 320),
    backbone="csp16",
    frozen_groups=0,
    anchor_sizes=((24.0, 48.0, 96.0, 192.0),),
    aspects=(1.0, 2.0, 3.0),
    rpn_channels=128,
    level_proposals=(600, 300),
    proposals=(300, 100),
    sampled_boxes=128,
    head_widths=(256, 256),
)

CONFIGURATIONS = {
    config.name: config
    for config in (
        FRCNN_R50,
        replace(FRCNN_R50, name="frcnn-r101", backbone="resnet101"),
        CASCADE_R50,
        replace(CASCADE_R50, name="cascade-r101", backbone="resnet101"),
        FRCNN_VGG16,
        replace(FRCNN_R50, name="jde-frcnn-r50", embedding_dim=256),
        FRCNN_SMALL,
        CASCADE_SMALL,
        FRCNN_VGG_SMALL,
        replace(FRCNN_SMALL, name="jde-frcnn-small", embedding_dim=128),
    )
}
