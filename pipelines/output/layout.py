"""Keys of a run's objects."""

from __future__ import annotations


def tracks_key(video_id: str) -> str:
    """Where a video's rows are; the object's existence is the commit."""
    return f"tracks/{video_id}.parquet"


def error_key(video_id: str) -> str:
    """Where a failed video's error record is."""
    return f"errors/{video_id}.json"


def mot_key(video_id: str) -> str:
    """Key of a video's MOTChallenge text."""
    return f"mot/{video_id}.txt"


def video_key(video_id: str) -> str:
    """Where a video with its tracks drawn on it is."""
    return f"videos/{video_id}.mp4"


def summary_key(share: tuple[int, int]) -> str:
    """Where a run's summary goes; each of several partitions has its own."""
    part, of = share
    return "summary.json" if of == 1 else f"summary-{part}-of-{of}.json"
