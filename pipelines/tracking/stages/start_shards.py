"""Start the association shards of an attempt as Ray actors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import ray

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.structures import Segment
from jde_ray.pipelines.tracking.stages.associate import AssociationShard
from jde_ray.pipelines.tracking.stages.session import Checkpointing
from jde_ray.pipelines.tracking.stages.shard_client import shard_name, shard_of


def start_shards(
    attempt_id: str,
    segments: Iterable[Segment],
    num_shards: int,
    out: str,
    config: TrackConfig,
    outputs: OutputConfig,
    metadata: Mapping[str, str],
    resources: ResourceConfig = ResourceConfig(),
) -> list[Any]:
    """Start the association shards of an attempt, each with its videos.

    They request no CPU, so that the smallest machine can run them in addition to its detector, and
    are spread over the nodes. Ray never repeats a method (`max_task_retries=0`), since a restarted
    actor would continue with an empty state.
    """
    owned: list[list[Segment]] = [[] for _ in range(num_shards)]
    for segment in segments:
        owned[shard_of(segment.video.video_id, num_shards, attempt_id)].append(segment)
    one_thread = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    often = Checkpointing(attempt_id, resources.checkpoint_frames)
    actor = ray.remote(AssociationShard)
    return [
        actor.options(
            name=shard_name(attempt_id, shard),
            num_cpus=0,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            runtime_env={"env_vars": one_thread},
        ).remote(out, config, outputs, dict(metadata), own, often, resources.s3_endpoint)
        for shard, own in enumerate(owned)
    ]
