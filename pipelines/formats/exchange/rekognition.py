"""Amazon Rekognition: the answer of GetPersonTracking, whole and in one JSON file per video.

Boxes are shares of the picture and may reach beyond it, as in the service's own answers; times are
milliseconds. It has no place for the confidence of a person.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from jde_ray.pipelines.formats.exchange.video_tracks import (
    SHARE_DIGITS,
    Choices,
    VideoTracks,
    rounded,
    to_json_file,
)


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """`Persons` by time, then by index, which is the track id."""
    shares = video.shares
    boxes = rounded(np.concatenate([shares[:, :2], shares[:, 2:] - shares[:, :2]], 1), SHARE_DIGITS)
    times = np.rint(video.time_s * 1000).astype(np.int64).tolist()
    persons = [
        {
            "Timestamp": time,
            "Person": {
                "Index": track_id,
                "BoundingBox": {"Width": width, "Height": height, "Left": left, "Top": top},
            },
        }
        for time, track_id, (left, top, width, height) in zip(
            times, video.track_id.tolist(), boxes, strict=True
        )
    ]
    width, height = video.size
    answer: dict[str, Any] = {
        "JobStatus": "SUCCEEDED",
        "VideoMetadata": {
            "DurationMillis": round(video.duration_s * 1000),
            "FrameRate": video.rate,
            "FrameHeight": height,
            "FrameWidth": width,
        },
        "Persons": persons,
    }
    bucket, _, key = video.uri.removeprefix("s3://").partition("/")
    if video.uri.startswith("s3://"):
        answer["Video"] = {"S3Object": {"Bucket": bucket, "Name": key}}
    return {f"{video.name}.json": to_json_file(answer)}
