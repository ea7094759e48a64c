"""Fields of Kubernetes objects that the manifests in deploy/ may use, with their types.

Names and types are those of KubeRay's API reference (RayJob, RayService, RayCluster of ray.io/v1,
release 1.6.2; authOptions came with 1.5.1) and of Kubernetes' Pod (v1); whole schemas have 1.2 MB.
"""

from __future__ import annotations

from typing import Any

import yaml

MAP = {"*": str}  # names of one's own
RESOURCES = {"requests": MAP, "limits": MAP}
SECURITY = {
    "allowPrivilegeEscalation": bool,
    "capabilities": {"drop": [str]},
}
CONTAINER = {
    "name": str,
    "image": str,
    "env": [{"name": str, "value": str}],
    "envFrom": [{"secretRef": {"name": str, "optional": bool}}],
    "ports": [{"name": str, "containerPort": int}],
    "resources": RESOURCES,
    "securityContext": SECURITY,
    "volumeMounts": [{"name": str, "mountPath": str, "readOnly": bool}],
}
VOLUME = {
    "name": str,
    "emptyDir": {"medium": ("Memory", ""), "sizeLimit": str},
    "persistentVolumeClaim": {"claimName": str, "readOnly": bool},
    "secret": {"secretName": str, "defaultMode": int},
}
EXPRESSIONS = [{"key": str, "operator": ("In", "Exists"), "values": [str]}]
AFFINITY = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": int, "preference": {"matchExpressions": EXPRESSIONS}}
        ]
    }
}
POD = {
    "metadata": {"labels": MAP, "annotations": MAP},
    "spec": {
        "affinity": AFFINITY,
        "containers": [CONTAINER],
        "enableServiceLinks": bool,
        "securityContext": {
            "fsGroup": int,
            "fsGroupChangePolicy": ("OnRootMismatch", "Always"),
            "runAsGroup": int,
            "runAsNonRoot": bool,
            "runAsUser": int,
            "seccompProfile": {"type": ("RuntimeDefault", "Localhost", "Unconfined")},
        },
        "serviceAccountName": str,
        "terminationGracePeriodSeconds": int,
        "tolerations": [
            {
                "key": str,
                "operator": ("Equal", "Exists"),
                "value": str,
                "effect": ("NoSchedule", "NoExecute", "PreferNoSchedule"),
            }
        ],
        "volumes": [VOLUME],
    },
}
CLUSTER = {
    "rayVersion": str,
    "authOptions": {"mode": ("disabled", "token"), "secretName": str},
    "enableInTreeAutoscaling": bool,
    "autoscalerOptions": {
        "idleTimeoutSeconds": int,
        "upscalingMode": ("Default", "Aggressive", "Conservative"),
        "resources": RESOURCES,
    },
    "headGroupSpec": {"rayStartParams": MAP, "template": POD},
    "workerGroupSpecs": [
        {
            "groupName": str,
            "replicas": int,
            "minReplicas": int,
            "maxReplicas": int,
            "rayStartParams": MAP,
            "template": POD,
        }
    ],
}
META = {"apiVersion": ("ray.io/v1",), "metadata": {"name": str, "labels": MAP}}
KINDS: dict[str, dict[str, Any]] = {
    "RayJob": {
        **META,
        "kind": ("RayJob",),
        "spec": {
            "entrypoint": str,
            "backoffLimit": int,
            "activeDeadlineSeconds": int,
            "shutdownAfterJobFinishes": bool,
            "ttlSecondsAfterFinished": int,
            "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"),
            "runtimeEnvYAML": str,
            "rayClusterSpec": CLUSTER,
        },
    },
    "RayService": {
        **META,
        "kind": ("RayService",),
        "spec": {"serveConfigV2": str, "rayClusterConfig": CLUSTER},
    },
}


def wrong_fields(value: Any, allowed: Any, place: str = "") -> list[str]:
    """What in a value is no field of its kind, or has another type; empty if all is well."""
    if isinstance(allowed, dict):
        if not isinstance(value, dict):
            return [f"{place}: got {value!r}, expected a mapping"]
        wrong = []
        for name, inner in value.items():
            if name not in allowed and "*" not in allowed:
                wrong.append(f"{place}.{name}: no such field")
            else:
                wrong += wrong_fields(inner, allowed.get(name, allowed.get("*")), f"{place}.{name}")
        return wrong
    if isinstance(allowed, list):
        if not isinstance(value, list):
            return [f"{place}: got {value!r}, expected a list"]
        parts = [wrong_fields(one, allowed[0], f"{place}[{i}]") for i, one in enumerate(value)]
        return [line for part in parts for line in part]
    if isinstance(allowed, tuple):
        return [] if value in allowed else [f"{place}: got {value!r}, expected one of {allowed}"]
    return (
        [] if type(value) is allowed else [f"{place}: got {value!r}, expected {allowed.__name__}"]
    )


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    """The Ray cluster in a RayJob or RayService."""
    spec = manifest["spec"]
    cluster: dict[str, Any] = spec.get("rayClusterSpec") or spec["rayClusterConfig"]
    return cluster


def pods_of(manifest: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Specifications of its pods: `head`, and those of the workers by the names of their groups."""
    cluster = cluster_of(manifest)
    groups = {"head": cluster["headGroupSpec"]}
    groups |= {one["groupName"]: one for one in cluster["workerGroupSpecs"]}
    return {name: group["template"]["spec"] for name, group in groups.items()}


def read_manifest(text: str) -> dict[str, Any]:
    """The object of a manifest."""
    manifest: dict[str, Any] = yaml.safe_load(text)
    return manifest
