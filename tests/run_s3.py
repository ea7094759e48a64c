"""A run over S3 on a Ray of its own, whose workers have this process's environment: SOURCE OUT."""

from __future__ import annotations

import sys

import fakes

from jde_ray.pipelines.config import OutputConfig, ResourceConfig
from jde_ray.pipelines.tracking.offline import track

if __name__ == "__main__":
    source, out = sys.argv[1:]
    resources = ResourceConfig(
        chunk_frames=8,
        num_detectors=1,
        num_decoders=2,
        segment_frames=16,
        cut_bytes=0,
        checkpoint_frames=16,
    )
    summary = track(
        [source],
        out,
        fakes.CONFIG,
        components=fakes.Components(build_model=fakes.NumberModel),
        resources=resources,
        outputs=OutputConfig(save_mot=True, save_detections=True),
    )
    sys.exit(int(summary.exit_code))
