"""Sources of training images, as a recipe lists them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from jde_ray.pipelines.video.frame_numbers import follow

VIDEOS = ("sequence", "synthetic", "cvat")  # kinds whose pictures are consecutive frames
KINDS = (
    "sequence", "boxes", "backgrounds", "crops", "list", "frames", "synthetic", "coco", "cvat"
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Source:
    """One entry of the list `sources` in a training configuration.

    Attributes:
        kind: `sequence` (MOT layout), `boxes`, `backgrounds`, `crops` (a folder `images/` and one
            table), `list` (a `.train` file of the unified JDE format), `frames` (unlabelled),
            `synthetic` (rendered; then `path` is the number of scenes), `coco` (a JSON file) or
            `cvat` (an XML file of CVAT for video 1.1).
        path: Path below the data root.
        weight: Share of the images drawn, relative to the other sources.
        every: Take every n-th frame.
        squashed: Whether its images were stretched to a square, so that its people are too thin.
        partly_labelled: Whether a `sequence` leaves people out: what else the `detector_teacher`
            finds there becomes an ignored region, as always in `boxes`.
        identities: The labels use numbers below this one, which are kept; None for no limit.
        video: Whether neighbouring pictures are frames of a video, which `sampling: pairs`
            requires. None means true for `sequence`, `synthetic` and `cvat` only.
        largest_gap: Largest distance in frames of two that form a pair; None for `every`. In a
            list file names count (`pipelines.video.frame_numbers.follow`).
        strangers: Whether its pictures are unrelated, so that everybody without an identity is a
            person of their own. The network then learns what a change of light, size and place
            leaves of a person, from one picture of each.
        scene: Names of place and time; sources that share one are left out together.

    Raises:
        ValueError: If a value is wrong.
    """

    kind: str
    path: str
    weight: float = 1.0
    every: int = 1
    squashed: bool = False
    partly_labelled: bool = False
    identities: int | None = None
    video: bool | None = None
    largest_gap: int | None = None
    strangers: bool = False
    scene: str | tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"source kind: got {self.kind!r}, expected {' | '.join(KINDS)}")
        if not all(isinstance(name, str) and name for name in self.scenes):
            got = f"got scene {self.scene!r}"
            raise ValueError(f"source {self.path}: {got}, expected a name or a list of names")
        if self.weight <= 0 or self.every < 1:
            got = f"weight {self.weight}, every {self.every}"
            raise ValueError(f"source {self.path}: got {got}, expected numbers above 0")
        if self.identities is not None and (
            not isinstance(self.identities, int) or self.identities < 0
        ):
            got = f"identities {self.identities!r}"
            raise ValueError(f"source {self.path}: got {got}, expected 0 or more")
        if self.video not in (None, True, False):
            raise ValueError(f"source {self.path}: got video {self.video!r}, expected true | false")
        may_be = (*VIDEOS, "list", "coco")
        if self.video and self.kind not in may_be:
            got = f"got video of kind {self.kind}"
            raise ValueError(f"source {self.path}: {got}, expected {' | '.join(may_be)}")
        if self.largest_gap is not None and self.largest_gap < 1:
            got = f"largest_gap {self.largest_gap}"
            raise ValueError(f"source {self.path}: got {got}, expected 1 or more")
        if self.strangers not in (True, False):
            got = f"got strangers {self.strangers!r}"
            raise ValueError(f"source {self.path}: {got}, expected true | false")
        if self.strangers and (self.kind != "boxes" or self.identities is not None):
            got = f"got strangers of kind {self.kind}"
            raise ValueError(f"source {self.path}: {got}, expected boxes without `identities`")

    @property
    def name(self) -> str:
        """The last part of its path."""
        return PurePath(self.path).name

    @property
    def scenes(self) -> tuple[str, ...]:
        """Names of its scenes."""
        return self.scene if isinstance(self.scene, tuple) else (self.scene,)

    @property
    def is_video(self) -> bool:
        """Whether its pictures are consecutive frames."""
        return self.kind in VIDEOS if self.video is None else self.video

    def runs(self, paths: Sequence[Path]) -> list[str]:
        """The run of frames that each picture, in order, belongs to; empty for none."""
        if not self.is_video:
            return [""] * len(paths)
        return follow(paths, self.largest_gap or self.every)
