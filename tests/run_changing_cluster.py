"""A run whose cluster changes: SOURCE OUT KIND CONTINUE.

It starts on one node of two CPUs. With the kind `grows` a second node comes with the first frames;
with `shrinks` there are two nodes from the start, and one is killed when detectors on both have
worked. Detectors are slow until then, when CONTINUE is written. The last line is the summary's
counts in JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import fakes
from ray.cluster_utils import Cluster

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.tracking import offline, stalls
from jde_ray.pipelines.tracking.run import Run

NODE = {"num_cpus": 2, "object_store_memory": 128 << 20, "include_dashboard": False}


class SlowModel(fakes.ColourModel):
    """Takes its time until both nodes have worked."""

    go_on = ""  # the file that says so

    def detect(self, frames: Any, letterboxes: Any) -> Any:
        """As a `ColourModel`."""
        if not Path(self.go_on).exists():
            time.sleep(0.7)
        return super().detect(frames, letterboxes)


class Changes:
    """Changes the cluster while the run reports its progress.

    Args:
        cluster: The cluster, with its first nodes.
        kind: `grows` or `shrinks`.
        go_on: The file to write when the change has had its effect.
    """

    def __init__(self, cluster: Cluster, kind: str, go_on: Path) -> None:
        self._cluster, self._kind, self._go_on = cluster, kind, go_on
        self._is_done = False
        self.run: Run | None = None
        self.lost: Any = None

    def __call__(self, progress: offline.Progress) -> None:
        assert self.run is not None
        if self._kind == "grows" and not self._is_done:
            self._cluster.add_node(wait=False, **NODE)
            self._is_done = True
        if len(self.run.tally.frames_by_node) < 2:
            return
        if self._kind == "shrinks" and not self._is_done:
            self._is_done = True
            self.lost.kill_raylet(check_alive=False)
        self._go_on.touch()


def _reap(node: Any) -> None:
    """Collect the killed processes of a node, as the first process of a machine would."""
    while True:
        for one in node.all_processes.get("raylet", ()):
            one.process.poll()
        time.sleep(0.5)


if __name__ == "__main__":
    source, out, kind, go_on = sys.argv[1:]
    with tempfile.TemporaryDirectory(prefix="jr", dir="/tmp") as folder:
        cluster = Cluster()
        cluster.add_node(**NODE | {"num_cpus": 0, "temp_dir": folder})
        cluster.add_node(**NODE)
        changes = Changes(cluster, kind, Path(go_on))
        if kind == "shrinks":
            changes.lost = cluster.add_node(**NODE)
            threading.Thread(target=_reap, args=(changes.lost,), daemon=True).start()
        stalls.FIRST_WORD_S = 15.0  # an attempt that is stuck ends sooner than in a minute
        SlowModel.go_on = go_on  # a class of this script travels to the workers by value
        execute = Run.execute

        def watched(run: Run, *arguments: Any) -> None:
            changes.run = run
            execute(run, *arguments)

        Run.execute = watched  # type: ignore[method-assign]
        resources = ResourceConfig(
            chunk_frames=8,
            num_detectors=(1, 4),
            num_associators=1,
            row_bytes=0,
            address=cluster.address,
        )
        summary = offline.track(
            [source],
            out,
            fakes.CONFIG,
            components=replace(fakes.COMPONENTS, build_model=SlowModel),
            resources=resources,
            progress=changes,
        )
        end = {
            "by_node": summary.frames_by_node,
            "seen": summary.frames_seen,
            "frames": summary.frames,
            "passes": summary.passes,
        }
        sys.stdout.write(f"{json.dumps(end)}\n")
        cluster.shutdown()
    sys.exit(int(summary.exit_code))
