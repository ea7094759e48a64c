"""The contact sheet of `report.html`: the best picture of each of the longest tracks.

It is made of the crops of `--save-crops`, and hides what they hide. Its size is bounded: at most
`MAX_SHOWN` pictures of at most `WIDTH` x `HEIGHT` pixels.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
import pyarrow as pa

from jde_ray.pipelines.formats.crops import best_crops, blur_of
from jde_ray.pipelines.formats.parquet_file import open_parquet
from jde_ray.pipelines.output.layout import crop_index_key
from jde_ray.pipelines.report.pictures import picture_address
from jde_ray.pipelines.report.plots import TrackedVideo, format_seconds
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.video.drawing import track_colour
from jde_ray.pipelines.video.frame import Image

logger = logging.getLogger(__name__)

MAX_SHOWN = 40
WIDTH, HEIGHT = 100, 180  # pixels that a picture fits into
_QUALITY = 80


@dataclass(frozen=True)
class _Candidate:
    """A track that may be shown."""

    video_id: str
    track_id: int
    first_s: float
    last_s: float
    file: str


def contact_sheet(
    store: ObjectStore, videos: Mapping[str, TrackedVideo], names: Mapping[str, str]
) -> str:
    """The section of the page, as HTML; empty if no video has crops.

    Args:
        store: OUT.
        videos: Videos that were read, by id.
        names: Their names for the page, by id.
    """
    found: list[_Candidate] = []
    blurs: set[str] = set()
    for video_id, video in videos.items():
        found += _candidates(store, video_id, video, blurs)
    if not found:
        return ""
    longest = sorted(found, key=lambda one: (one.first_s - one.last_s, one.video_id, one.track_id))
    pictures = [
        _figure(one, names[one.video_id], source)
        for one in longest[:MAX_SHOWN]
        if (source := _picture(store, one.file)) is not None
    ]
    return (
        f'<h2>People</h2><section class="card"><p class="soft">{_intro(len(pictures), blurs)}</p>'
        f'<div class="people">{"".join(pictures)}</div></section>'
    )


def _intro(number: int, blurs: set[str]) -> str:
    text = f"The best picture of each of the {number} longest tracks, the longest first. "
    text += "All pictures are in crops/, which crops/index/ lists."
    hidden = sorted(blurs - {"none"})
    return f"{text} Blurred: {escape(', '.join(hidden))}." if hidden else text


def _candidates(
    store: ObjectStore, video_id: str, video: TrackedVideo, blurs: set[str]
) -> Sequence[_Candidate]:
    """Tracks of a video that have pictures; what is hidden in those is added to `blurs`."""
    try:
        table = open_parquet(store, crop_index_key(video_id))
        files = best_crops(table)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        logger.warning("%s has no pictures in the report: %s", video_id, error)
        return []
    if files:
        blurs.add(blur_of(table))
    return [
        _Candidate(video_id, one, first, last, files[one])
        for one, (_, first, last) in video.rows.items()
        if one in files
    ]


def _picture(store: ObjectStore, key: str) -> str | None:
    try:
        data = np.frombuffer(store.get(key), np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except (OSError, ValueError, cv2.error) as error:
        logger.warning("%s is not in the report: %s", key, error)
        return None
    if image is None:
        logger.warning("%s is not in the report: it is no picture", key)
        return None
    return picture_address(_fitted(np.asarray(image[:, :, ::-1], np.uint8)), _QUALITY)


def _fitted(image: Image) -> Image:
    """The image in the size in which it is shown; its shape stays."""
    height, width = image.shape[:2]
    scale = min(WIDTH / width, HEIGHT / height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, size, interpolation=how), np.uint8)


def _figure(one: _Candidate, name: str, source: str) -> str:
    colour = "#{:02x}{:02x}{:02x}".format(*track_colour(one.track_id))
    span = f"{format_seconds(one.first_s)} to {format_seconds(one.last_s)}"
    return (
        f'<figure title="{escape(name)}, {span}"><img src="{source}" alt="track {one.track_id}" '
        f'style="border-color:{colour}"><figcaption><b>{one.track_id}</b> &middot; '
        f"{format_seconds(one.last_s - one.first_s)}<br>{escape(name)}</figcaption></figure>"
    )
