"""The formats of `jde convert`, each listed once. Their modules are imported when they are used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any

_MODULES = "jde_ray.pipelines.formats.exchange"


@dataclass(frozen=True)
class Kind:
    """A format.

    Attributes:
        module: Its module in `pipelines.formats.exchange`.
        help: What it is, for a user.
        needs: Facts about a video that it needs, see `video_tracks.FACTS`.
        clips: Whether boxes must lie inside the picture.
        is_one_file: Whether one file holds all videos; otherwise each video has its own.
        is_folder: Whether the files of a video are the content of a folder of their own.
        taken: Names that a video's file cannot have, since others look for something else there.
    """

    module: str
    help: str
    needs: tuple[str, ...] = ()
    clips: bool = False
    is_one_file: bool = False
    is_folder: bool = False
    taken: tuple[str, ...] = ()

    def load(self) -> Any:
        """The module."""
        return import_module(f"{_MODULES}.{self.module}")


_RECORD = ("convert",)  # convert.json says what a folder was made from

KINDS: dict[str, Kind] = {
    "mot": Kind("mot_challenge", "MOTChallenge text for its server and TrackEval"),
    "coco": Kind(
        "coco", "one COCO file of all videos, with track ids", ("size", "frames"), is_one_file=True
    ),
    "yolo": Kind(
        "yolo", "YOLO labels with track ids", ("size", "frames"), clips=True, is_folder=True
    ),
    "cvat": Kind(
        "cvat",
        "CVAT for video 1.1 (XML)",
        ("size", "frames"),
        taken=("annotations",),  # annotations.xml has the name of its folder
    ),
    "label-studio": Kind(
        "label_studio",
        "Label Studio tasks",
        ("size", "rate", "frames"),
        clips=True,
        taken=_RECORD,
    ),
    "fiftyone": Kind("fiftyone", "FiftyOneVideoLabelsDataset", ("size", "frames"), clips=True),
    "rekognition": Kind(
        "rekognition",
        "the answer of GetPersonTracking",
        ("size", "rate", "frames", "time"),
        taken=_RECORD,
    ),
    "video-intelligence": Kind(
        "video_intelligence",
        "personDetectionAnnotations",
        ("size", "rate", "frames", "time"),
        clips=True,
        taken=_RECORD,
    ),
    "csv": Kind("table", "the rows as they are"),
}
