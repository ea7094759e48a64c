"""The service laid out as on a cluster, behind Serve's proxy, and as on a laptop, all in one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import fakes
import pytest
from serving_clips import (
    ARGS,
    SERVE_MARKS,
    check_rows,
    kill_one,
    offline_rows,
    over_rest,
    over_sockets,
    wait_until_ready,
    write_clips,
)
from serving_service import TRACK, free_port

from jde_ray.pipelines.serving.launch import running

pytestmark = SERVE_MARKS


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    return write_clips(folder, 3, 20), offline_rows(folder, TRACK, fakes.COMPONENTS)


def test_streams_behind_the_proxy_give_the_offline_rows(ray_cluster, clips):
    images, wanted = clips
    port = free_port()
    with running(ARGS, port=port, address=ray_cluster):
        wait_until_ready(port)
        assert "sessions-1" in deployments()
        check_rows(over_rest(port, images), wanted)
        check_rows(over_sockets(port, images), wanted)


@pytest.mark.slow
def test_streams_whose_session_is_in_the_ingress_outlive_it(ray_cluster, clips):
    images, wanted = clips
    port = free_port()
    with running({**ARGS, "num_sessions": 1, "num_ingresses": 1}, port=port):
        wait_until_ready(port)
        assert deployments() == {"ingress", "detectors", "keeper"}
        check_rows(over_rest(port, images), wanted)
        with ThreadPoolExecutor(1) as pool:
            playing = pool.submit(over_sockets, port, [images[0]] * 3)
            kill_one("ingress")
            rows = playing.result(600)
        assert all(sorted(part) == sorted(wanted["clip0"]) for part in rows)


def deployments() -> set[str]:
    from ray import serve

    return set(serve.status().applications["jde"].deployments)
