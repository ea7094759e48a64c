"""The exchangeable functions of a run: its decoder, its splitter, its frame reader, its network."""

from __future__ import annotations

from dataclasses import dataclass

from jde_ray.pipelines.detection import networks
from jde_ray.pipelines.tracking.later_outputs import FrameReader
from jde_ray.pipelines.tracking.stages.decode import Decoder, Splitter
from jde_ray.pipelines.video import chunks, splitting


@dataclass(frozen=True, kw_only=True)
class Components:
    """Functions that a run calls in its workers; the defaults are those of `jde track`.

    Ray pickles them by reference, so their module must be importable in every worker.

    Attributes:
        decode: Yields the chunks of a segment, with the arguments of `decode_segment`.
        split: Splits a long video into segments, with the arguments of `split_segment`.
        read_frames: Yields the frame number, the time in seconds and the upright RGB image
            `(H, W, 3)` of each frame, in source pixels.
        build_model: Loads the network of a `DetectionConfig`, see `load_network`.
    """

    decode: Decoder = chunks.decode_segment
    split: Splitter = splitting.split_segment
    read_frames: FrameReader = chunks.read_frames
    build_model: networks.ModelBuilder = networks.load_network
