"""A training configuration: network, sources, losses and budget, checked before the start."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, replace
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

from jde_ray.models.jde.config import JDEConfig
from jde_ray.models.losses.config import DEFAULTS, LossConfig
from jde_ray.models.reid.config import ReidConfig
from jde_ray.pipelines.training.crop_settings import CropConfig
from jde_ray.pipelines.training.network_names import NetworkNames, names_of
from jde_ray.pipelines.training.settings import (
    SAMPLINGS,
    Augmentation,
    Sampling,
    TrainingConfig,
    ValidationConfig,
    _choose,
)
from jde_ray.pipelines.training.source import Source
from jde_ray.pipelines.training.track_settings import PieceConfig

Value = TypeVar("Value")
LOSSES = tuple(item.name for item in fields(LossConfig))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A training configuration; paths are relative to the data root.

    Attributes:
        network: Name of a configuration of any kind (`pipelines.training.network_names`).
        sources: Sources of images.
        training: Budget and learning rates.
        augmentation: Ranges of the random changes.
        validation: Sequences and lists that are scored during training; None for none.
        size: Width and height of the input, multiples of 32; None for those of `network`.
            Anchors stay.
        anchors: `code` for those of `network`, `text` for those of the paper's text
            (`JDEConfig.with_text_anchors`).
        embedding_loss: This and the next seven are described in `models.losses.config.LossConfig`.
        margin: See there.
        weighting: See there.
        fixed_weights: See there.
        uncertainty_start: See there.
        mgda_over: See there.
        mgda_normalised: See there.
        assignment: See there; only for networks with anchors.
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
        crops: How a re-identification network learns.
        pieces: How a motion network learns.

    Raises:
        ValueError: If a value is wrong.
    """

    network: str
    sources: tuple[Source, ...]
    training: TrainingConfig
    augmentation: Augmentation = field(default_factory=Augmentation)
    validation: ValidationConfig | None = None
    size: tuple[int, int] | None = None
    anchors: Literal["code", "text"] = "code"
    embedding_loss: str = DEFAULTS.embedding_loss
    margin: float = DEFAULTS.margin
    weighting: str = DEFAULTS.weighting
    fixed_weights: tuple[float, float] = DEFAULTS.fixed_weights
    uncertainty_start: Literal["published", "equal"] = DEFAULTS.uncertainty_start
    mgda_over: Literal["head", "all"] = DEFAULTS.mgda_over
    mgda_normalised: bool = DEFAULTS.mgda_normalised
    assignment: tuple[float, float] = DEFAULTS.assignment
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
    pieces: PieceConfig = field(default_factory=PieceConfig)

    def __post_init__(self) -> None:
        self._check_kind()
        _choose("anchors", self.anchors, ("code", "text"))
        self._check_losses(self.losses)  # which refuses wrong values
        _choose("sampling", self.sampling, SAMPLINGS)
        if not all(isinstance(one, int | float) and 0 < one < math.inf for one in self.aspects):
            raise ValueError(f"aspects: got {list(self.aspects)}, expected numbers above 0")
        if not self.sources:
            raise ValueError("sources: got none, expected a list of kind and path")
        self._check_teacher()
        from_published = self.initial and self.network.startswith("darknet53")
        if self.initial_classifier and not (
            from_published and self.embedding_loss == "cross_entropy"
        ):
            raise ValueError(
                "initial_classifier: got true, expected a darknet53 network, embedding_loss "
                "cross_entropy and a published checkpoint as initial"
            )
        if self.validation is not None:
            self._check_validation(self.validation)

    def _check_kind(self) -> None:
        """Refuse settings that the network does not have, and a size that does not fit."""
        names = names_of(self.network)
        for item in fields(self):
            if item.name in names.lacks and getattr(self, item.name) != _default(item):
                got = f"got it with {self.network}"
                raise ValueError(f"{item.name}: {got}, expected {names.lacks[item.name]}")
        if names.from_crops:
            config = self.reid_config
            if self.crops.only_parts and not (config.refined and self.initial):
                text = f"got true with {self.network}, expected a refined network and `initial`"
                raise ValueError(f"crops only_parts: {text}")
        others = [source.kind for source in self.sources if source.kind != "sequence"]
        if names.from_tracks and others:
            raise ValueError(
                f"source kind: got {others[0]!r} with {self.network}, expected sequence"
            )

    def _check_losses(self, losses: LossConfig) -> None:
        has_anchors = self.names.kind == "joint" and self.config.score == "softmax"
        if losses.assignment != DEFAULTS.assignment and not has_anchors:
            got = f"got {losses.assignment} with {self.network}"
            raise ValueError(f"assignment: {got}, expected a network with anchors")

    def _check_teacher(self) -> None:
        losses, teacher = self.crops.losses, self.appearance_teacher
        if losses is not None and losses.teacher and not teacher:
            text = f"got teacher {losses.teacher} without an appearance_teacher"
            raise ValueError(f"crops losses: {text}, expected one")
        if teacher and self.names.kind == "joint" and self.config.score == "softmax":
            text = "only networks without anchors learn from a teacher"
            raise ValueError(f"appearance_teacher: got {teacher}; {text}")

    def _check_validation(self, validation: ValidationConfig) -> None:
        if validation.keep_best == "tpr_at_far" and not self.names.learns_identities:
            text = f"{self.network} has no embeddings; expected ap | mota | idf1"
            raise ValueError(f"validation keep_best: got tpr_at_far, but {text}")

    def check_unseen(self) -> None:
        """Refuse a validation on what is learned from; call it when sources have been left out.

        Raises:
            ValueError: If something under `validation` is a source, or shows the scene of one.
        """
        if self.validation is None:
            return
        for path in (*self.validation.sequences, *(one.path for one in self.validation.lists)):
            names = {path, PurePosixPath(path).name}
            for source in self.sources:
                if source.path == path or names & set(source.scenes):
                    also = "" if source.path == path else " shows its scene and"
                    raise ValueError(
                        f"validation: got {path}, source {source.path}{also} is learned from; "
                        "expected what is not"
                    )

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
    def names(self) -> NetworkNames:
        """The kind of the network to train."""
        return names_of(self.network)

    @property
    def losses(self) -> LossConfig:
        """Losses of the joint network and their balance."""
        return LossConfig(**{name: getattr(self, name) for name in LOSSES})

    @property
    def config(self) -> JDEConfig:
        """Configuration of the joint network to train."""
        config: JDEConfig = self.names.configurations[self.network]
        if self.anchors == "text":
            config = config.with_text_anchors()
        return config if self.size is None else config.at_size(self.size)

    @property
    def reid_config(self) -> ReidConfig:
        """Configuration of the re-identification network to train, with the size of its crops."""
        own: ReidConfig = self.names.configurations[self.network]
        return own if self.crops.size is None else replace(own, size=self.crops.size)

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the network's input."""
        if self.names.from_crops:
            return self.reid_config.size
        if self.names.kind == "joint":
            return self.config.size
        size: tuple[int, int] = self.names.configurations[self.network].size
        return size

    @property
    def teacher_width(self) -> int:
        """Length of the teacher's vectors that the network learns; 0 for none."""
        return self.config.embedding_dim if self.names.kind == "joint" else 0

    @property
    def crop_groups(self) -> set[int]:
        """Indices of the sources of cut-out people."""
        return {index for index, s in enumerate(self.sources) if s.kind == "crops"}


def _default(item: Field[Any]) -> Any:
    """The value of a field that a recipe does not name."""
    return item.default if item.default_factory is MISSING else item.default_factory()


def _is_twin(source: Source, others: Iterable[Source]) -> bool:
    """Whether a source shows a scene of one of the others; a path's last part may name a scene."""
    return any(
        set(source.scenes) & {other.name, *other.scenes} or source.name in other.scenes
        for other in others
    )
