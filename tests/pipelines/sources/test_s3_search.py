"""Which keys of a bucket are sources. Only the listing is made up."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jde_ray.pipelines.errors import RunError
from jde_ray.pipelines.sources import s3_search
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Video

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

        monkeypatch.setattr(s3_search, "list_objects", listed)
        found = list(s3_search.find_objects(source))
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
    crops = ["crops/index/a-1.parquet", "crops/a-1/00000001/00000000.jpg"]
    keys += [*(f"cam/run/{key}" for key in crops), *crops, "cam/crops/x.jpg"]
    own = ["cam/a.mp4", "cam/run/videos/own.mp4", "videos/own.mp4"]
    assert find(keys, "s3://b") == own
    assert find(keys, "s3://b/**/*.mp4") == own
    assert find(keys, "s3://b/cam/run/videos/a-1.mp4") == ["cam/run/videos/a-1.mp4"]
    assert find(keys, "s3://b/cam/run/videos") == [f"cam/run/{key}" for key in of_run[2:]]
    assert len(find_videos("s3://b").videos) == 3
    assert caplog.messages == [
        "passed over: 2 drawn videos of a run, 1 .gif file, 1 picture"
        " (a folder of pictures is a video if you name it)"
    ]


def plain_regex(pattern: str) -> str:
    """The meaning of a glob without classes, said once more."""
    tokens = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"((?:(?<=/)|^)\*\*/|\*\*|\*|\?)", pattern)
    return "".join(tokens.get(part, re.escape(part)) for part in parts)


@settings(max_examples=150, deadline=None)
@given(st.text("ab/*?", max_size=8), st.text("ab/", max_size=8))
def test_a_glob_means_what_it_says(pattern: str, key: str) -> None:
    if "***" in pattern:
        return
    is_match = re.fullmatch(plain_regex(pattern), key) is not None
    assert (re.fullmatch(s3_search._glob_to_regex(pattern), key) is not None) == is_match


@pytest.mark.parametrize(
    ("pattern", "yes", "no"),
    [
        ("[ab]*.mp4", "b1.mp4", "c1.mp4"),
        ("[!ab]?.mp4", "c1.mp4", "a1.mp4"),
        ("[]].mp4", "].mp4", "[.mp4"),
        ("[[&&]x", "&x", "ax"),
        ("a[b", "a[b", "ab"),
        (r"[\\]x", r"\x", "x"),
    ],
)
def test_classes_of_a_glob(pattern: str, yes: str, no: str) -> None:
    regex = re.compile(s3_search._glob_to_regex(pattern))
    assert regex.fullmatch(yes)
    assert not regex.fullmatch(no)


@contextmanager
def hang_guard(seconds: int = 60) -> Iterator[None]:
    """Fail instead of hanging: the steps of a regular expression cannot be counted."""

    def fail(*_: object) -> None:
        pytest.fail(f"no end after {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def test_a_glob_and_a_key_that_were_made_to_take_for_ever_do_not() -> None:
    regex = re.compile(s3_search._glob_to_regex("**/" + "*a" * 30 + "*b/x"), re.DOTALL)
    with hang_guard():  # it takes milliseconds, or longer than the universe is old
        assert not regex.fullmatch("a" * 1000)
        assert not regex.fullmatch("a/" * 500)
    with pytest.raises(RunError, match=r"too many \*\*, expected 2"):
        find_videos("s3://b/**/a/**/a/**/*.mp4")
    with pytest.raises(RunError, match=r"too many \*\*, expected 2"):
        find_videos("**/a/**/a/**/*.mp4")
