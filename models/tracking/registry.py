"""The associations by name, with all that the tracker and the settings need to know of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple, TypeAlias

from jde_ray.models.tracking import area_kalman, kalman, mean_velocity
from jde_ray.models.tracking.config import TrackingConfig
from jde_ray.models.tracking.frame import Frame, Step
from jde_ray.models.tracking.track import MotionModel, TrackStore
from jde_ray.models.tracking.trackers import (
    bytetrack,
    cbiou,
    cnnmtt,
    deepsort,
    jde,
    poi,
    published,
    ran,
    sort,
    tap,
)
from jde_ray.models.tracking.trackers.bytetrack import ByteTrackConfig
from jde_ray.models.tracking.trackers.cbiou import CBiouConfig
from jde_ray.models.tracking.trackers.cnnmtt import CnnmttConfig
from jde_ray.models.tracking.trackers.deepsort import GALLERY, DeepSortConfig
from jde_ray.models.tracking.trackers.poi import PoiConfig
from jde_ray.models.tracking.trackers.ran import RanConfig
from jde_ray.models.tracking.trackers.sort import SortConfig
from jde_ray.models.tracking.trackers.tap import TapConfig

AssociationConfig: TypeAlias = (
    TrackingConfig
    | SortConfig
    | DeepSortConfig
    | ByteTrackConfig
    | CBiouConfig
    | PoiConfig
    | CnnmttConfig
    | TapConfig
    | RanConfig
)


class Association(NamedTuple):
    """Description of an association; a new one is one more row of `ASSOCIATIONS`.

    Attributes:
        config: Class of its settings, a frozen dataclass with a default for each field; the default
            of `association` is its name.
        advance: Advances the tracks by one frame; afterwards the `TRACKED` ones are reported.
        motion: Motion model of its tracks.
        gallery: Number of embeddings kept per track in addition to the smoothed one.
        extra: Number of further numbers per track that it keeps for itself; those of a learned
            appearance are not among them.
    """

    config: type[Any]
    advance: Callable[[TrackStore, Frame, Any, Step], None]
    motion: MotionModel
    gallery: int = 0
    extra: int = 0


def _advance_ours(store: TrackStore, frame: Frame, config: TrackingConfig, step: Step) -> None:
    advance = published.associate if config.mode == "published" else jde.associate
    advance(store, frame, config, step)


ASSOCIATIONS: dict[str, Association] = {
    row.config().association: row
    for row in (
        Association(TrackingConfig, _advance_ours, kalman),
        Association(SortConfig, sort.associate, area_kalman),
        Association(DeepSortConfig, deepsort.associate, kalman, gallery=GALLERY),
        Association(ByteTrackConfig, bytetrack.associate, kalman),
        Association(CBiouConfig, cbiou.associate, mean_velocity),
        Association(PoiConfig, poi.associate, kalman, extra=poi.EXTRA),
        Association(CnnmttConfig, cnnmtt.associate, kalman, extra=cnnmtt.EXTRA),
        Association(TapConfig, tap.associate, kalman),
        Association(RanConfig, ran.associate, mean_velocity, extra=ran.EXTRA),
    )
}
CONFIGS: dict[str, type[Any]] = {name: row.config for name, row in ASSOCIATIONS.items()}


def build_config(association: str = "jde", **settings: Any) -> AssociationConfig:
    """Settings of an association, given its name.

    Args:
        association: One of `CONFIGS`.
        settings: Values of its fields; the others keep their defaults.

    Raises:
        ValueError: If there is no such association, it has no such setting, or a value is out of
            range.
    """
    if association not in CONFIGS:
        raise ValueError(f"association: got {association!r}, expected {' | '.join(CONFIGS)}")
    known = [field.name for field in fields(CONFIGS[association]) if field.name != "association"]
    for name in settings:
        if name not in known:
            raise ValueError(
                f"{name}: no setting of association {association}, expected {', '.join(known)}"
            )
    config: AssociationConfig = CONFIGS[association](**settings)
    return config


def settled(config: AssociationConfig) -> AssociationConfig:
    """The settings, after a look at the files that they name.

    Raises:
        ValueError: If a file is missing, or another one than expected; one line.
    """
    return config.settled() if isinstance(config, RanConfig) else config


def least_score(config: AssociationConfig, *, has_embeddings: bool) -> float:
    """Score below which detections, with or without embeddings, change nothing."""
    if isinstance(config, TrackingConfig) and not has_embeddings:
        return config.least_blind_score
    return config.least_score


def check_embedder(config: AssociationConfig, sha256: str) -> None:
    """Refuse embeddings of another network than that from which the association has learned.

    Args:
        config: Settings that chose the association.
        sha256: Fingerprint of the embeddings' network; empty if it is unknown.

    Raises:
        ValueError: If it is another one; one line.
    """
    if isinstance(config, RanConfig):
        config.check_embedder(sha256)


def embedding_width(config: AssociationConfig) -> int:
    """Length of the embeddings from which the association has learned; 0 if any is right."""
    looks = config.looks if isinstance(config, RanConfig) else None
    return 0 if looks is None else looks.projection.width


def check_width(config: AssociationConfig, embedding_dim: int) -> None:
    """Refuse embeddings of another length than those from which the association has learned.

    Raises:
        ValueError: If their length is another one, and not 0.
    """
    learned = embedding_width(config)
    if learned and embedding_dim not in (0, learned):
        text = f"expected {learned}, from which the tracking weights were learned"
        raise ValueError(f"embeddings: got width {embedding_dim}, {text}")


def build_store(config: AssociationConfig, embedding_dim: int) -> TrackStore:
    """An empty table of tracks for the association."""
    row = ASSOCIATIONS[config.association]
    extra = row.extra
    if isinstance(config, RanConfig):
        extra = ran.num_extra(config, embedding_dim)
    return TrackStore(embedding_dim, motion=row.motion, gallery=row.gallery, extra=extra)


def associate(store: TrackStore, frame: Frame, config: AssociationConfig, step: Step) -> None:
    """Advance the tracks by one frame; afterwards the `TRACKED` ones are to be reported.

    Args:
        store: Table from `build_store`.
        frame: Detections of this frame.
        config: Settings that choose the association.
        step: Time of this frame.
    """
    ASSOCIATIONS[config.association].advance(store, frame, config, step)
