"""Frames of cameras, plain for the page and with places drawn on them for a look."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from jde_ray.models.counting.places import Line, Zone
from jde_ray.pipelines.counting.plan import PREVIEW_PREFIX, Plan
from jde_ray.pipelines.errors import VideoError
from jde_ray.pipelines.formats.places_file import CameraPlaces
from jde_ray.pipelines.names import listed, make_id, safe_name, sequence_name
from jde_ray.pipelines.sources.discovery import Sources, find_videos
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.chunks import read_frames

logger = logging.getLogger(__name__)

_PAGE_WIDTH, _QUALITY = 640, 80
_COLOURS = ((219, 111, 47), (30, 138, 224), (118, 8, 152), (171, 197, 123))  # BGR

Image = NDArray[np.uint8]


def draw_previews(source: Sources, plan: Plan, store: ObjectStore) -> dict[str, str]:
    """Draw the places of each camera on a frame of one of its videos, into `preview/`.

    Args:
        source: Videos, folders, globs or `s3://` addresses with videos of the plan. A video is
            recognised by its id, or by its name if its folder was renamed.
        plan: The cameras and their places.
        store: OUT2.

    Returns:
        By camera its frame without places, as the `src` of an image.

    Raises:
        ValueError: If there is no video, or none of a camera of the plan.
    """
    videos, failures = find_videos(source)
    for video, error in failures:
        logger.warning("preview: %s: %s", video.uri, error)
    chosen = _by_camera(videos, plan)
    if missing := sorted(plan.places.keys() - chosen.keys()):
        logger.warning(
            "camera%s %s: no preview, since no video of the source is theirs",
            "s" * (len(missing) > 1), listed(missing, most=3),
        )  # fmt: skip
    found: dict[str, str] = {}
    for camera, own in chosen.items():
        try:
            image = _first_frame(own)
        except (VideoError, OSError, ValueError) as error:
            logger.warning("camera %s has no preview: %s: %s", camera, own.uri, error)
            continue
        drawn = draw_places(image, plan.places[camera])
        name = camera if camera == safe_name(camera) else make_id(camera, camera)
        store.put(f"{PREVIEW_PREFIX}{name}.jpg", _jpeg(drawn))
        height = max(1, round(image.shape[0] * _PAGE_WIDTH / image.shape[1]))
        small = np.asarray(cv2.resize(image, (_PAGE_WIDTH, height), interpolation=cv2.INTER_AREA))
        content = base64.b64encode(_jpeg(small.astype(np.uint8))).decode()
        found[camera] = f"data:image/jpeg;base64,{content}"
    return found


def _by_camera(videos: Sequence[Video], plan: Plan) -> dict[str, Video]:
    by_id = {video.video_id: video for video in videos}
    by_name = {safe_name(video.name): video for video in videos}
    chosen: dict[str, Video] = {}
    for group in plan.groups:
        for head in group.heads:
            named = by_name.get(sequence_name(head.video_id))
            video = by_id.get(head.video_id) or named
            if video is not None:
                chosen.setdefault(head.origin.camera, video)
    if not chosen:
        raise ValueError("preview: none of these videos has tracks in OUT")
    return chosen


def _first_frame(video: Video) -> Image:
    """The first frame of a video in BGR."""
    for _, _, image in read_frames(video):
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)
    raise ValueError("it has no frame")


def _jpeg(image: Image) -> bytes:
    return cv2.imencode(".jpg", image, (cv2.IMWRITE_JPEG_QUALITY, _QUALITY))[1].tobytes()


def draw_places(image: Image, places: CameraPlaces) -> Image:
    """A copy of a BGR frame with lines, their directions, zones, and the points of the ground."""
    canvas = image.copy()
    thick = max(2, round(image.shape[0] / 270))
    for number, zone in enumerate(places.places.zones, len(places.places.lines)):
        _zone(canvas, zone, _COLOURS[number % len(_COLOURS)], thick)
    for number, line in enumerate(places.places.lines):
        _line(canvas, line, places.directions[number], _COLOURS[number % len(_COLOURS)], thick)
    if places.places.ground is not None:
        ground = places.places.ground
        for (x, y), (u, v) in zip(ground.image, ground.metres, strict=True):
            cv2.drawMarker(canvas, (round(x), round(y)), (255, 255, 255), cv2.MARKER_CROSS, 20, 2)
            _text(canvas, (x + 6, y - 6), f"{u:g} m, {v:g} m")
    return canvas


def _zone(canvas: Image, zone: Zone, colour: tuple[int, int, int], thick: int) -> None:
    corners = np.rint(np.array(zone.points)).astype(np.int32)
    filled = canvas.copy()
    cv2.fillPoly(filled, [corners], colour)
    cv2.addWeighted(filled, 0.3, canvas, 0.7, 0, dst=canvas)
    cv2.polylines(canvas, [corners], True, colour, thick, cv2.LINE_AA)
    _text(canvas, zone.points[0], zone.name)


def _line(
    canvas: Image, line: Line, ways: Sequence[str], colour: tuple[int, int, int], thick: int
) -> None:
    (ax, ay), (bx, by) = line.points
    length = float(np.hypot(bx - ax, by - ay))
    middle = ((ax + bx) / 2, (ay + by) / 2)
    reach = 12 * thick
    right = (-(by - ay) / length * reach, (bx - ax) / length * reach)
    tips = [(middle[0] + sign * right[0], middle[1] + sign * right[1]) for sign in (1, -1)]
    cv2.line(canvas, _whole((ax, ay)), _whole((bx, by)), colour, thick, cv2.LINE_AA)
    cv2.circle(canvas, _whole((ax, ay)), 2 * thick, colour, -1, cv2.LINE_AA)
    cv2.arrowedLine(canvas, _whole(middle), _whole(tips[0]), colour, thick, cv2.LINE_AA, 0, 0.3)
    _text(canvas, tips[0], ways[0])
    _text(canvas, tips[1], ways[1])
    _text(canvas, (ax, ay - 3 * thick), line.name)


def _whole(point: tuple[float, float]) -> tuple[int, int]:
    return round(point[0]), round(point[1])


def _text(canvas: Image, at: tuple[float, float], text: str) -> None:
    scale = max(0.45, canvas.shape[0] / 1000)
    place = (max(2, round(at[0])), max(14, round(at[1])))
    shown = text.encode("ascii", "replace").decode()  # OpenCV's fonts know no other letters
    for colour, thick in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(
            canvas, shown, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, thick, cv2.LINE_AA
        )
