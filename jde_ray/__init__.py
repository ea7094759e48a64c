"""People tracked in videos and streams: the JDE network as a streaming dataflow on Ray.

    from jde_ray import track

    summary = track("recordings/", "runs/archive")

`jde_ray.models`, `jde_ray.pipelines` and `jde_ray.jobs` are the three folders; in a checkout this
folder holds links to them. Nothing is imported until it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jde_ray.pipelines.live.box_tracker import BoxTracker
    from jde_ray.pipelines.live.detector import Detector, similarity
    from jde_ray.pipelines.live.results import read_detections, read_tracks
    from jde_ray.pipelines.live.tracker import Tracker
    from jde_ray.pipelines.serving.client.connection import connect
    from jde_ray.pipelines.tracking.track import track

__all__ = [
    "BoxTracker",
    "Detector",
    "Tracker",
    "__version__",
    "connect",
    "read_detections",
    "read_tracks",
    "similarity",
    "track",
]

_HOMES = {
    "BoxTracker": "jde_ray.pipelines.live.box_tracker",
    "Detector": "jde_ray.pipelines.live.detector",
    "Tracker": "jde_ray.pipelines.live.tracker",
    "read_detections": "jde_ray.pipelines.live.results",
    "read_tracks": "jde_ray.pipelines.live.results",
    "similarity": "jde_ray.pipelines.live.detector",
    "connect": "jde_ray.pipelines.serving.client.connection",
    "track": "jde_ray.pipelines.tracking.track",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version("jde-ray")
        except PackageNotFoundError:  # a checkout on the path, not installed
            return "0+checkout"
    raise AttributeError(f"module 'jde_ray' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
