"""Which keys of a bucket are sources. Only the listing is made up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pipelines import s3_sources
from pipelines.plan import find_videos
from pipelines.schema import Video

Found = Callable[..., list[str]]


@pytest.fixture
def find(monkeypatch: pytest.MonkeyPatch) -> Found:
    """Keys of the videos behind a source, in a bucket of these keys."""

    def search(keys: list[str], source: str) -> list[str]:
        def listed(bucket: str, prefix: str) -> Iterator[dict[str, Any]]:
            of_bucket = sorted(keys, key=str.encode)
            yield from (
                {"Key": key, "Size": 1, "ETag": "x"} for key in of_bucket if key.startswith(prefix)
            )

        monkeypatch.setattr(s3_sources, "list_objects", listed)
        found = list(s3_sources.find_objects(source))
        return [one.uri.removeprefix("s3://b/") for one in found if isinstance(one, Video)]

    return search


ODD = ["cam/a.mp4", "cam/b\nc.mp4", "cam/x\r.mp4", "cam1/e.mp4", "cam[1]/d.mp4", "cam[1]/e.txt"]


@pytest.mark.parametrize(
    ("source", "keys"),
    [
        ("s3://b/cam", ODD[:3]),
        ("s3://b/cam/", ODD[:3]),
        ("s3://b", ODD[:5]),
        ("s3://b/**/*.mp4", ODD[:5]),
        ("s3://b/cam/*.mp4", ODD[:3]),
        ("s3://b/cam/b\nc.mp4", ODD[1:2]),
        ("s3://b/cam[1]", ODD[4:5]),
        ("s3://b/cam[1]/", ODD[4:5]),
        ("s3://b/cam[1]/*", ODD[3:4]),
        ("s3://b/cam[1]/e.txt", ODD[5:]),
    ],
)
def test_keys_of_all_kinds_are_found(find: Found, source: str, keys: list[str]) -> None:
    assert find(ODD, source) == keys


def test_what_a_run_drew_is_no_source(find: Found, caplog: pytest.LogCaptureFixture) -> None:
    of_run = ["run.json", "tracks/a-1.parquet", "videos/a-1.mp4", "videos/own.mp4"]
    keys = ["cam/a.mp4", "cam/z.gif", *(f"cam/run/{key}" for key in of_run), *of_run]
    own = ["cam/a.mp4", "cam/run/videos/own.mp4", "videos/own.mp4"]
    assert find(keys, "s3://b") == own
    assert find(keys, "s3://b/**/*.mp4") == own
    assert find(keys, "s3://b/cam/run/videos/a-1.mp4") == ["cam/run/videos/a-1.mp4"]
    assert find(keys, "s3://b/cam/run/videos") == [f"cam/run/{key}" for key in of_run[2:]]
    assert len(find_videos("s3://b").videos) == 3
    assert caplog.messages == ["passed over: 2 drawn videos of a run, 1 .gif file"]
