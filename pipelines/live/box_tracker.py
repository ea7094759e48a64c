"""`BoxTracker`: the association alone, for detections of the caller's own detector."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from jde_ray.models.structures import Tracks
from jde_ray.models.tracking.registry import build_config
from jde_ray.models.tracking.tracker import JDETracker


class BoxTracker:
    """Tracks people, frame by frame, from the boxes of your own detector.

    Args:
        association: How detections become tracks, a key of `models.tracking.registry.ASSOCIATIONS`.
        frames_per_second: Nominal rate of the frames.
        settings: Settings of the association by name, such as `track_buffer` or `high_score`;
            docs/association.md lists them all.

    Raises:
        ValueError: If an association or setting is unknown, or a value is out of range.
    """

    def __init__(
        self, association: str = "jde", *, frames_per_second: float = 30.0, **settings: Any
    ) -> None:
        self.config = build_config(association, **settings)
        self._frames_per_second = frames_per_second
        self.reset()

    def reset(self) -> None:
        """Forget all tracks: the next frame is the first of another video."""
        self._tracker = JDETracker(self.config, self._frames_per_second)

    def update(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        embeddings: ArrayLike | None = None,
        *,
        quality: ArrayLike | None = None,
        time_s: float | None = None,
        camera_motion: ArrayLike | None = None,
    ) -> Tracks:
        """Track the detections of the next frame; call this for frames without detections, too.

        Args:
            boxes: `(N, 4)` corners x1, y1, x2, y2 in pixels.
            scores: `(N,)` confidence from 0 to 1.
            embeddings: `(N, D)` appearance vectors; None to use only overlap and motion.
            quality: `(N,)` how much each vector counts in its track's appearance, 0 or more, in all
                frames or in none; only `poi` uses it. None: all count alike.
            time_s: Time of the frame in seconds; None for one frame after the last at the nominal
                rate.
            camera_motion: `(2, 3)` affine map from the last frame's pixels to this frame's; None
                for a camera that stands still.

        Returns:
            Ids, boxes and scores of the tracks in this frame; `detection_index` holds the row of
            `boxes` that each track matched.

        Raises:
            ValueError: If the shapes disagree or a number is out of range; the tracker is then
                unchanged.
        """
        return self._tracker.update(
            boxes,
            scores,
            embeddings,
            quality=quality,
            time_s=time_s,
            camera_motion=camera_motion,
        )
