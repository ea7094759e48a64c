from __future__ import annotations

from pathlib import Path

import pytest

from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.layout import PICTURES_KEY
from jde_ray.pipelines.output.picture_record import check_pictures, record_pictures
from jde_ray.pipelines.storage.base import ObjectStore
from jde_ray.pipelines.storage.stores import open_store

PLAIN, HEADS = OutputConfig(save_video=True), OutputConfig(save_video=True, blur="heads")
CROPS, FIVE = OutputConfig(save_crops=True), OutputConfig(save_crops=True, crops_per_track=5)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return open_store(str(tmp_path))


def refusal(store: ObjectStore, outputs: OutputConfig) -> str:
    with pytest.raises(RunError) as caught:
        check_pictures(store, outputs)
    assert caught.value.exit_code == ExitCode.OTHER_CONFIGURATION
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("first", "then"), [(PLAIN, HEADS), (HEADS, PLAIN)])
def test_pictures_of_one_out_hide_the_same(
    store: ObjectStore, first: OutputConfig, then: OutputConfig
) -> None:
    check_pictures(store, first)
    record_pictures(store, first)
    check_pictures(store, first)
    assert f"blur: got {then.blur}, but the pictures in" in refusal(store, then)
    check_pictures(store, OutputConfig(blur="people"))  # makes no pictures
    store.delete(PICTURES_KEY)
    check_pictures(store, then)


def test_pictures_without_a_record_may_show_people(store: ObjectStore) -> None:
    store.put("videos/a-0123456789abcdef.mp4", b"x")
    check_pictures(store, PLAIN)
    assert "have none" in refusal(store, HEADS)
    record_pictures(store, PLAIN)
    for content in (b"", b"[]", b"{}", b'{"blur": "heads", "crops_per_track": "x"}'):
        store.put(PICTURES_KEY, content)
        assert "have none" in refusal(store, HEADS)


def test_crops_per_track_matter_once_there_are_crops(store: ObjectStore) -> None:
    record_pictures(store, PLAIN)
    check_pictures(store, FIVE)
    record_pictures(store, FIVE)
    record_pictures(store, PLAIN)  # keeps what is known of the crops
    check_pictures(store, PLAIN)
    assert "crops-per-track: got 3, but the crops in" in refusal(store, CROPS)
