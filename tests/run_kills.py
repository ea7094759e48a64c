"""A run that a kill campaign disturbs: SOURCE OUT ADDRESS OVERWRITE.

The address `cluster` starts two nodes of its own; OVERWRITE is yes or no.

It ends as `jde track` does: one line of error, and the exit code.
"""

from __future__ import annotations

import sys
import threading
import time
from typing import Any

import fakes

from jde_ray.jobs.console.runner import run_verb
from jde_ray.pipelines.config import OutputConfig, ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking.offline import track

NODE = {"num_cpus": 2, "object_store_memory": 128 << 20}
OUTPUTS = OutputConfig(save_detections=True, save_mot=True)


def kills(source: str, out: str, address: str, overwrite: str) -> int:
    """Track, on a Ray of its own or on two nodes."""
    if address != "cluster":
        return _run(source, out, address, overwrite == "yes")
    from ray.cluster_utils import Cluster

    head = {**NODE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        lost = cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        threading.Thread(target=_reap, args=(lost,), daemon=True).start()
        return _run(source, out, cluster.address, overwrite == "yes")
    finally:
        cluster.shutdown()


def _reap(node: Any) -> None:
    """Collect the processes of a node that are killed, as the first process of a machine would.

    Ray's workers end when their raylet is gone; while it is a zombie, they do not notice.
    """
    while True:
        for one in node.all_processes.get("raylet", ()):
            one.process.poll()
        time.sleep(0.5)


def _run(source: str, out: str, address: str, overwrite: bool) -> int:
    resources = ResourceConfig(
        chunk_frames=8,
        num_detectors=None if address != "local" else 2,
        num_associators=2,
        segment_frames=32,
        cut_bytes=0,
        checkpoint_frames=40,
        address=address,
    )
    summary = track(
        [source],
        out,
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        resources=resources,
        outputs=OUTPUTS,
        overwrite=overwrite,
    )
    if summary.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        raise RunError("interrupted; run the same command to continue", summary.exit_code)
    return int(summary.exit_code)


if __name__ == "__main__":
    sys.exit(run_verb(kills, "kills", sys.argv[1:]))
