"""CVAT for video 1.1: one XML file per video, with a track of boxes per person. Frames from 0.

Every row is a keyframe, so that CVAT shows exactly these boxes. Where a person is not seen, a box
`outside` ends the visit; after the last frame none is needed. With a stride CVAT interpolates.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from jde_ray.models.structures import IntArray
from jde_ray.pipelines.formats.exchange.video_tracks import PERSON, Choices, VideoTracks

# characters that XML 1.0 does not allow even as references
_ILLEGAL = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """An XML file that CVAT's "CVAT 1.1" import reads."""
    return {f"{video.name}.xml": "".join(_lines(video)).encode()}


def _lines(video: VideoTracks) -> Iterator[str]:
    labels = dict.fromkeys([PERSON, *map(str, video.label)])
    width, height = video.size
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
    yield f"  <meta>\n    <task>\n      <name>{_text(video.name)}</name>\n"
    yield f"      <size>{video.length}</size>\n      <mode>interpolation</mode>\n"
    yield "      <start_frame>0</start_frame>\n"
    yield f"      <stop_frame>{max(0, video.length - 1)}</stop_frame>\n      <labels>\n"
    for label in labels:
        yield f"        <label><name>{_text(label)}</name><attributes></attributes></label>\n"
    yield "      </labels>\n      <original_size>\n"
    yield f"        <width>{width}</width>\n        <height>{height}</height>\n"
    yield f"      </original_size>\n      <source>{_text(video.title)}</source>\n"
    yield "    </task>\n  </meta>\n"
    for track_id, label, rows in video.tracks():
        yield f'  <track id="{track_id}" label={_attribute(label)} source="auto">\n'
        yield from _boxes(video, rows)
        yield "  </track>\n"
    yield "</annotations>\n"


def _boxes(video: VideoTracks, rows: IntArray) -> Iterator[str]:
    frames = video.frame[rows].tolist()
    nexts = [*frames[1:], video.length]
    for frame, follows, (x1, y1, x2, y2) in zip(
        frames, nexts, np.round(video.tlbr[rows], 2).tolist(), strict=True
    ):
        corners = f'xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}"'
        yield _box(frame, corners, is_outside=False)
        if follows > frame + video.stride or (follows == video.length and follows > frame + 1):
            yield _box(frame + 1, corners, is_outside=True)


def _box(frame: int, corners: str, *, is_outside: bool) -> str:
    outside = int(is_outside)
    return (
        f'    <box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" {corners}'
        ' z_order="0"></box>\n'
    )


def _text(text: str) -> str:
    return escape(_ILLEGAL.sub("\ufffd", text))


def _attribute(text: str) -> str:
    return quoteattr(_ILLEGAL.sub("\ufffd", text))
