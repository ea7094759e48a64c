"""The architecture of a re-identification network, saved in its weight file, and its losses."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Literal

Head = Literal["ide", "triplet", "pcb", "cosine"]
HEADS = ("ide", "triplet", "pcb", "cosine")
Pooling = Literal["mean", "flatten", "ellipse"]
POOLINGS = ("mean", "flatten", "ellipse")
Classifier = Literal["linear", "cosine", "scaled"]
CLASSIFIERS = ("linear", "cosine", "scaled")
TASKS = ("identity", "triplet", "teacher", "sets")  # losses
STRIDES = {  # of the last map, by backbone
    "csp16": 16,
    "shufflenet": 32,
    "resnet50": 32,
    "wrn": 8,
    "wrn-half": 8,
    "inception": 32,
    "plain": 16,
}


@dataclass(frozen=True, kw_only=True)
class ReidConfig:
    """Architecture of one network.

    Attributes:
        name: Name of the configuration.
        size: Width and height in pixels that crops are stretched to.
        backbone: A key of `STRIDES`: `csp16` is the CSP network of `small` without its last stage.
        head: `ide`, `triplet`, `pcb` or `cosine` (`models.reid.network`).
        width: Length of a part's vector; the appearance vector joins those of all `stripes`.
        stripes: Horizontal stripes of the last map, each of which is a part; 1 for the whole crop.
        hidden: Width of the hidden layer of the head `triplet`; 0 for none.
        activation: Whether a ReLU follows the last batch norm.
        dropout: Share of features left out before a classifier sees them, in training.
        scale_units: Units that look at several scales (`ScaleUnit`) behind the backbone.
        rich_pooling: Pool mean and maximum of the last map and the mean of the map of stride 8,
            instead of the mean of the last map.
        refined: Whether a linear layer says of every cell which part it belongs to, instead of the
            stripe that it lies in (refined part pooling, for the head `pcb`).
        last_stride: Stride of the last stage of `resnet50`; 1 doubles the last map, as in PCB.
        pooling: What becomes of the last map: the `mean` of each stripe, all its cells (`flatten`),
            or the mean inside the `ellipse` that stands in for a person's mask.
        quality: Whether it also tells how good each picture is (`models.reid.sets`).

    Raises:
        ValueError: If the size does not fit the backbone and the stripes, or a name is unknown.
    """

    name: str
    size: tuple[int, int]
    backbone: str
    head: Head
    width: int
    stripes: int = 1
    hidden: int = 0
    activation: bool = False
    dropout: float = 0.0
    scale_units: int = 0
    rich_pooling: bool = False
    refined: bool = False
    last_stride: Literal[1, 2] = 2
    pooling: Pooling = "mean"
    quality: bool = False

    def __post_init__(self) -> None:
        if self.backbone not in STRIDES:
            got = f"got {self.backbone!r}"
            raise ValueError(f"backbone: {got}, expected {' | '.join(STRIDES)}")
        if self.head not in HEADS:
            raise ValueError(f"head: got {self.head!r}, expected {' | '.join(HEADS)}")
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling: got {self.pooling!r}, expected {' | '.join(POOLINGS)}")
        if self.pooling != "mean" and (self.stripes > 1 or self.rich_pooling):
            text = "expected mean with stripes or rich_pooling"
            raise ValueError(f"pooling: got {self.pooling} in {self.name}, {text}")
        if self.last_stride == 1 and self.backbone != "resnet50":
            raise ValueError(f"last_stride: got 1 with {self.backbone}, expected resnet50")
        if self.refined and (self.head != "pcb" or self.rich_pooling):
            text = f"got true with head {self.head}, rich_pooling {self.rich_pooling}"
            raise ValueError(f"refined: {text}, expected head pcb without it")
        stride = STRIDES[self.backbone]
        least = (stride, self.stripes * self.stride)
        if any(side < 1 or side % unit for side, unit in zip(self.size, least, strict=True)):
            raise ValueError(
                f"size: got {self.size[0]}x{self.size[1]}, {self.name} expects multiples of "
                f"{least[0]} in width and {least[1]} in height"
            )

    @property
    def stride(self) -> int:
        """Pixels of the crop per cell of the last map."""
        return STRIDES[self.backbone] // (2 if self.last_stride == 1 else 1)

    @property
    def cells(self) -> int:
        """Cells of the last map."""
        return (self.size[0] // self.stride) * (self.size[1] // self.stride)

    @property
    def embedding_dim(self) -> int:
        """D, length of an appearance vector."""
        return self.stripes * self.width

    def to_json(self) -> str:
        """Canonical text, as stored in the metadata of a weight file."""
        return json.dumps(asdict(self), sort_keys=True)

    @staticmethod
    def from_json(text: str) -> ReidConfig:
        """Inverse of `to_json`.

        Raises:
            ValueError: If the text is not JSON of exactly these fields.
        """
        try:
            values = json.loads(text)
            return ReidConfig(**values | {"size": tuple(values["size"])})
        except (TypeError, KeyError) as error:
            raise ValueError(f"network configuration: {error}") from None


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Factors of the losses; 0 leaves one out.

    Attributes:
        identity: Cross-entropy of the identities, summed over the parts.
        triplet: Batch-hard triplets.
        teacher: Distances of the teacher.
        smoothing: Label smoothing of the cross-entropy.
        margin: Margin of the triplets in Euclidean distance; None for the soft one.
        sets: Batch-hard triplets of the features of sets; each person's pictures of a batch are two
            sets, so that `sightings: 16` makes sets of eight. Only for networks that tell quality.
        set_margin: Margin of these.
        classifier: How the cross-entropy compares a vector with a person: `linear` by their
            product, `cosine` by the cosine times a factor that is learned, `scaled` by the
            product with the vector of length 1, times the scale of joint networks.

    Raises:
        ValueError: If a value is below 0 or unknown, or all factors are 0.
    """

    identity: float = 0.0
    triplet: float = 0.0
    teacher: float = 0.0
    smoothing: float = 0.1
    margin: float | None = None
    sets: float = 0.0
    set_margin: float = 1.2
    classifier: Classifier = "linear"

    def __post_init__(self) -> None:
        if self.classifier not in CLASSIFIERS:
            got = f"got {self.classifier!r}"
            raise ValueError(f"losses classifier: {got}, expected {' | '.join(CLASSIFIERS)}")
        for name in (*TASKS, "margin", "set_margin"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise ValueError(f"losses {name}: got {value}, expected 0 or more")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"losses smoothing: got {self.smoothing}, expected 0 to 1")
        if not any(getattr(self, name) for name in TASKS):
            raise ValueError(f"losses: got none above 0, expected one of {', '.join(TASKS)}")


