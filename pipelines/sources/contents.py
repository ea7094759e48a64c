"""Whether a file that a user names can be a video, by its first bytes. Nothing is decoded."""

from __future__ import annotations

import stat
from pathlib import Path

from jde_ray.pipelines.errors import Reason, VideoError
from jde_ray.pipelines.structures import Video
from jde_ray.pipelines.video.containers import opened

_NO_VIDEO = (Reason.EMPTY, Reason.UNSUPPORTED_FORMAT, Reason.NO_VIDEO_STREAM)


def refusal(video: Video, shown: str) -> VideoError | None:
    """Why a local file holds no video; None if it may hold one.

    A damaged video is none of these: the run says what is wrong with it.

    Args:
        video: The file.
        shown: How messages name it.
    """
    path = Path(video.uri)
    if _is_text(path):
        text = f"{shown} is a text, no video; a list of sources is named @{path.name}"
        return VideoError(Reason.UNSUPPORTED_FORMAT, text)
    try:
        if not stat.S_ISREG(path.stat().st_mode):  # opening a pipe waits for its writer
            return None
        with path.open("rb") as file, opened(file, video):
            return None
    except VideoError as error:
        detail = f"{shown}: {error.detail}"
        return VideoError(error.reason, detail) if error.reason in _NO_VIDEO else None
    except OSError:
        return None  # decoding says so


def _is_text(path: Path) -> bool:
    """UTF-8 without control characters."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return False
        with path.open("rb") as file:
            start = file.read(1024)
    except OSError:
        return False
    text = start.decode(errors="ignore")  # the last character may be cut
    is_whole = len(start) - len(text.encode()) < 4
    return bool(text) and is_whole and all(c.isprintable() or c.isspace() for c in text)
