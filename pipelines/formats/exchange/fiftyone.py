"""FiftyOne: a `FiftyOneVideoLabelsDataset`: `labels/NAME.json` per video and `manifest.json`.

Frames count from 1, corners are shares of the picture, the track id is a detection's `index`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jde_ray.pipelines.formats.exchange.video_tracks import (
    SCORE_DIGITS,
    SHARE_DIGITS,
    Choices,
    VideoTracks,
    rounded,
    to_json_file,
)


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """The labels of a video in the form of ETA's `VideoLabels`; frames with people only."""
    shares = rounded(video.shares, SHARE_DIGITS)
    scores, ids = rounded(video.score, SCORE_DIGITS), video.track_id.tolist()
    frames: dict[str, Any] = {}
    for frame, rows in video.rows_by_frame():
        if rows:
            objects = [
                _object(str(video.label[row]), ids[row], shares[row], scores[row]) for row in rows
            ]
            frames[str(frame + 1)] = {"frame_number": frame + 1, "objects": {"objects": objects}}
    return {_key(video.name): to_json_file({"frames": frames})}


def finish(videos: Sequence[tuple[str, str]]) -> Mapping[str, bytes]:
    """The list of the videos, at the addresses where they were tracked."""
    index = [{"data": uri or f"data/{name}", "labels": _key(name)} for name, uri in videos]
    manifest = {"type": "eta.core.datasets.LabeledVideoDataset", "description": "", "index": index}
    return {"manifest.json": to_json_file(manifest)}


def _key(name: str) -> str:
    return f"labels/{name}.json"


def _object(label: str, track_id: int, box: Sequence[float], score: float) -> dict[str, Any]:
    x1, y1, x2, y2 = box
    corners = {"top_left": {"x": x1, "y": y1}, "bottom_right": {"x": x2, "y": y2}}
    return {
        "type": "eta.core.objects.DetectedObject",
        "label": label,
        "index": track_id,
        "bounding_box": corners,
        "confidence": score,
    }
