"""`BoxTracker`: the association alone, behind a detector of the caller's own."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from jde_ray.models.structures import Tracks
from jde_ray.models.tracking.registry import build_config
from jde_ray.models.tracking.tracker import JDETracker


class BoxTracker:
    """Keeps the ids of people whose boxes a detector of your own finds, frame after frame.

    Args:
        association: How detections become tracks: `jde`, `sort`, `deepsort` or `bytetrack`.
        frames_per_second: Nominal rate of the frames.
        settings: Settings of the association by name, such as `track_buffer` or `high_score`; the
            table in docs/association.md has them all.

    Raises:
        ValueError: If there is no such association or setting, or a value is out of range.
    """

    def __init__(
        self, association: str = "jde", *, frames_per_second: float = 30.0, **settings: Any
    ) -> None:
        self.config = build_config(association, **settings)
        self._frames_per_second = frames_per_second
        self.reset()

    def reset(self) -> None:
        """Forget everybody: the next frame is the first one of another video."""
        self._tracker = JDETracker(self.config, self._frames_per_second)

    def update(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        embeddings: ArrayLike | None = None,
        *,
        time_s: float | None = None,
    ) -> Tracks:
        """Tracks in the next frame, from its detections; call it for frames without any, too.

        Args:
            boxes: `(N, 4)` corners x1, y1, x2, y2 in pixels.
            scores: `(N,)` confidence from 0 to 1.
            embeddings: `(N, D)` appearance vectors; None: overlap and motion alone.
            time_s: When the frame was taken, in seconds; None: one frame after the last at the
                nominal rate.

        Returns:
            Ids, boxes and scores of the tracks in this frame; `detection_index` names the row of
            `boxes` that each took.

        Raises:
            ValueError: If the shapes disagree or a number is out of range. The tracker is unchanged
                then.
        """
        return self._tracker.update(boxes, scores, embeddings, time_s=time_s)
