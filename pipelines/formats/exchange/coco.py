"""COCO: one JSON file of pictures and boxes, with track ids and the videos they belong to.

Written: `videos`, `images` (one per processed frame; `frame_id` counts from 0, the number in
`file_name` from 1), `annotations` with `track_id`, `categories`. Boxes are left, top, width, height
in pixels and may reach beyond the picture.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from jde_ray.models.boxes import tlbr_to_tlwh
from jde_ray.pipelines.formats.exchange.video_tracks import (
    PERSON,
    PIXEL_DIGITS,
    SCORE_DIGITS,
    VideoTracks,
    rounded,
    to_json,
)

FILE = "annotations.json"


def write_dataset(videos: Iterable[VideoTracks], folder: Path) -> Path:
    """Write one file about all videos; holds one of them in memory.

    Args:
        videos: The videos, in the order of the file.
        folder: A local folder for this call only.

    Returns:
        Path of the file, in `folder`.
    """
    parts = {name: folder / f"{name}.part" for name in ("videos", "images", "annotations")}
    writer = _Writer()
    with (
        _opened(parts["videos"]) as of_videos,
        _opened(parts["images"]) as of_images,
        _opened(parts["annotations"]) as of_boxes,
    ):
        for video in videos:
            writer.add(video, of_videos, of_images, of_boxes)
    path = folder / FILE
    with _opened(path) as file:
        file.write('{"info":{"description":"People tracked by jde-ray"},"licenses":[]')
        for name, part in parts.items():
            file.write(f',\n"{name}":[\n')
            with part.open(encoding="utf-8") as content:
                shutil.copyfileobj(content, file)
            file.write("]")
        categories = [
            {"id": number, "name": name, "supercategory": name}
            for name, number in writer.categories.items()
        ]
        file.write(f',\n"categories":{to_json(categories)}}}\n')
    return path


def _opened(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", errors="replace")


@dataclass
class _Writer:
    """Numbers of the videos, images and annotations so far, each from 1."""

    categories: dict[str, int] = field(default_factory=lambda: {PERSON: 1})
    num_videos: int = 0
    num_images: int = 0
    num_boxes: int = 0

    def add(self, video: VideoTracks, videos: TextIO, images: TextIO, boxes: TextIO) -> None:
        """Append a video to the lists."""
        self.num_videos += 1
        width, height = video.size
        entry: dict[str, Any] = {"id": self.num_videos, "name": video.name}
        entry |= {"file_name": video.uri or video.name, "width": width, "height": height}
        if video.rate:
            entry["fps"] = video.rate
        self._put(videos, self.num_videos, entry)
        tlwh = tlbr_to_tlwh(video.tlbr)
        area = rounded(tlwh[:, 2] * tlwh[:, 3], PIXEL_DIGITS)
        bbox, score = rounded(tlwh, PIXEL_DIGITS), rounded(video.score, SCORE_DIGITS)
        track_id = video.track_id.tolist()
        for frame, rows in video.rows_by_frame():
            self.num_images += 1
            image: Mapping[str, Any] = {
                "id": self.num_images,
                "file_name": f"{video.name}/{frame + 1:06d}.jpg",
                "width": width,
                "height": height,
                "video_id": self.num_videos,
                "frame_id": frame,
            }
            self._put(images, self.num_images, image)
            for row in rows:
                self.num_boxes += 1
                label = str(video.label[row])
                category = self.categories.setdefault(label, len(self.categories) + 1)
                box: Mapping[str, Any] = {
                    "id": self.num_boxes,
                    "image_id": self.num_images,
                    "category_id": category,
                    "bbox": bbox[row],
                    "segmentation": [],  # which some readers insist on
                    "area": area[row],
                    "iscrowd": 0,
                    "track_id": track_id[row],
                    "score": score[row],
                }
                self._put(boxes, self.num_boxes, box)

    @staticmethod
    def _put(file: TextIO, number: int, entry: Mapping[str, Any]) -> None:
        file.write("" if number == 1 else ",\n")
        file.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")))
