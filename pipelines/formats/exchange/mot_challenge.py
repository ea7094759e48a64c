"""Results for the MOTChallenge server and TrackEval: `NAME.txt`, frames and pixels from 1."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.pipelines.formats.exchange.video_tracks import Choices, VideoTracks
from jde_ray.pipelines.formats.mot import format_results

DETECTORS = ("DPM", "FRCNN", "SDP")  # of MOT17, in which every sequence exists three times
_MOT17 = re.compile(rf"(MOT17-\d\d)(?:-({'|'.join(DETECTORS)}))?\Z")


def write(video: VideoTracks, choices: Choices) -> Mapping[str, bytes]:
    """Lines `frame,id,left,top,width,height,1,-1,-1,-1`, by frame and id."""
    rows = BoxRows(video.frame, video.track_id, video.tlbr)
    text = format_results(rows, video.score if choices.scores else None)
    return {f"{video.name}.txt": text.encode()}


def names_for_detectors(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names under which the results of each video are submitted to MOT17.

    A result of `MOT17-01`, or of one of its detectors, stands for all three; other names stay.

    Raises:
        ValueError: If a sequence has results of several detectors, but not of all, or no name is
            one of MOT17.

    >>> names_for_detectors(["MOT17-01-SDP"])["MOT17-01-SDP"]
    ('MOT17-01-DPM', 'MOT17-01-FRCNN', 'MOT17-01-SDP')
    """
    of_sequence: dict[str, list[str]] = {}
    for name in names:
        if match := _MOT17.match(name):
            of_sequence.setdefault(match[1], []).append(name)
    if not of_sequence:
        raise ValueError(f"detectors: got {', '.join(names[:3])}, expected names such as MOT17-01")
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in names}
    for sequence, own in of_sequence.items():
        wanted = tuple(f"{sequence}-{detector}" for detector in DETECTORS)
        if len(own) == 1:
            found[own[0]] = wanted
        elif set(own) != set(wanted):
            raise ValueError(
                f"detectors: got {', '.join(own)}, expected {sequence}, one of its detectors, or"
                " all three"
            )
    return found
