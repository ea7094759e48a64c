"""The association of one video: detections of a frame in, tracks of that frame out."""

from __future__ import annotations

from numpy.typing import ArrayLike

from models.structures import Tracks
from models.tracking import published
from models.tracking.config import TrackingConfig
from models.tracking.frame import build_frame
from models.tracking.track import TrackStore


class JDETracker:
    """Keeps the identities of the people of one video from frame to frame.

    Ids count from 1 in order of first appearance and belong to the instance. Memory is bounded by
    the largest number of tracks alive at once, however long the video.

    Args:
        config: Settings.
        frames_per_second: Nominal rate of the video; scales the lost-track buffer.

    Attributes:
        num_frames: Frames seen.
        num_degenerate: Detections ignored because their box has no area.

    Raises:
        ValueError: If the rate is not positive and finite.
    """

    def __init__(self, config: TrackingConfig, frames_per_second: float) -> None:
        if not 0 < frames_per_second < float("inf"):
            raise ValueError(f"frames_per_second: got {frames_per_second}, accepted is above 0")
        self.config = config
        self.frames_per_second = frames_per_second
        self.num_frames = 0
        self.num_degenerate = 0
        self._max_lost = int(frames_per_second / 30 * config.track_buffer)
        self._store: TrackStore | None = None

    def update(
        self,
        boxes: ArrayLike,
        scores: ArrayLike,
        embeddings: ArrayLike,
        *,
        time_s: float | None = None,
    ) -> Tracks:
        """Associate the detections of the next frame.

        Args:
            boxes: `(N, 4)` tlbr in source pixels; N may be 0.
            scores: `(N,)` confidence in [0, 1].
            embeddings: `(N, D)` appearance; D may be 0 and stays the same for a video.
            time_s: Presentation time of the frame, where the rate varies.

        Returns:
            Tracks present in this frame.

        Raises:
            ValueError: If shapes disagree or a number is not finite.
        """
        frame = build_frame(boxes, scores, embeddings)
        self.num_degenerate += frame.num_degenerate
        self.num_frames += 1
        if self._store is None:
            self._store = TrackStore(frame.embeddings.shape[1])
        store = self._store
        published.associate(store, frame, self.config, self._max_lost, float(self.num_frames))
        return store.report(frame.source)
