"""Settings of a training: augmentation, schedule, validation and processes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jde_ray.pipelines.config import Device
from jde_ray.pipelines.training.source import Source

Sampling = Literal["weights", "epoch", "pairs"]
SAMPLINGS = ("weights", "epoch", "pairs")
SCORES = ("ap", "tpr_at_far", "mota", "idf1", "id_switches")  # of validation
COUNTS = ("id_switches",)  # those that are no shares; the fewer, the better
SCORED_KINDS = ("list", "boxes", "coco", "cvat")  # whose pictures validation can score


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Budget, optimiser and learning rate of a training.

    Attributes:
        minutes: Wall-clock budget without validation; the schedule ends with it.
        epochs: Budget in passes over the images, instead of minutes.
        steps: Budget in steps, instead of either.
        batch: Images per step, over all trainers.
        optimiser: `adamw` or `sgd`.
        learning_rate: Peak learning rate.
        momentum: Momentum of SGD; AdamW ignores it.
        backbone_rate: Learning rate of the backbone, relative to the peak; 0 keeps it as it is,
            which saves a quarter of the time of `small`.
        weighting_rate: Learning rate of the learned task weights, relative to the peak.
        weight_decay: Weight decay of kernels.
        decay_all: Apply weight decay to norms, biases and task weights too.
        schedule: `cosine` falls to 2 %, `steps` to a tenth at each of `decay_epochs`.
        decay_epochs: Epochs after which `steps` divides the rate by ten.
        warmup_steps: Number of steps until the peak.
        warmup_power: Exponent of the warm-up: 1 for linear; 4 in the published code.
        clip_norm: Norm to which gradients are clipped; None for no clipping.
        freeze_norms: Do not train the scale and shift of batch norms.
        ema_steps: Time constant of the moving average that is saved; 0 saves the plain weights.
        precision: `bf16` runs under autocast; `auto` is `bf16` on machines with units for it.
        seed: Seed of initial weights, order of images and augmentation.

    Raises:
        ValueError: If a value is wrong.
    """

    minutes: float | None = None
    epochs: int | None = None
    steps: int | None = None
    batch: int = 16
    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 1.5e-3
    momentum: float = 0.9
    backbone_rate: float = 0.4
    weighting_rate: float = 1.0
    weight_decay: float = 0.05
    decay_all: bool = False
    schedule: Literal["cosine", "steps"] = "cosine"
    decay_epochs: tuple[int, ...] = ()
    warmup_steps: int = 100
    warmup_power: float = 1.0
    clip_norm: float | None = 10.0
    freeze_norms: bool = False
    ema_steps: float = 400.0
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        if sum(budget is not None for budget in (self.minutes, self.epochs, self.steps)) != 1:
            raise ValueError("training: expected either minutes or epochs or steps")
        _choose("training optimiser", self.optimiser, ("adamw", "sgd"))
        _choose("training schedule", self.schedule, ("cosine", "steps"))
        _choose("training precision", self.precision, ("auto", "bf16", "fp32"))
        for name in ("minutes", "epochs", "steps", "batch", "learning_rate", "warmup_steps"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int | float) or value <= 0):
                raise ValueError(f"training {name}: got {value!r}, expected a number above 0")
        if self.schedule == "steps" and self.epochs is None:
            raise ValueError("training schedule: got steps, which needs epochs as budget")
        for name in ("backbone_rate", "weighting_rate", "ema_steps", "seed"):
            value = getattr(self, name)
            if not (isinstance(value, int | float) and value >= 0):
                raise ValueError(f"training {name}: got {value!r}, expected 0 or more")


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """The processes of a training: where and how they run, not what they learn.

    Attributes:
        threads: CPU threads of torch per trainer.
        workers: Processes that augment images, per trainer; 0 leaves it to the trainer.
        num_trainers: Processes that share each step's batch.
        device: Where the network runs; `auto` uses GPUs if there are enough.
        address: Ray to run on; `local` starts one, if there is more than one trainer.
        max_failures: Trainer crashes to recover from.
        resume: Continue from the checkpoint in OUT, if there is one. Otherwise it is removed
            once, before the first step, so that a restarted group continues from its own.

    Raises:
        ValueError: If a value is wrong.
    """

    threads: int = 1
    workers: int = 1
    num_trainers: int = 1
    device: Device = "auto"
    address: str = "local"
    max_failures: int = 3
    resume: bool = True

    def __post_init__(self) -> None:
        _choose("device", self.device, ("auto", "cpu", "cuda"))
        least = {"threads": 1, "workers": 0, "num_trainers": 1, "max_failures": 0}
        for name, low in least.items():
            if getattr(self, name) < low:
                raise ValueError(f"{name}: got {getattr(self, name)}, expected {low} or more")

    @property
    def on_ray(self) -> bool:
        """Whether the training runs on Ray, because of several trainers or an address."""
        return self.num_trainers > 1 or self.address != "local"


