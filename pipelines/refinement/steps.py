"""The steps of a refinement, and their settings."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from jde_ray.models.tracking.postprocessing.evidence import LinkSettings
from jde_ray.models.tracking.postprocessing.glimpses import Embeddings
from jde_ray.models.tracking.postprocessing.linking import link
from jde_ray.models.tracking.postprocessing.smoothing import smooth
from jde_ray.models.tracking.postprocessing.trajectories import (
    Trajectories,
    drop_short,
    interpolate,
)


@dataclass(frozen=True, kw_only=True)
class RefineConfig:
    """Steps of a refinement, in this order; each is off by default.

    Attributes:
        relink: How to cut and join tracks; None leaves them as they are.
        min_track_length: Leave out tracks seen in fewer frames.
        interpolate: Fill gaps of up to this many frames.
        smooth: Smooth boxes over all frames of their track.
        reid_sha256: Fingerprint of the network that looks at the tracks again for `relink`
            (`pipelines.second_looks`); empty for none.

    Raises:
        ValueError: If a value is out of range.
    """

    relink: LinkSettings | None = None
    min_track_length: int = 1
    interpolate: int = 0
    smooth: bool = False
    reid_sha256: str = ""

    def __post_init__(self) -> None:
        if self.reid_sha256 and self.relink is None:
            raise ValueError("reid: nothing is joined without --relink; leave it out")
        for name, value, low in (
            ("min-track-length", self.min_track_length, 1),
            ("interpolate", self.interpolate, 0),
        ):
            if not low <= value <= 1_000_000:
                raise ValueError(f"{name}: got {value}, expected {low} to 1000000")

    @property
    def does_nothing(self) -> bool:
        """Whether all steps are off."""
        return self == RefineConfig()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as stored in `run.json`."""
        values: dict[str, Any] = asdict(self)
        if not self.reid_sha256:  # as records had none before
            del values["reid_sha256"]
        return values


# the steps that pay on sequences they were not chosen on (docs/decisions/0015-offline-linking.md)
USUAL = RefineConfig(relink=LinkSettings(), interpolate=20, smooth=True)


def refine_tracks(
    tracks: Trajectories,
    config: RefineConfig,
    frames_per_second: float,
    stride: int = 1,
    embeddings: Embeddings | None = None,
) -> Trajectories:
    """Apply the steps of `config` in their order.

    Args:
        tracks: All tracks of a video.
        config: Steps to apply.
        frames_per_second: Nominal rate of the video; limits in seconds depend on it.
        stride: The run processed every n-th frame.
        embeddings: `(N, D)` appearance vectors by `tracks.source`, if there are any.
    """
    if config.relink is not None:
        tracks = link(tracks, config.relink, frames_per_second, stride, embeddings)
    tracks = drop_short(tracks, config.min_track_length)
    if config.interpolate:
        tracks = interpolate(tracks, config.interpolate, stride=stride)
    return smooth(tracks, stride=stride) if config.smooth else tracks
