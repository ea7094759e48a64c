"""The service behind Serve's proxy, as on a cluster: the same rows as offline."""

from __future__ import annotations

import fakes
import pytest
from online_clips import (
    ARGS,
    offline_rows,
    over_rest,
    over_sockets,
    wait_until_ready,
    write_clips,
)
from online_service import free_port

from pipelines.online.running import running

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
]


def test_streams_behind_the_proxy_give_the_offline_rows(ray_cluster, tmp_path):
    images = write_clips(tmp_path, 3, 10)
    wanted = offline_rows(tmp_path, fakes.CONFIG, fakes.PARTS)
    port = free_port()
    with running(ARGS, port=port, address=ray_cluster):
        wait_until_ready(port)
        for rows in (over_rest(port, images), over_sockets(port, images)):
            assert {f"clip{i}": sorted(part) for i, part in enumerate(rows)} == {
                name: sorted(part) for name, part in wanted.items()
            }
