"""A run in a process of its own, for tests that kill it: SOURCE OUT ADDRESS [METRICS_PORT]."""

from __future__ import annotations

import sys

import fakes

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.tracking.offline import track

if __name__ == "__main__":
    source, out, address, *ports = sys.argv[1:]
    resources = ResourceConfig(
        chunk_frames=8,
        num_detectors=1,
        num_decoders=1,
        address=address,
        metrics_port=int(ports[0]) if ports else None,
    )
    summary = track([source], out, fakes.CONFIG, components=fakes.COMPONENTS, resources=resources)
    sys.exit(int(summary.exit_code))
