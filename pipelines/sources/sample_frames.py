"""Frames of videos, evenly over their length: what a network is calibrated and compared on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Segment
from jde_ray.pipelines.video.chunks import decode_segment


def sample_frames(
    sources: Sequence[str], size: tuple[int, int], number: int
) -> list[NDArray[np.uint8]]:
    """About `number` letterboxed frames, as many of each video, evenly over its length.

    Args:
        sources: Videos, folders or patterns, as `find_videos` takes them.
        size: Width and height of the frames in pixels.
        number: Frames in all; each video gives as many, rounded up.

    Raises:
        ValueError: If there are no videos, or one cannot be read.
    """
    videos = find_videos(list(sources)).videos
    wanted = -(-number // len(videos))
    pictures: list[NDArray[np.uint8]] = []
    for video in videos:
        kept: list[NDArray[np.uint8]] = []
        step = place = 0
        for chunk in decode_segment(Segment(video), size=size, resize="fast", chunk_frames=8):
            if chunk.error is not None:
                raise ValueError(f"{video.uri}: {chunk.error}")
            for frame in chunk.frames[: len(chunk.frame_index)]:
                if place % (1 << step) == 0:
                    kept.append(frame.copy())
                place += 1
                if len(kept) == 2 * wanted:  # the length is not known before the end
                    kept, step = kept[::2], step + 1
        places = np.linspace(0, len(kept) - 1, min(wanted, len(kept))).round().astype(int)
        pictures += [kept[place] for place in places]
    return pictures
