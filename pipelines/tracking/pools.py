"""Sizes the pools of workers for a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import ray

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Number of workers of each kind, and the CPUs and GPUs that each of them requests."""

    num_detectors: int
    detector_cpus: float
    detector_gpus: float
    num_decoders: int
    decoder_cpus: float
    num_shards: int


def size_pools(
    resources: ResourceConfig,
    cluster: Mapping[str, float] | None = None,
    *,
    before: Pools | None = None,
) -> Pools:
    """Fit the pools to a cluster.

    Args:
        resources: Pool sizes; None means as many as fit.
        cluster: Total `CPU` and `GPU`; None asks the connected Ray.
        before: Pools of the previous attempt: a run that began on GPUs does not continue without
            one, since sums would differ.

    Raises:
        RunError: If a GPU is requested and the cluster has none.
    """
    if cluster is None:
        cluster = ray.cluster_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = cluster.get("CPU", 0.0), cluster.get("GPU", 0.0)
    if before is not None and before.detector_gpus and not gpus:
        raise RunError(
            "Ray has lost its last GPU; run the same command once there is one",
            ExitCode.INTERNAL,
        )
    if resources.device == "cuda" and not gpus:
        raise RunError("device: got cuda, but this Ray has no GPU; use cpu", ExitCode.REFUSED)
    on_gpu = gpus > 0 and resources.device != "cpu"
    if on_gpu:
        fitting = max(1, int(gpus / resources.gpus_per_detector))
    else:  # on a CPU, detection takes about ten times as long as decoding
        fitting = max(1, round(0.85 * cpus / resources.torch_threads))
    num_detectors = resources.num_detectors or fitting
    # on one core each stage requests half, so that neither prevents the other from starting
    decoder_cpus = 1.0 if cpus >= 2 else 0.5
    wanted = 1.0 if on_gpu else float(resources.torch_threads)
    share = math.floor(100 * max(cpus - decoder_cpus, 0.1) / num_detectors) / 100
    detector_cpus = max(0.01, min(wanted, share))
    # decoders leave the detectors' CPUs free: otherwise a detector that restarts would wait forever
    # for a decoder, which waits for a detector to take its frames
    spare = cpus - num_detectors * detector_cpus + 1e-6
    return Pools(
        num_detectors=num_detectors,
        detector_cpus=detector_cpus,
        detector_gpus=resources.gpus_per_detector if on_gpu else 0.0,
        num_decoders=resources.num_decoders or max(1, int(spare / decoder_cpus)),
        decoder_cpus=decoder_cpus,
        num_shards=resources.num_associators or min(16, max(1, int(cpus) // 4)),
    )