def _choose(name: str, value: str, accepted: tuple[str, ...]) -> None:
    if value not in accepted:
        raise ValueError(f"{name}: got {value!r}, expected {' | '.join(accepted)}")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Schedule and data of validation during training.

    Attributes:
        sequences: MOT sequences (`img1`, `gt/gt.txt`) below the data root, which are tracked.
        detection: Labelled pictures on which AP is measured, instead of on the sequences.
        embedding: Labelled pictures on which TPR@FAR is measured, over all of them together,
            instead of on the sequences.
        every_minutes: Minutes between two validations.
        every_epochs: Epochs between two validations, instead of minutes.
        every: AP and TPR@FAR are measured on every n-th frame; tracking uses all frames.
        max_frames: Frames per sequence; None for all.
        keep_best: Score whose best weights are kept as `best.safetensors`; None for none. The
            fewest `id_switches` are best.

    Raises:
        ValueError: If a value is wrong.
    """

    sequences: tuple[str, ...] = ()
    detection: tuple[Source, ...] = ()
    embedding: tuple[Source, ...] = ()
    every_minutes: float | None = None
    every_epochs: int | None = None
    every: int = 5
    max_frames: int | None = None
    keep_best: Literal["ap", "tpr_at_far", "mota", "idf1", "id_switches"] | None = None

    def __post_init__(self) -> None:
        if not (self.sequences or self.lists):
            text = "expected folders below --data, or lists under detection or embedding"
            raise ValueError(f"validation sequences: got none, {text}")
        for source in self.lists:
            _choose(f"validation {source.path} kind", source.kind, SCORED_KINDS)
        if (self.every_minutes is None) == (self.every_epochs is None):
            raise ValueError("validation: expected either every_minutes or every_epochs")
        for name in ("every_minutes", "every_epochs", "every", "max_frames"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"validation {name}: got {value}, expected above 0")
        if self.keep_best is not None:
            _choose("validation keep_best", self.keep_best, self.measured)

    @property
    def lists(self) -> tuple[Source, ...]:
        """All labelled pictures, each once."""
        return tuple(dict.fromkeys((*self.detection, *self.embedding)))

    @property
    def measured(self) -> tuple[str, ...]:
        """The scores that these data give."""
        with_boxes = bool(self.detection or self.sequences)
        with_people = bool(self.embedding or self.sequences)
        has = (with_boxes, with_people, *[bool(self.sequences)] * 3)
        return tuple(name for name, is_there in zip(SCORES, has, strict=True) if is_there)


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the random changes to images.

    Attributes:
        mosaic: Share of the images that are mosaics of four.
        copy_paste: Share of the images into which cut-out people are pasted.
        pasted: Most people pasted into an image.
        crowding: Share of the pasted people who are put beside somebody, so that they overlap.
        multi_scale: Factors of the input size, one of which is drawn for each batch.
        fit: Scale that `scale` multiplies: with `cover` the image covers the canvas, with
            `letterbox` it fits into the canvas, as in the paper.
        scale: Smallest and largest factor of the scale.
        aspect: Logarithm of the largest stretch.
        hue: Largest relative change of the hue.
        saturation: Largest relative change of the saturation.
        value: Largest relative change of the brightness.
        blur: Share of the images that are slightly blurred.
        rotation_degrees: Largest angle of rotation.
        shear_degrees: Largest angle of shear along each axis.
        translation: Largest shift relative to the canvas's width and height; None for any shift at
            which image and canvas cover each other.
        flip: Share of the images that are mirrored.
        hull: Replace a box by the hull of its rotated corners, shrunk slightly with the angle as in
            the published code; otherwise boxes keep their size and follow their centre.
        min_height_px: Boxes of smaller height become ignored regions.
        min_visible: Boxes with a smaller share inside the canvas become ignored regions.
        published: Make views like the published code, see
            `pipelines.training.data.published_augmentation`. Then `fit`, `aspect`, `hue`, `blur`,
            `hull`, `min_height_px` and `min_visible` have no effect.

    Raises:
        ValueError: If a value is wrong.
    """

    mosaic: float = 0.5
    copy_paste: float = 0.0
    pasted: int = 4
    crowding: float = 0.0
    multi_scale: tuple[float, ...] = (1.0, 0.78)
    fit: Literal["cover", "letterbox"] = "cover"
    scale: tuple[float, float] = (0.45, 1.6)
    aspect: float = 0.1
    hue: float = 0.015
    saturation: float = 0.5
    value: float = 0.35
    blur: float = 0.1
    rotation_degrees: float = 3.0
    shear_degrees: float = 0.0
    translation: float | None = None
    flip: float = 0.5
    hull: bool = False
    min_height_px: float = 9.0
    min_visible: float = 0.35
    published: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.pasted, int) or self.pasted < 1:
            raise ValueError(f"augmentation pasted: got {self.pasted!r}, expected 1 or more")
        for name in ("mosaic", "copy_paste", "crowding", "blur", "flip"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ValueError(f"augmentation {name}: got {value}, expected 0 to 1")
        if self.fit not in ("cover", "letterbox"):
            raise ValueError(f"augmentation fit: got {self.fit!r}, expected cover | letterbox")
        if len(self.scale) != 2 or not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"augmentation scale: got {self.scale}, expected [low, high] > 0")
        if not isinstance(self.published, bool):
            raise ValueError(
                f"augmentation published: got {self.published!r}, expected true | false"
            )
        if not self.multi_scale or min(self.multi_scale) <= 0:
            raise ValueError(f"augmentation multi_scale: got {self.multi_scale}, expected > 0")
