"""A training configuration: network, sources, losses and budget, checked before the start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from jde_ray.models.jde.config import CONFIGURATIONS, JDEConfig
from jde_ray.models.losses.config import EMBEDDING_LOSSES, WEIGHTINGS, check_margin
from jde_ray.models.reid.config import CONFIGURATIONS as REID_CONFIGURATIONS
from jde_ray.models.reid.config import LossWeights, ReidConfig
from jde_ray.models.settings_file import read_yaml
from jde_ray.pipelines.training.crop_settings import CropConfig, CropViews
from jde_ray.pipelines.training.settings import (
    SAMPLINGS,
    Augmentation,
    Sampling,
    Source,
    TrainingConfig,
    ValidationConfig,
    _choose,
)

Value = TypeVar("Value")
JOINT_ONLY = ("embedding_loss", "weighting", "margin", "sampling", "initial_classifier")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training configuration; paths are relative to the data root.

    Attributes:
        network: Name of a configuration of a joint network (`models.jde.config.CONFIGURATIONS`) or
            a re-identification network (`models.reid.config.CONFIGURATIONS`).
        sources: Sources of images.
        training: Budget and learning rates.
        augmentation: Ranges of the random changes.
        validation: Sequences and lists that are scored during training; None for none.
        embedding_loss: One of `models.losses.config.EMBEDDING_LOSSES`.
        weighting: One of `models.losses.config.WEIGHTINGS`.
        margin: Margin of the embedding loss `triplet`, a difference of cosines; 0 is equation 1.
        sampling: How images are drawn for a batch (`pipelines.training.data.batches.TrainingSet`).
        initial: Backbone weights (NanoDet-g, FastestDet, Darknet, torchvision) or a whole network's
            file, for Darknet-53 also a published checkpoint.
        initial_classifier: Also load the identity classifier of that published checkpoint, for
            training on exactly the same identities.
        detector_teacher: Network that finds people in unlabelled frames: FastestDet's ONNX file or
            NanoDet-g's `nanodet.json`.
        appearance_teacher: ONNX file of the network from which appearance is distilled.
        longest_side: Images with a longer side are shrunk to this many pixels.
        collage_share: Share of the images that are collages of crops.
        aspects: Aspect ratios (width / height) of the batches; none for that of the network.
        licence: Licence of the weights, written into their file.
        crops: How a re-identification network learns; the losses and the augmentation above are
            those of joint networks.

    Raises:
        ValueError: If a value is wrong.
    """

    network: str
    sources: tuple[Source, ...]
    training: TrainingConfig
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation: ValidationConfig | None = None
    embedding_loss: str = "cross_entropy"
    weighting: str = "uncertainty"
    margin: float = 0.0
    sampling: Sampling = "weights"
    initial: str | None = None
    initial_classifier: bool = False
    detector_teacher: str | None = None
    appearance_teacher: str | None = None
    longest_side: int = 1088
    collage_share: float = 0.0
    aspects: tuple[float, ...] = ()
    licence: str = "unstated"
    crops: CropConfig = field(default_factory=CropConfig)

    def __post_init__(self) -> None:
        _choose("network", self.network, (*CONFIGURATIONS, *REID_CONFIGURATIONS))
        _choose("embedding_loss", self.embedding_loss, EMBEDDING_LOSSES)
        _choose("weighting", self.weighting, WEIGHTINGS)
        check_margin(self.embedding_loss, self.margin)
        _choose("sampling", self.sampling, SAMPLINGS)
        if not self.sources:
            raise ValueError("sources: got none, expected a list of kind and path")
        if self.reid is not None:
            self._check_reid(self.reid)
        elif self.appearance_teacher and self.config.score == "softmax":
            text = "only networks without anchors learn from a teacher"
            raise ValueError(f"appearance_teacher: got {self.appearance_teacher}; {text}")
        from_published = self.initial and self.network.startswith("darknet53")
        if self.initial_classifier and not (
            from_published and self.embedding_loss == "cross_entropy"
        ):
            raise ValueError(
                "initial_classifier: got true, expected a darknet53 network, embedding_loss "
                "cross_entropy and a published checkpoint as initial"
            )
        mine = {source.path for source in self.sources}
        theirs = self.validation
        both = mine & {*theirs.sequences, *(one.path for one in theirs.lists)} if theirs else set()
        if both:
            text = "it is among the sources; expected what is not learned from"
            raise ValueError(f"validation: got {min(both)}, {text}")

    def _check_reid(self, config: ReidConfig) -> None:
        """Refuse settings that re-identification networks do not have."""
        if self.validation is not None:
            text = f"{config.name} is scored by `jde bench embedders`; expected none"
            raise ValueError(f"validation: got sequences, but {text}")
        for item in fields(self):
            if item.name in JOINT_ONLY and getattr(self, item.name) != item.default:
                got = f"got {getattr(self, item.name)!r} with {config.name}"
                raise ValueError(f"{item.name}: {got}, expected `crops: {{losses: ...}}` or none")
        losses = self.crops.losses
        if losses is not None and losses.teacher and not self.appearance_teacher:
            text = f"got teacher {losses.teacher} without an appearance_teacher"
            raise ValueError(f"crops losses: {text}, expected one")

    def without(self, names: Sequence[str]) -> Recipe:
        """The recipe without some of its sources, as for leave-one-sequence-out validation.

        Sources that share a scene with one that is left out go too, since they show the same people
        in the same place.

        Args:
            names: Paths of sources, the last parts of their paths, or their scenes.

        Raises:
            ValueError: If no source has such a name, or no source is left.
        """
        gone: set[Source] = set()
        for name in names:
            own = {s for s in self.sources if name in (s.path, s.name, *s.scenes)}
            if not own:
                accepted = dict.fromkeys(n for s in self.sources for n in (s.path, *s.scenes))
                raise ValueError(f"leave-out: got {name}, expected {', '.join(accepted)}")
            gone |= own
        while twins := {s for s in self.sources if s not in gone and _is_twin(s, gone)}:
            gone |= twins
        return replace(self, sources=tuple(s for s in self.sources if s not in gone))

    @property
    def config(self) -> JDEConfig:
        """Configuration of the joint network to train."""
        return CONFIGURATIONS[self.network]

    @property
    def reid(self) -> ReidConfig | None:
        """Configuration of the re-identification network to train; None for a joint one."""
        own = REID_CONFIGURATIONS.get(self.network)
        size = self.crops.size
        return own if own is None or size is None else replace(own, size=size)

    @property
    def crop_groups(self) -> set[int]:
        """Indices of the sources of cut-out people."""
        return {index for index, s in enumerate(self.sources) if s.kind == "crops"}


