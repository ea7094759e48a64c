"""A run on three nodes in one machine, with GPUs that are only counted: SOURCE OUT.

Its last line says what the nodes have, and what of it is free after the run.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time

import fakes
import ray
from ray.cluster_utils import Cluster

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.tracking.offline import track

SHARED = {"object_store_memory": 128 << 20, "include_dashboard": False}


def free() -> dict[str, float]:
    return {kind: ray.available_resources().get(kind, 0.0) for kind in ("CPU", "GPU")}


if __name__ == "__main__":
    source, out = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="jr", dir="/tmp") as folder:
        cluster = Cluster()
        cluster.add_node(num_cpus=0, temp_dir=folder, **SHARED)
        cluster.add_node(num_cpus=2, **SHARED)
        cluster.add_node(num_cpus=2, num_gpus=2, **SHARED)
        resources = ResourceConfig(chunk_frames=8, num_associators=2, address=cluster.address)
        summary = track(
            [source], out, fakes.CONFIG, components=fakes.COMPONENTS, resources=resources
        )
        ray.init(address=cluster.address, log_to_driver=False)
        total = {kind: ray.cluster_resources()[kind] for kind in ("CPU", "GPU")}
        for _ in range(100):
            if free() == total:
                break
            time.sleep(0.1)
        end = {"nodes": len(ray.nodes()), "total": total, "free": free()}
        sys.stdout.write(f"{json.dumps(end)}\n")
        ray.shutdown()
        cluster.shutdown()
    sys.exit(int(summary.exit_code))
