"""Draw tracks on frames and on videos."""

from __future__ import annotations

import colorsys
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.formats.tracks import TrackRows
from jde_ray.pipelines.video.encoder import write_video
from jde_ray.pipelines.video.frame import Image

Point = tuple[float, float]
Colour = tuple[int, int, int]

TRAIL_S = 1.5
_GOLDEN = 0.61803398875


def track_colour(track_id: int) -> Colour:
    """RGB of a track, the same everywhere; neighbouring ids are far apart in hue."""
    lightness = (0.55, 0.42, 0.66)[track_id // 7 % 3]
    red, green, blue = colorsys.hls_to_rgb(track_id * _GOLDEN % 1.0, lightness, 0.9)
    return round(red * 255), round(green * 255), round(blue * 255)


class Trails:
    """Recent foot points of each track.

    Args:
        num_frames: Points kept per track; a track not seen for this many frames is forgotten.
    """

    def __init__(self, num_frames: int) -> None:
        self._num_frames = max(2, num_frames)
        self._clock = 0
        self._seen: dict[int, int] = {}
        self.points: dict[int, deque[Point]] = {}

    def update(self, track_ids: IntArray, tlbr: FloatArray) -> Mapping[int, Sequence[Point]]:
        """Add the boxes `(n, 4)` of one frame; return all trails, oldest point first."""
        self._clock += 1
        for track_id, (x1, _, x2, y2) in zip(track_ids.tolist(), tlbr.tolist(), strict=True):
            trail = self.points.setdefault(track_id, deque(maxlen=self._num_frames))
            trail.append(((x1 + x2) / 2, y2))
            self._seen[track_id] = self._clock
        for track_id in [i for i, at in self._seen.items() if self._clock - at > self._num_frames]:
            del self._seen[track_id], self.points[track_id]
        return self.points


def draw_tracks(
    image: Image,
    track_ids: IntArray,
    tlbr: FloatArray,
    scores: FloatArray | None,
    trails: Mapping[int, Sequence[Point]] | None = None,
    caption: str = "",
) -> Image:
    """A copy of a frame with its tracks.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        track_ids: `(n,)` ids.
        tlbr: `(n, 4)` corners in pixels.
        scores: `(n,)` in [0, 1], written beside the ids; None to write the ids alone.
        trails: Foot points by track id, oldest first; those of the given tracks are drawn.
        caption: Text in the upper left corner.
    """
    canvas = np.ascontiguousarray(image).copy()
    line = max(1, round(image.shape[0] / 480))
    order = np.argsort(tlbr[:, 3], kind="stable")  # the nearest last, on top of the others
    for i in order:
        _draw_trail(canvas, (trails or {}).get(int(track_ids[i]), ()), int(track_ids[i]), line)
    for i in order:
        track_id, corners = int(track_ids[i]), np.round(tlbr[i] * 8).astype(int).tolist()
        colour = track_colour(track_id)
        cv2.rectangle(canvas, corners[:2], corners[2:], colour, line, cv2.LINE_AA, 3)
        text = str(track_id) if scores is None else f"{track_id}  {scores[i]:.2f}"
        _draw_label(canvas, text, (float(tlbr[i, 0]), float(tlbr[i, 1])), colour)
    if caption:
        _draw_label(canvas, caption, (4.0, 1e9), (24, 24, 24), at_top=True)
    return canvas


def _draw_trail(canvas: Image, trail: Sequence[Point], track_id: int, line: int) -> None:
    if len(trail) < 2:
        return
    points = np.round(np.array(trail) * 8).astype(np.int32)
    cv2.polylines(canvas, [points], False, track_colour(track_id), line, cv2.LINE_AA, 3)


def _draw_label(
    canvas: Image, text: str, corner: Point, colour: Colour, *, at_top: bool = False
) -> None:
    """Text on a filled rectangle above `corner`, moved into the frame if it would leave it."""
    height, width = canvas.shape[:2]
    scale = max(0.36, height / 1500)
    weight = 2 if height >= 900 else 1
    (wide, tall), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, weight)
    pad = max(2, tall // 4)
    plate_w, plate_h = wide + 2 * pad, tall + below + pad
    left = int(min(max(corner[0], 0), max(width - plate_w, 0)))
    top = 4 if at_top else int(min(max(corner[1] - plate_h, 0), max(height - plate_h, 0)))
    cv2.rectangle(canvas, (left, top), (left + plate_w, top + plate_h), colour, -1, cv2.LINE_AA)
    luminance = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]
    ink = (0, 0, 0) if luminance > 130 else (255, 255, 255)
    foot = (left + pad, top + tall + pad)
    cv2.putText(canvas, text, foot, cv2.FONT_HERSHEY_SIMPLEX, scale, ink, weight, cv2.LINE_AA)


def annotate(
    frames: Iterable[tuple[int, float, Image]],
    rows: pa.Table,
    out: Path,
    frames_per_second: float,
) -> int:
    """Write a video with its tracks drawn on every frame.

    Args:
        frames: Frame index from 0, presentation time in seconds and `(H, W, 3)` uint8 RGB.
        rows: Table of `tracks/*.parquet`, in any order.
        out: Path of the mp4 file, which appears once it is complete.
        frames_per_second: Nominal rate, for players and the length of trails.

    Returns:
        Number of frames written.

    Raises:
        RunError: If this build of PyAV has no H.264 encoder.
        ValueError: If there are no frames.
    """
    return write_video(_annotated(frames, rows, frames_per_second), out, frames_per_second)


def _annotated(
    frames: Iterable[tuple[int, float, Image]], table: pa.Table, frames_per_second: float
) -> Iterator[tuple[float, Image]]:
    rows = TrackRows.from_table(table)
    trails = Trails(round(TRAIL_S * frames_per_second))
    for frame_index, time_s, image in frames:
        own = rows.in_frame(frame_index)
        points = trails.update(own.track_id, own.tlbr)
        caption = f"frame {frame_index}   {time_s:.2f} s"
        drawn = draw_tracks(image, own.track_id, own.tlbr, own.score, points, caption)
        yield time_s, drawn
