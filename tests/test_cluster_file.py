"""cluster.yaml as Ray itself reads it, and the promises that its comments make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import in_comments, parse
from dockerfile import steps_of
from ray.autoscaler._private.docker import docker_start_cmds
from ray.autoscaler._private.util import prepare_config, validate_config

PATH = Path(__file__).parents[1] / "cluster.yaml"


@pytest.fixture(scope="module")
def config() -> dict[str, Any]:
    prepared: dict[str, Any] = prepare_config(yaml.safe_load(PATH.read_text()))
    validate_config(prepared)
    return prepared


def test_the_head_does_no_work(config: dict[str, Any]) -> None:
    nodes = config["available_node_types"]
    assert config["head_node_type"] == "head"
    assert nodes["head"]["resources"]["CPU"] == 0
    assert "GPU" not in nodes["head"]["resources"]


def test_there_are_nodes_for_decoding_and_for_detecting(config: dict[str, Any]) -> None:
    nodes = config["available_node_types"]
    assert set(nodes) == {"head", "decode_cpu", "gpu"}
    assert nodes["decode_cpu"]["resources"].get("GPU", 0) == 0
    assert nodes["gpu"]["resources"]["GPU"] >= 1
    workers = [node.get("max_workers", 0) for node in nodes.values()]
    assert sum(workers) <= config["max_workers"]


def test_every_start_asks_for_a_token(config: dict[str, Any]) -> None:
    starts = [
        line
        for key in ("head_start_ray_commands", "worker_start_ray_commands")
        for line in config[key]
        if "ray start" in line
    ]
    assert len(starts) == 2
    assert all("RAY_AUTH_MODE=token" in line for line in starts)


def test_nothing_is_open_to_the_outside(config: dict[str, Any]) -> None:
    (head,) = (line for line in config["head_start_ray_commands"] if "ray start" in line)
    assert "--dashboard-host=127.0.0.1" in head
    assert config["provider"]["use_internal_ips"] is True
    assert "ray-client-server-port" not in head


def test_its_containers_start_what_ray_asks_for(config: dict[str, Any]) -> None:
    docker = config["docker"]
    target = docker["image"].partition(":")[2]
    assert [step.text for step in steps_of(target) if step.name == "ENTRYPOINT"] == ['["jde"]']
    names = docker["image"], {}, docker["container_name"], docker["run_options"]
    started = docker_start_cmds("ubuntu", *names, "jde-ray", "/home/jde", "docker")
    assert started.endswith(f"{docker['image']} bash")  # which would be arguments of jde
    assert "--entrypoint=/usr/bin/env" in started


def test_the_commands_in_its_comments_are_understood() -> None:
    commands = list(in_comments(PATH.read_text()))
    assert commands
    for arguments in commands:
        parse(arguments)


def test_a_mistake_would_be_seen() -> None:
    broken = yaml.safe_load(PATH.read_text())
    broken["max_worker"] = 3
    with pytest.raises(Exception, match="max_worker"):
        validate_config(prepare_config(broken))
