"""The manifests in deploy/kubernetes: fields that KubeRay knows, command lines that jde knows."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import in_comments, parse
from documents import blocks
from kuberay_fields import KINDS, cluster_of, pods_of, read_manifest, wrong_fields
from places import ROOT
from ray.serve.schema import ServeDeploySchema

from jde_ray.pipelines.output import layout
from jde_ray.pipelines.serving.config import read_config

FOLDER = ROOT / "deploy/kubernetes"
MANIFESTS = sorted(FOLDER.glob("*/ray*.yaml"))
OVERLAYS = [path.parent.name for path in sorted(FOLDER.glob("*/kustomization.yaml"))]
KUBECTL = shutil.which("kubectl")
with_kubectl = pytest.mark.skipif(KUBECTL is None, reason="kubectl, which has kustomize in it")


def build(folder: Path) -> dict[str, Any]:
    command = [str(KUBECTL), "kustomize", str(folder)]
    return read_manifest(subprocess.check_output(command, text=True, timeout=60))


def check(manifest: dict[str, Any]) -> None:
    """What every manifest of ours keeps."""
    assert not wrong_fields(manifest, KINDS[manifest["kind"]])
    cluster = cluster_of(manifest)
    assert cluster["authOptions"] == {"mode": "token"}
    assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    for group in cluster["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for name, pod in pods_of(manifest).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        limits, requests = container["resources"]["limits"], container["resources"]["requests"]
        assert limits["memory"] == requests["memory"]  # of what Ray believes to have
        assert limits.get("nvidia.com/gpu") == requests.get("nvidia.com/gpu")
        volumes = {one["name"]: one for one in pod["volumes"]}
        mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
        assert set(mounts.values()) == set(volumes)
        memory = volumes[mounts["/dev/shm"]]["emptyDir"]  # noqa: S108
        store = 0.3 * _gib(limits["memory"])  # of Ray's objects
        assert memory["medium"] == "Memory"
        assert store <= _gib(memory["sizeLimit"]) < _gib(limits["memory"])
        assert _gib(volumes[mounts["/tmp"]]["emptyDir"]["sizeLimit"]) > 0  # noqa: S108
    check_commands(manifest)


def check_commands(manifest: dict[str, Any]) -> None:
    spec = manifest["spec"]
    if "entrypoint" in spec:
        program, *arguments = shlex.split(spec["entrypoint"])
        assert program == "jde"
        parse(arguments)
        return
    config = yaml.safe_load(spec["serveConfigV2"])
    ServeDeploySchema.model_validate(config)
    (application,) = config["applications"]
    settings = read_config(application["args"])
    assert settings.token_file is not None  # it listens on all addresses of its pod
    for pod in pods_of(manifest).values():
        mounts = pod["containers"][0]["volumeMounts"]
        assert str(Path(settings.token_file).parent) in {one["mountPath"] for one in mounts}


def _gib(text: str) -> float:
    assert text.endswith("Gi")
    return float(text.removesuffix("Gi"))


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_a_manifest_can_be_applied_as_it_is(path: Path):
    check(read_manifest(path.read_text()))
    for arguments in in_comments(path.read_text()):
        parse(arguments)


def test_there_is_a_manifest_for_each_kind_of_work():
    stems = [path.stem for path in MANIFESTS]
    assert stems == ["rayservice", "rayjob-track", "rayjob-train"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda m: m["spec"].update(entrypont="jde"), ".spec.entrypont: no such field"),
        (lambda m: m["spec"].update(backoffLimit="2"), "got '2', expected int"),
        (lambda m: cluster_of(m)["authOptions"].update(mode="none"), "got 'none', expected one"),
        (lambda m: pods_of(m)["decode"].update(volumes={}), "expected a list"),
    ],
)
def test_a_mistake_would_be_seen(change, told):
    manifest = read_manifest((FOLDER / "track/rayjob-track.yaml").read_text())
    change(manifest)
    assert told in " ".join(wrong_fields(manifest, KINDS["RayJob"]))


def test_a_wrong_flag_would_be_seen():
    manifest = read_manifest((FOLDER / "track/rayjob-track.yaml").read_text())
    manifest["spec"]["entrypoint"] += " --fast"
    with pytest.raises(Exception, match="--fast"):
        check_commands(manifest)


@with_kubectl
@pytest.mark.parametrize("name", [name for name in OVERLAYS if name != "spot"])
def test_an_overlay_gives_a_manifest(name: str, tmp_path: Path):
    manifest = build(FOLDER / name)
    check(manifest)
    images = {pod["containers"][0]["image"] for pod in pods_of(manifest).values()}
    has_gpu = [
        "nvidia.com/gpu" in pod["containers"][0]["resources"]["limits"]
        for pod in pods_of(manifest).values()
    ]
    assert images == {"jde-ray:cuda" if any(has_gpu) else "jde-ray:cpu"}
    if name == "train":
        return
    # spot nodes: one more toleration and a preference, nothing that was there is lost
    shutil.copytree(FOLDER, tmp_path / "kubernetes")
    own = {"resources": [f"../kubernetes/{name}"], "components": ["../kubernetes/spot"]}
    (tmp_path / "own").mkdir()
    (tmp_path / "own/kustomization.yaml").write_text(yaml.safe_dump(own))
    on_spot = build(tmp_path / "own")
    check(on_spot)
    group = cluster_of(on_spot)["workerGroupSpecs"][0]["groupName"]
    before, after = pods_of(manifest), pods_of(on_spot)
    assert after.pop("head") == before.pop("head")
    kept = before[group]["tolerations"]
    assert after[group]["tolerations"][: len(kept)] == kept
    assert {"key": "spot", "operator": "Exists", "effect": "NoSchedule"} in after[group][
        "tolerations"
    ]
    assert after[group]["affinity"]


@with_kubectl
def test_the_folder_of_ones_own_in_the_guide_is_built(tmp_path: Path):
    guide = "docs/clusters.md:"
    (block,) = [one for one in blocks() if one.place.startswith(guide) and one.kind == "yaml"]
    shutil.copytree(FOLDER, tmp_path / "jde-ray/deploy/kubernetes")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/kustomization.yaml").write_text(block.text)
    manifest = build(tmp_path / "own")
    check(manifest)
    assert "s3://videos/2026" in manifest["spec"]["entrypoint"]
    assert cluster_of(manifest)["workerGroupSpecs"][1]["replicas"] == 4
    images = {pod["containers"][0]["image"] for pod in pods_of(manifest).values()}
    assert images == {"registry.example.com/jde-ray:0.1.0-cuda"}


def test_the_bucket_policy_covers_what_is_created_once_and_nothing_else():
    policy = json.loads((ROOT / "deploy/aws/bucket-policy.json").read_text())
    (statement,) = policy["Statement"]
    assert statement["Effect"] == "Deny"
    assert statement["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    out = "arn:aws:s3:::BUCKET/runs/archive/"

    def is_covered(key: str) -> bool:
        return any(fnmatchcase(f"{out}{key}", pattern) for pattern in statement["Resource"])

    committed = [layout.tracks_key("a"), layout.error_key("a"), layout.RUN_KEY]
    replaced = [
        *("summary.json", layout.REPORT_KEY, layout.PICTURES_KEY, layout.video_key("a")),
        layout.detections_key("a"),
        f"{layout.REFINED_PREFIX}{layout.tracks_key('a')}",
        f"{layout.CHECKPOINTS_PREFIX}a/x.npz",
    ]
    assert all(is_covered(key) for key in committed)
    assert not any(is_covered(key) for key in replaced)