def _is_twin(source: Source, others: Iterable[Source]) -> bool:
    """Whether a source shows a scene of one of the others; a path's last part may name a scene."""
    return any(
        set(source.scenes) & {other.name, *other.scenes} or source.name in other.scenes
        for other in others
    )


def _build(kind: type[Value], name: str, values: Any) -> Value:
    """A dataclass from a mapping of the file.

    Raises:
        ValueError: If it is not a mapping, or a key is unknown or missing.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{name}: got {values!r}, expected a mapping of settings")
    known = [f.name for f in fields(kind)]  # type: ignore[arg-type]
    unknown = [key for key in values if key not in known]
    if unknown:
        raise ValueError(f"{name}: got {unknown[0]!r}, expected {', '.join(known)}")
    tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    try:
        kind(**tuples)  # raises its own messages first
    except (TypeError, AttributeError, LookupError) as error:  # of a missing key or wrong type
        _check_types(kind, name, tuples)
        raise ValueError(f"{name}: {error}") from None
    return kind(**_check_types(kind, name, tuples))


def _check_types(kind: type[Any], name: str, values: dict[str, Any]) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {key: _typed(f"{name}: {key}", hints[key], value) for key, value in values.items()}


def _typed(name: str, hint: Any, value: Any) -> Any:
    """The value converted to the type of its field; values of dataclasses were built before."""
    from pydantic import TypeAdapter, ValidationError

    if is_dataclass(value) or (isinstance(value, tuple) and any(map(is_dataclass, value))):
        return value
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].replace("Input should be", "expected")
        raise ValueError(f"{name}: got {value!r}, {reason}") from None


def parse_recipe(settings: Any) -> Recipe:
    """A recipe from the plain values of its file.

    Raises:
        ValueError: If a key or value is wrong; one line.
    """
    if not isinstance(settings, Mapping):
        raise ValueError("training configuration: expected a mapping of settings")
    values = dict(settings)
    listed = values.get("sources")
    if not isinstance(listed, list):
        raise ValueError("sources: expected a list of kind and path")
    values["sources"] = [_build(Source, f"source {i + 1}", s) for i, s in enumerate(listed)]
    values["training"] = _build(TrainingConfig, "training", values.get("training", {}))
    if "augmentation" in values:
        values["augmentation"] = _build(Augmentation, "augmentation", values["augmentation"])
    if "crops" in values:
        values["crops"] = _build(CropConfig, "crops", _nested_crops(values["crops"]))
    if values.get("validation") is not None:
        validation = _with_lists(values["validation"])
        values["validation"] = _build(ValidationConfig, "validation", validation)
    return _build(Recipe, "training configuration", values)


def _with_lists(validation: Any) -> Any:
    """The settings of validation with their labelled pictures built; a name alone is a `list`."""
    if not isinstance(validation, Mapping):
        return validation
    built = {}
    for name in ("detection", "embedding"):
        listed = validation.get(name)
        if isinstance(listed, list):
            entries = [{"kind": "list", "path": e} if isinstance(e, str) else e for e in listed]
            built[name] = [
                _build(Source, f"validation {name} {i + 1}", e) for i, e in enumerate(entries)
            ]
    return {**validation, **built}


def _nested_crops(crops: Any) -> Any:
    """The settings of crops with their losses and views built."""
    if not isinstance(crops, Mapping):
        return crops
    kinds: dict[str, type[Any]] = {"losses": LossWeights, "views": CropViews}
    built = {
        name: _build(kind, f"crops {name}", crops[name])
        for name, kind in kinds.items()
        if crops.get(name) is not None
    }
    return {**crops, **built}


def read_recipe(path: Path) -> Recipe:
    """The recipe of a YAML file.

    Raises:
        ValueError: If it is missing, not YAML, or holds a wrong value; one line.
    """
    try:
        settings = read_yaml(path)
    except ValueError as error:
        raise ValueError(f"config: {error}") from None
    return parse_recipe(settings)