def own_weights(config: ReidConfig) -> LossWeights:
    """The loss that a head was published with, or described with."""
    if config.head == "triplet":
        return LossWeights(triplet=1.0)
    if config.head == "cosine":
        return LossWeights(identity=1.0, smoothing=0.0, classifier="cosine")
    if config.quality:
        return LossWeights(identity=1.0, smoothing=0.0, sets=1.0)
    if config.backbone == "plain":
        return LossWeights(identity=1.0, smoothing=0.0, classifier="scaled")
    return LossWeights(identity=1.0, smoothing=0.0)


# The paper's embedders: Zheng et al. 2016 (IDE), Hermans et al. 2017, Sun et al. 2018 (PCB).
IDE = ReidConfig(
    name="reid-ide",
    size=(128, 256),
    backbone="resnet50",
    head="ide",
    width=256,
    activation=True,
    dropout=0.5,
)
TRIPLET = ReidConfig(
    name="reid-triplet",
    size=(128, 256),
    backbone="resnet50",
    head="triplet",
    width=128,
    hidden=1024,
)
PCB = ReidConfig(
    name="reid-pcb",
    size=(128, 384),
    backbone="resnet50",
    head="pcb",
    width=256,
    stripes=6,
    activation=True,
    dropout=0.5,
    last_stride=1,
)
REFINED_PCB = replace(PCB, name="reid-pcb-refined", refined=True)

# Small ones for CPUs, on the backbone that `small` starts from, ours in all that follows it.
SMALL_IDE = ReidConfig(
    name="reid-small-ide",
    size=(96, 192),
    backbone="csp16",
    head="ide",
    width=256,
    scale_units=1,
    rich_pooling=True,
)
SMALL_TRIPLET = replace(SMALL_IDE, name="reid-small-triplet", head="triplet", hidden=512, width=128)
SMALL_PCB = replace(
    SMALL_IDE, name="reid-small-pcb", head="pcb", width=64, stripes=6, rich_pooling=False
)
SMALL_REFINED_PCB = replace(SMALL_PCB, name="reid-small-pcb-refined", refined=True)
# Five times as fast as these
TINY_IDE = replace(
    SMALL_IDE, name="reid-tiny-ide", backbone="shufflenet", size=(128, 256), scale_units=0
)

# Descriptors of the online systems that the paper compares with (Table 3). DeepSORT's: Wojke and
# Bewley 2018. POI's: BN-Inception at 96x96, also with the quality branch of Liu et al. 2017.
WRN = ReidConfig(
    name="reid-wrn",
    size=(64, 128),
    backbone="wrn",
    head="cosine",
    width=128,
    dropout=0.4,
    pooling="flatten",
)
INCEPTION = ReidConfig(
    name="reid-inception", size=(96, 96), backbone="inception", head="ide", width=128
)
QAN = replace(INCEPTION, name="reid-qan", quality=True)
# TAP's, features inside a person's mask, for which an ellipse stands in; CNNMTT's five layers.
# Both are ours after their descriptions.
MASK = replace(TRIPLET, name="reid-mask", pooling="ellipse")
CNN5 = ReidConfig(
    name="reid-cnn5", size=(64, 128), backbone="plain", head="ide", width=128, pooling="flatten"
)
# Small twins for CPUs; `reid-cnn5` is small itself
SMALL_WRN = replace(WRN, name="reid-small-wrn", backbone="wrn-half")
SMALL_QAN = replace(SMALL_IDE, name="reid-small-qan", width=128, quality=True)
SMALL_MASK = replace(SMALL_TRIPLET, name="reid-small-mask", rich_pooling=False, pooling="ellipse")

_ALL = (
    *(IDE, TRIPLET, PCB, REFINED_PCB, WRN, INCEPTION, QAN, MASK),
    *(SMALL_IDE, SMALL_TRIPLET, SMALL_PCB, SMALL_REFINED_PCB, TINY_IDE),
    *(CNN5, SMALL_WRN, SMALL_QAN, SMALL_MASK),
)
CONFIGURATIONS = {config.name: config for config in _ALL}
