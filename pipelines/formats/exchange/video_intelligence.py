"""Google Video Intelligence: the answer to person detection, in one JSON file per video.

Boxes are shares of the picture. An annotation has no number of its person, so the track id is an
attribute of the track, beside those of the service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jde_ray.models.structures import IntArray
from jde_ray.pipelines.formats.exchange.video_tracks import (
    SCORE_DIGITS,
    SHARE_DIGITS,
    Choices,
    VideoTracks,
    rounded,
    to_json_file,
)


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """An `AnnotateVideoResponse` with a `personDetectionAnnotations` entry per track."""
    shares = rounded(video.shares, SHARE_DIGITS)
    found = [_person(video, track_id, rows, shares) for track_id, _, rows in video.tracks()]
    ends = max(video.duration_s, float(video.time_s.max(initial=0)))
    result = {
        "inputUri": video.uri or video.name,
        "segment": {"startTimeOffset": "0s", "endTimeOffset": _offset(ends)},
        "personDetectionAnnotations": found,
    }
    return {f"{video.name}.json": to_json_file({"annotationResults": [result]})}


def _person(video: VideoTracks, track_id: int, rows: IntArray, shares: list[Any]) -> dict[str, Any]:
    sides = ("left", "top", "right", "bottom")
    times = [_offset(time) for time in video.time_s[rows].tolist()]
    seen = [
        {"normalizedBoundingBox": dict(zip(sides, shares[row], strict=True)), "timeOffset": time}
        for row, time in zip(rows.tolist(), times, strict=True)
    ]
    track = {
        "segment": {"startTimeOffset": times[0], "endTimeOffset": times[-1]},
        "timestampedObjects": seen,
        "attributes": [{"name": "track_id", "value": str(track_id), "confidence": 1}],
        "confidence": round(float(video.score[rows].mean()), SCORE_DIGITS),
    }
    return {"tracks": [track], "version": "jde-ray"}


def _offset(seconds: float) -> str:
    """A duration as Protocol Buffers write it in JSON, to the microsecond.

    >>> _offset(1.5), _offset(0.0)
    ('1.5s', '0s')
    """
    return f"{seconds:.6f}".rstrip("0").rstrip(".") + "s"
