"""The Ray Serve application: ingress, detectors, sessions and the snapshot actor.

```
 client -> ingress: checks and limits
              |-> decoding processes: pixels, letterboxed
              |-> detectors: one batch of frames of any streams
              |-> sessions-N: the stream's tracker, fed with those detections
              |      +-> snapshots of streams: shared memory, the snapshot actor, a folder or S3
              +-> snapshot actor: sums of the ingresses' counts
```

On one machine (`listen`) clients reach the ingresses directly, on a cluster through Serve's
proxies. A single ingress that listens runs a single session in its own process.

A stream's id names its session. Each `sessions-N` is a deployment of exactly one replica, so no
stream moves to another session when a replica dies or comes back.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ray import serve

from jde_ray.models.tracking.registry import check_embedder
from jde_ray.pipelines.detection.devices import has_cuda
from jde_ray.pipelines.detection.precision import precision_on
from jde_ray.pipelines.detection.settings import detection_for, resolve_precision
from jde_ray.pipelines.detection.weights import embedder_sha256
from jde_ray.pipelines.serving.admission import read_tokens
from jde_ray.pipelines.serving.config import ServeConfig, read_config
from jde_ray.pipelines.serving.replicas.detector import DetectorReplica
from jde_ray.pipelines.serving.replicas.ingress import IngressReplica
from jde_ray.pipelines.serving.replicas.remote import DETECTORS
from jde_ray.pipelines.serving.replicas.session import SessionReplica
from jde_ray.pipelines.serving.replicas.snapshot_actor import SnapshotActor

_SNAPSHOT_ACTOR = "keeper"  # the deployment in `serve status` and in files of `serve build`
_MANY = 10_000  # concurrent calls: above our own limits, which are the ones that apply
# without these Serve logs a line for every call between replicas
_QUIET = {"encoding": "JSON", "enable_access_log": False, "log_level": "WARNING"}
_QUICK: dict[str, Any] = {
    "health_check_period_s": 2,
    "health_check_timeout_s": 10,
    "graceful_shutdown_wait_loop_s": 0.5,
    "graceful_shutdown_timeout_s": 20,
}


def __getattr__(name: str) -> serve.Application:
    """`app` is the application with default settings: `serve build` accepts no function."""
    if name != "app":
        raise AttributeError(f"module {__name__} has no {name}")
    return build({})


def build(args: dict[str, Any]) -> serve.Application:
    """The application, for `jde serve`, `serve run` and `serve deploy`.

    Args:
        args: Fields of `ServeConfig`, nested; `weights`, `size` and `conf` also at the top level.

    Raises:
        ValueError: If a setting is not accepted, or the weights or tokens cannot be read.
    """
    return build_application(resolve_settings(args))


def resolve_settings(args: dict[str, Any]) -> ServeConfig:
    """The configuration, completed with what the weights and this machine decide.

    Raises:
        ValueError: If a setting is not accepted, or the weights or tokens cannot be read.
    """
    config = read_config(args)
    if config.token_file is not None:
        read_tokens(config.token_file)
    detection = config.track.detection
    if config.build_model is None:
        nested = (args.get("track") or {}).get("detection") or {}
        size = detection.size if "size" in args or "size" in nested else None
        own = detection_for(
            detection.weights,
            size,
            rect=nested.get("rect"),
            compile=detection.compile,
            reid=detection.reid,
        )
        detection = replace(
            detection,
            size=own.size,
            rect=own.rect,
            weights_sha256=own.weights_sha256,
            reid=own.reid,
            reid_sha256=own.reid_sha256,
        )
        detection = resolve_precision(detection, config.device)
    precision = precision_on(config.device, detection.precision)
    detection = replace(detection, precision=precision)
    track = replace(config.track, detection=detection)
    check_embedder(track.tracking, embedder_sha256(detection))
    return replace(config, track=track)


def build_application(config: ServeConfig) -> serve.Application:
    """The application with resolved settings."""
    on_gpu = config.device != "cpu" and _has_gpu(config)
    batch = config.batch or (16 if on_gpu else 1)
    config = replace(config, batch=batch)
    pool: dict[str, Any] = {
        "ray_actor_options": {"num_cpus": 1, "num_gpus": 1 if on_gpu else 0},
        "max_ongoing_requests": max(4, 3 * batch),
    }
    if config.min_detectors is None:
        pool["num_replicas"] = config.num_detectors
    else:
        pool["autoscaling_config"] = {
            "min_replicas": config.min_detectors,
            "max_replicas": config.num_detectors,
            "target_ongoing_requests": max(2, batch),
            "upscale_delay_s": 5,
            "downscale_delay_s": 120,
        }
    snapshot_actor = _deployment(SnapshotActor, _SNAPSHOT_ACTOR).bind(
        config.limits.snapshot_lasts_s
    )
    detectors = _deployment(DetectorReplica, DETECTORS, **pool).bind(config)
    sessions = [
        _deployment(SessionReplica, f"sessions-{number}").bind(config, number, snapshot_actor)
        for number in range(0 if config.has_session_inside else config.num_sessions)
    ]
    ingress = _deployment(
        serve.ingress()(IngressReplica),
        "ingress",
        num_replicas=config.num_ingresses,
        logging_config={**_QUIET, "log_level": "INFO"},
    )
    application: serve.Application = ingress.bind(config, detectors, sessions, snapshot_actor)
    return application


def _deployment(kind: type[Any], name: str, **options: Any) -> Any:
    """A deployment of one replica that reserves no CPU, unless `options` say otherwise."""
    light = {"num_cpus": 0}
    settings = {
        "ray_actor_options": light,
        "max_ongoing_requests": _MANY,
        "logging_config": _QUIET,
        **_QUICK,
        **options,
    }
    return serve.deployment(name=name, **settings)(kind)


def _has_gpu(config: ServeConfig) -> bool:
    if config.device == "cuda":
        return True
    import ray

    if ray.is_initialized():
        return bool(ray.cluster_resources().get("GPU", 0))  # type: ignore[no-untyped-call]
    return has_cuda()
