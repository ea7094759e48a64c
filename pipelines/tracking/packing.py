"""Divides an archive among jobs, and packs short videos into shared tasks."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.sources.findings import Failure
from jde_ray.pipelines.structures import Segment, Video

_MOST_IN_PACK = 64
_PACKS_PER_DECODER = 32  # so that all of them end at about the same time
_FEWEST_PACKS = 128  # for an unknown number of decoders


def take_share(
    videos: Sequence[Video], failures: Sequence[Failure], share: tuple[int, int]
) -> tuple[list[Video], list[Failure]]:
    """The k-th of K shares; the share of a video does not depend on the rest of the archive.

    Args:
        videos: All videos of the archive.
        failures: Sources without a video, with their errors; they are shared too.
        share: k and K, k from 1.
    """
    part, of = share

    def is_ours(video: Video) -> bool:
        # not the hash that picks the association shard, or some shards would have no work
        digest = hashlib.sha256(video.video_id.encode()).digest()
        return int.from_bytes(digest[:8]) % of == part - 1

    return [v for v in videos if is_ours(v)], [f for f in failures if is_ours(f[0])]


def pack(
    segments: Sequence[Segment], resources: ResourceConfig, num_decoders: int | None = None
) -> list[list[Segment]]:
    """Input rows of the dataflow: short videos of a large archive share a row.

    Each row costs the driver one task. In a small archive every video has its own row, so that all
    decoders have work; large videos and those of unknown size always have their own. Together the
    files of a row are no larger than one that would be split.

    Args:
        segments: One per video.
        resources: `cut_bytes`.
        num_decoders: Decode tasks at once; None if it is not known.
    """
    most = max(1, min(_MOST_IN_PACK, len(segments) // _fewest_packs(num_decoders)))
    packs: list[list[Segment]] = []
    open_pack: list[Segment] = []
    num_bytes = 0
    for segment in segments:
        size = segment.video.num_bytes
        if not 0 < size < resources.cut_bytes or segment.start_frame:
            packs.append([segment])
            continue
        num_bytes += size
        if not open_pack or len(open_pack) == most or num_bytes > resources.cut_bytes:
            open_pack, num_bytes = [], size
            packs.append(open_pack)
        open_pack.append(segment)
    return packs


def _fewest_packs(num_decoders: int | None) -> int:
    return _FEWEST_PACKS if num_decoders is None else _PACKS_PER_DECODER * num_decoders
