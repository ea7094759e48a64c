"""The associations by name: their settings, and the function that advances tracks by a frame."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeAlias

from models.tracking import area_kalman, bytetrack, deepsort, default, kalman, published, sort
from models.tracking.bytetrack import ByteTrackConfig
from models.tracking.config import TrackingConfig
from models.tracking.deepsort import GALLERY, DeepSortConfig
from models.tracking.frame import Frame
from models.tracking.sort import SortConfig
from models.tracking.track import TrackStore

AssociationConfig: TypeAlias = TrackingConfig | SortConfig | DeepSortConfig | ByteTrackConfig

CONFIGS: dict[str, type[Any]] = {
    "jde": TrackingConfig,
    "sort": SortConfig,
    "deepsort": DeepSortConfig,
    "bytetrack": ByteTrackConfig,
}


def build_config(association: str = "jde", **settings: Any) -> AssociationConfig:
    """Settings of the association of that name.

    Args:
        association: One of `CONFIGS`.
        settings: Its fields; the others keep their defaults.

    Raises:
        ValueError: If there is no such association, it has no such setting, or a value is out of
            range.
    """
    if association not in CONFIGS:
        raise ValueError(f"association: got {association!r}, accepted is {' | '.join(CONFIGS)}")
    known = [field.name for field in fields(CONFIGS[association]) if field.name != "association"]
    for name in settings:
        if name not in known:
            raise ValueError(
                f"{name}: no setting of association {association}, accepted are {', '.join(known)}"
            )
    config: AssociationConfig = CONFIGS[association](**settings)
    return config


def build_store(config: AssociationConfig, embedding_dim: int) -> TrackStore:
    """An empty table of tracks as the association wants it."""
    if isinstance(config, SortConfig):
        return TrackStore(embedding_dim, motion=area_kalman)
    gallery = GALLERY if isinstance(config, DeepSortConfig) else 0
    return TrackStore(embedding_dim, motion=kalman, gallery=gallery)


def associate(
    store: TrackStore,
    frame: Frame,
    config: AssociationConfig,
    max_lost: float,
    now: float,
    dt: float,
    frames_per_second: float,
) -> None:
    """Advance the tracks by one frame; afterwards the `TRACKED` ones are to be reported.

    Args:
        store: Of `build_store`.
        frame: Detections of this frame.
        config: Which association, and its limits.
        max_lost: Frames after which a track not seen is forgotten.
        now: Time in frames, `default.FIRST_FRAME` for the first one; in mode `published` the
            number of the frame.
        dt: Frames since the last call.
        frames_per_second: Nominal rate.
    """
    if isinstance(config, SortConfig):
        sort.associate(store, frame, config, max_lost, now, dt)
    elif isinstance(config, DeepSortConfig):
        deepsort.associate(store, frame, config, max_lost, now, dt)
    elif isinstance(config, ByteTrackConfig):
        bytetrack.associate(store, frame, config, max_lost, now, dt)
    elif config.mode == "published":
        published.associate(store, frame, config, int(max_lost), now)
    else:
        default.associate(store, frame, config, max_lost, now, dt, frames_per_second)
