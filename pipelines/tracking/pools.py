"""Sizes the pools of workers for a cluster."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jde_ray.pipelines.config import ResourceConfig, pool_limits
from jde_ray.pipelines.errors import ExitCode, RunError


@dataclass(frozen=True, kw_only=True)
class Pools:
    """Number of workers of each kind, and the CPUs and GPUs that each of them requests.

    Attributes:
        num_detectors: Detectors to start with.
        detector_limits: Least and most detectors of the attempt; equal if the pool is fixed.
        num_decoders: Decode tasks at once; None for as many as `decoders_on` says.
        least_decoders: Decode tasks for which detectors leave a place.
    """

    num_detectors: int
    detector_limits: tuple[int, int]
    detector_cpus: float
    detector_gpus: float
    num_decoders: int | None
    decoder_cpus: float
    num_shards: int
    least_decoders: int = 1

    @property
    def follow(self) -> bool:
        """Whether detectors are added on machines that join later."""
        return self.detector_limits[0] < self.detector_limits[1]

    def detectors(self, *, graphs: bool = False) -> dict[str, Any]:
        """Arguments of `map_batches` for the pool of detectors, actors that load the weights once.

        Each works on one row, and one more is fetched meanwhile. With `graphs` on a GPU, which has
        a queue in front of it, each works on two: one is computed while the other goes up or its
        detections are delivered.
        """
        from ray.data import ActorPoolStrategy

        least, most = self.detector_limits
        calls = 2 if graphs and self.detector_gpus else 1
        return {
            "batch_size": 1,
            "batch_format": "pyarrow",
            "compute": ActorPoolStrategy(
                min_size=least,
                max_size=most,
                initial_size=self.num_detectors,
                max_tasks_in_flight_per_actor=calls + 1,
                max_concurrent_calls_per_actor=calls,
                enable_true_multi_threading=calls > 1,
            ),
            "num_cpus": self.detector_cpus,
            "num_gpus": self.detector_gpus,
        }

    def decoders_on(self, cluster: Mapping[str, float]) -> int:
        """Decode tasks that leave the detectors their places on a cluster of this size.

        Args:
            cluster: Total `CPU` and `GPU`, which may have changed since the pools were sized.
        """
        cpus = cluster.get("CPU", 0.0)
        if self.detector_gpus:
            fitting = int(cluster.get("GPU", 0.0) / self.detector_gpus)
        else:
            fitting = int((cpus - self.least_decoders * self.decoder_cpus) / self.detector_cpus)
        least, most = self.detector_limits
        spare = cpus - min(max(least, fitting), most) * self.detector_cpus + 1e-6
        return max(1, int(spare / self.decoder_cpus))


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
        import ray

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
    # on one core each stage requests half, so that neither prevents the other from starting
    decoder_cpus = 1.0 if cpus >= 2 else 0.5
    wanted = 1.0 if on_gpu else float(resources.torch_threads)
    least_decoders = resources.num_decoders[0] if isinstance(resources.num_decoders, tuple) else 1
    for_detectors = max(cpus - least_decoders * decoder_cpus, 0.1)
    limits = None if resources.num_detectors is None else pool_limits(resources.num_detectors)
    follow = limits is not None and limits[0] < limits[1]
    if on_gpu:
        fitting = max(1, int(gpus / resources.gpus_per_detector))
    else:  # on a CPU, detection takes about ten times as long as decoding
        fitting = max(1, round(0.85 * cpus / resources.torch_threads))
        if follow:  # with whole CPUs each, as those that come later shall have them too
            fitting = max(1, min(fitting, int(for_detectors / wanted)))
    least, most = limits or (fitting, fitting)
    num_detectors = min(max(least, fitting), most)
    share = math.floor(100 * for_detectors / num_detectors) / 100
    detector_cpus = max(0.01, min(wanted, share))
    # decoders leave the detectors' CPUs free: otherwise a detector that restarts would wait forever
    # for a decoder, which waits for a detector to take its frames. On a cluster that changes
    # `streaming.DetectorPlaces` sees to it
    spare = cpus - num_detectors * detector_cpus + 1e-6
    if resources.num_decoders is not None:
        num_decoders: int | None = pool_limits(resources.num_decoders)[1]
    else:
        num_decoders = None if follow else max(1, int(spare / decoder_cpus))
    return Pools(
        num_detectors=num_detectors,
        detector_limits=(least, most),
        detector_cpus=detector_cpus,
        detector_gpus=resources.gpus_per_detector if on_gpu else 0.0,
        num_decoders=num_decoders,
        decoder_cpus=decoder_cpus,
        least_decoders=least_decoders,
        num_shards=resources.num_associators or min(16, max(1, int(cpus) // 4)),
    )
