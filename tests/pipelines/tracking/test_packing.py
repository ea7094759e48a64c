"""Which videos a run takes of an archive, and which of them share a row."""

import pytest

from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking.packing import pack, take_share
from jde_ray.pipelines.tracking.stages.shard_client import shard_of


def test_shares_of_an_archive_are_disjoint_whole_and_steady():
    videos = [Video(f"/archive/{number}.mp4", f"{number}") for number in range(500)]
    parts = [take_share(videos, [], (part, 4))[0] for part in range(1, 5)]
    assert sorted((v for part in parts for v in part), key=videos.index) == videos
    assert all(80 < len(part) < 180 for part in parts)
    assert take_share(videos[::2], [], (2, 4))[0] == [v for v in videos[::2] if v in parts[1]]
    owners = {shard_of(video.video_id, 4) for video in parts[0]}
    assert owners == {0, 1, 2, 3}  # or one association actor had all the work
    assert take_share(videos, [], (1, 1))[0] == videos


def segments(number, num_bytes=1000):
    names = map(str, range(number))
    return [Segment(Video(f"/a/{name}.mp4", name, num_bytes=num_bytes)) for name in names]


def test_short_videos_of_a_large_archive_share_rows():
    resources = ResourceConfig()
    assert [len(row) for row in pack(segments(100), resources)] == [1] * 100
    assert {len(row) for row in pack(segments(512), resources)} == {4}
    many = segments(10_000)
    rows = pack(many, resources)
    assert len(rows) == 157
    assert [segment for row in rows for segment in row] == many


def test_rows_follow_the_number_of_decoders():
    resources = ResourceConfig()
    assert {len(row) for row in pack(segments(2048), resources, 1)} == {64}
    assert {len(row) for row in pack(segments(2048), resources, 8)} == {8}
    assert {len(row) for row in pack(segments(2048), resources, 100)} == {1}


def test_the_files_of_a_row_are_no_larger_than_one_that_is_split():
    rows = pack(segments(2000, 1 << 20), ResourceConfig(), 1)
    assert {len(row) for row in rows} == {8}


@pytest.mark.parametrize("num_bytes", [0, 8 << 20])
def test_large_videos_and_those_of_unknown_size_stay_alone(num_bytes):
    assert {len(row) for row in pack(segments(1000, num_bytes), ResourceConfig())} == {1}


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_partition_that_is_none_is_refused(wrong):
    with pytest.raises(ValueError, match="partition: got"):
        ResourceConfig(partition=wrong)
