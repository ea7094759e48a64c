"""The stand-ins that `jde bench pipeline`, `archive` and `long-video` run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from jde_ray.jobs.bench import stand_ins
from jde_ray.jobs.bench.memory import Memory
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.tracking.tally import Progress


def test_the_course_of_a_run_is_told_by_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    """100 videos, the second half of which takes twice as long; the last receipt brings none."""
    done = [*range(0, 100, 5), 100, 100]
    times = [*range(11), *range(12, 32, 2), 40]
    receipts = [Progress(100, number, 0, 16 * number, 1.0) for number in done]
    memory = Memory()
    memory.stop()
    for receipt in receipts:
        memory.note(receipt)
    memory._done = list(zip(map(float, times), receipts, strict=True))
    assert memory.rates("videos_done") == [5.0] * 5 + [2.5] * 5
    assert memory.rates("frames") == [80.0] * 5 + [40.0] * 5
    said = capsys.readouterr().err.splitlines()
    assert [line.split()[0] for line in said] == [str(10 * tenth) for tenth in range(1, 11)]


def test_stand_ins_give_the_same_frames_whole_and_in_parts(tmp_path: Path) -> None:
    stand_ins.write_videos(tmp_path, 1, 1000)
    whole = Segment(Video(str(tmp_path / "v000000.mp4"), "v"))
    settings = {"size": stand_ins.SIZE, "chunk_frames": 16}
    expected = list(stand_ins.decode(whole, **settings))  # type: ignore[arg-type]
    parts = stand_ins.split(whole, segment_frames=100, step=16)
    assert len(parts) == 9
    found = [c for part in parts for c in stand_ins.decode(part, **settings)]  # type: ignore[arg-type]
    for one, other in zip(found, expected, strict=True):
        assert (one.chunk_index, one.is_last) == (other.chunk_index, other.is_last)
        np.testing.assert_array_equal(one.frames, other.frames)
    assert np.concatenate([c.frame_index for c in found]).tolist() == list(range(1000))


def test_everybody_that_the_stand_in_shows_keeps_an_id(tmp_path: Path) -> None:
    source = stand_ins.write_videos(tmp_path / "in", 1, 450)
    config = stand_ins.config(num_people=5)
    summary = reference.track(
        [str(source)],
        str(tmp_path / "out"),
        config,
        components=stand_ins.COMPONENTS,
        resources=ResourceConfig(),
    )
    assert (summary.frames, summary.tracks) == (450, 5)
    table = pq.read_table(next((tmp_path / "out/tracks").iterdir()))
    assert table.num_rows == 5 * 450
