"""Label Studio: one JSON file per video with a task and its prediction, a region per person.

Frames count from 1, boxes are percentages of the picture. Every row is a keyframe; `enabled` is
false in the last one of a visit, so that Label Studio draws nothing until the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jde_ray.models.structures import FloatArray, IntArray
from jde_ray.pipelines.formats.exchange.video_tracks import (
    PERSON,
    SCORE_DIGITS,
    Choices,
    VideoTracks,
    rounded,
    to_json_file,
)

_DIGITS = 4  # of a percentage
# names of the tags, as in Label Studio's own template for videos
CONFIG = f"""<View>
  <Labels name="videoLabels" toName="video" allowEmpty="true">
    <Label value="{PERSON}"/>
  </Labels>
  <!-- framerate: that of the videos of this project -->
  <Video name="video" value="$video" framerate="25"/>
  <VideoRectangle name="box" toName="video"/>
</View>
"""


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """A list with the task of this video."""
    shares = video.shares * 100
    boxes = np.concatenate([shares[:, :2], shares[:, 2:] - shares[:, :2]], axis=1)
    regions = [
        _region(video, track_id, label, rows, boxes[rows])
        for track_id, label, rows in video.tracks()
    ]
    score = float(video.score.mean()) if len(video) else 0.0
    prediction = {"model_version": "jde-ray", "score": round(score, SCORE_DIGITS)}
    task = {
        "data": {"video": video.uri or video.name, "name": video.name},
        "predictions": [{**prediction, "result": regions}],
    }
    return {f"{video.name}.json": to_json_file([task])}


def finish(videos: Sequence[tuple[str, str]]) -> Mapping[str, bytes]:
    """The labelling configuration that the tasks fit."""
    return {"label-config.xml": CONFIG.encode()}


def _region(
    video: VideoTracks, track_id: int, label: str, rows: IntArray, boxes: FloatArray
) -> dict[str, Any]:
    frames = video.frame[rows]
    # the last row of a visit; after the last processed frame nothing is left to draw
    is_last = np.append(np.diff(frames) > video.stride, frames[-1] + 1 < video.length)
    sequence = [
        {
            "frame": frame + 1,
            "enabled": not ends,
            "rotation": 0,
            "x": x,
            "y": y,
            "width": width,
            "height": height,
            "time": time,
        }
        for frame, ends, (x, y, width, height), time in zip(
            frames.tolist(),
            is_last.tolist(),
            rounded(boxes, _DIGITS),
            rounded(frames / video.rate, 6),
            strict=True,
        )
    ]
    return {
        "id": f"track-{track_id}",
        "from_name": "box",
        "to_name": "video",
        "type": "videorectangle",
        "origin": "prediction",
        "score": round(float(video.score[rows].mean()), SCORE_DIGITS),
        "meta": {"text": [f"track {track_id}"]},
        "value": {
            "framesCount": video.length,
            "duration": round(video.duration_s, 6),
            "sequence": sequence,
            "labels": [label],
        },
    }
