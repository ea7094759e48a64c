"""`Tracker`: tracks people in a program's own frames, one frame at a time."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jde_ray.models.cards import DEFAULT_WEIGHTS
from jde_ray.models.structures import Detections, Tracks
from jde_ray.models.tracking.registry import check_embedder
from jde_ray.models.tracking.reporting import reported
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.detection.weights import embedder_sha256
from jde_ray.pipelines.live.box_tracker import BoxTracker
from jde_ray.pipelines.live.detector import Detector
from jde_ray.pipelines.video.camera_motion import Grey, motion_since, small_grey


class Tracker:
    """Tracks people from frame to frame of one video or camera.

    Its rows equal those of `jde track --resize published` for the same frames, network and number
    of threads. Ids count from 1.

    Args:
        weights: Name of a shipped network, a weight file, a YAML file of ONNX networks, or a
            `Detector`, which several trackers may share.
        frames_per_second: Nominal rate of the frames.
        association: How detections become tracks, a key of `models.tracking.registry.ASSOCIATIONS`.
        min_box_area: Boxes with a smaller area, in square pixels, are left out.
        camera_motion: Estimate how the camera moves, and move the tracks with the picture; a camera
            that stands still changes nothing.
        conf: Confidence threshold in [0, 1]; None for the association's default.
        tracking: Further settings of the association by name, such as `track_buffer`.
        options: Further settings of the `Detector`, such as `size`, `device` or `threads`.

    Attributes:
        detections: Detections of the last frame; `tracks.detection_index` holds their rows.

    Raises:
        ValueError: If a setting is wrong, or the weights cannot be used.
        OSError: If a file cannot be read.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | Detector = DEFAULT_WEIGHTS,
        *,
        frames_per_second: float = 30.0,
        association: str = "jde",
        conf: float | None = None,
        min_box_area: float = 200.0,
        camera_motion: bool = True,
        tracking: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        settings = dict(tracking or {})
        if conf is not None:
            settings["high_score"] = conf
        self._tracker = BoxTracker(association, frames_per_second=frames_per_second, **settings)
        association_settings = self._tracker.config
        if isinstance(weights, Detector):
            if options:
                name, value = next(iter(options.items()))
                raise ValueError(f"{name}: got {value!r}, but the Detector has its own settings")
            self.detector = weights
        else:
            options = {"conf": association_settings.least_score, **options}
            self.detector = Detector(weights, **options)
        self._config = TrackConfig(
            detection=self.detector.config,
            tracking=association_settings,
            min_box_area=min_box_area,
            camera_motion=camera_motion,
        )
        check_embedder(association_settings, embedder_sha256(self.detector.config))
        self.reset()

    def reset(self) -> None:
        """Forget all tracks: the next frame is the first of another video."""
        self._tracker.reset()
        self._size: tuple[int, ...] | None = None  # width and height
        self._picture: Grey | None = None  # of the last frame, small
        self.detections: Detections | None = None

    def update(self, frame: NDArray[np.uint8], *, time_s: float | None = None) -> Tracks:
        """Track people in the next frame.

        Args:
            frame: `(H, W, 3)` uint8 BGR, as OpenCV reads it (grey and BGRA are converted).
            time_s: Time of the frame in seconds; None for one frame after the last at the nominal
                rate. Pass it for a camera whose frames come irregularly.

        Returns:
            Tracks in this frame: ids, boxes as corners x1, y1, x2, y2 in pixels, scores.

        Raises:
            ValueError: If the frame is not an image, or its size differs from that of the first
                frame; the tracker is then unchanged.
            VideoError: If the network gave a number that is not finite.
        """
        if isinstance(frame, (list, tuple)) or np.ndim(frame) > 3:
            raise ValueError("frame: got several images, expected one: (H, W, 3) uint8 BGR")
        size = np.shape(frame)[:2][::-1]
        if self._size is not None and len(size) == 2 and size != self._size:
            got, wanted = ("x".join(map(str, one)) for one in (size, self._size))
            raise ValueError(
                f"frame: got {got}, expected {wanted} as before; call reset() for another video"
            )
        pixels, letterbox = self.detector.letterboxed(frame)
        found = self.detector.find(pixels, letterbox)  # only now: it takes nearly all of the time
        picture, motion = None, None
        if self._config.estimates_motion:
            picture = small_grey(pixels, letterbox)
            motion = motion_since(self._picture, picture, letterbox)
        embeddings = found.embeddings.astype(np.float32)
        tracks = self._tracker.update(
            found.tlbr,
            found.scores,
            embeddings,
            quality=found.quality,
            time_s=time_s,
            camera_motion=motion,
        )
        self._size, self._picture, self.detections = size, picture, found
        kept = reported(tracks.tlbr, self._config)
        return tracks[kept]
