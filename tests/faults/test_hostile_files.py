"""An archive of hostile files and good videos: every file gets tracks or a one-line error.

JDE_FUZZ_SEED chooses other files.
"""

from __future__ import annotations

import json
import os
import random
import resource
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import fakes
import pytest
from hostile_files import SUFFIXES, Makers
from made_videos import write_video

from jde_ray.pipelines.config import ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, Reason
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.video import source_file, video_file
from jde_ray.pipelines.video.image_headers import MAX_SCANS

SEED = int(os.environ.get("JDE_FUZZ_SEED", "0"))
COMPONENTS = fakes.Components(build_model=fakes.NumberModel)
CONFIG: TrackConfig = replace(fakes.CONFIG, min_box_area=0)
MOST_MEMORY = 1 << 30  # bytes that a run may take more than at its start
MOST_READS = 100_100  # of a file: as many boxes as are looked at, and what libav reads
MOST_TIMES_READ = 4  # a file is opened, scanned and decoded, and some are opened once more


def write_archive(folder: Path, made: Path, num_hostile: int, num_good: int) -> Path:
    """Hostile files of all kinds in turn, good videos, and a folder that is called like one."""
    folder.mkdir()
    makers = Makers(made)
    kinds = sorted(makers.kinds)
    assert len(kinds) >= 20
    for number in range(num_hostile):
        kind, rng = kinds[number % len(kinds)], random.Random(f"{SEED} {number}")
        makers.kinds[kind](folder / f"{kind}_{number:04d}{rng.choice(SUFFIXES)}", rng)
    for number in range(num_good):
        write_video(folder / f"good_{number:03d}.mp4", 8 + number % 5, gop=4)
    (folder / "folder.mp4").mkdir()
    return folder


def rows_of_good(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (out / "tracks").glob("good_*.parquet")}


def check(source: Path, out: Path, num_good: int) -> None:
    """Every file has tracks or one line; the good ones are as in a run of their own."""
    errors = [json.loads(path.read_text()) for path in sorted((out / "errors").glob("*.json"))]
    assert not [error for error in errors if Path(error["video"]).name.startswith("good_")]
    reasons = {error["reason"] for error in errors}
    assert reasons <= {str(reason) for reason in Reason} - {"internal", "worker_died"}, reasons
    assert all("\n" not in error["detail"] and error["detail"] for error in errors)
    done = {path.name.rsplit("-", 1)[0] for path in (out / "tracks").glob("*.parquet")}
    failed = {Path(error["video"]).stem for error in errors}
    videos = {path.stem for path in source.iterdir() if path.suffix in SUFFIXES} - {"folder"}
    assert done | failed == videos
    assert not done & failed
    alone = out.parent / "alone"
    if not alone.exists():
        good = [str(path) for path in sorted(source.glob("good_*.mp4"))]
        reference.track(good, str(alone), CONFIG, components=COMPONENTS)
    assert rows_of_good(out) == rows_of_good(alone)
    assert len(rows_of_good(out)) == num_good


def memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Work:
    """Counts what a run reads of every file, and keeps the images that reach a decoder."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads: Counter[str] = Counter()
        self.num_bytes: Counter[str] = Counter()
        self.images: list[bytes] = []
        open_file, check_packet = source_file._open, video_file.check_packet

        def check(data: bytes, frame: int) -> bytes:
            self.images.append(check_packet(data, frame))
            return self.images[-1]

        monkeypatch.setattr(
            source_file, "_open", lambda uri: CountedFile(open_file(uri), uri, self)
        )
        monkeypatch.setattr(video_file, "check_packet", check)

    def check(self) -> None:
        assert max(self.reads.values()) <= MOST_READS, self.reads.most_common(3)
        for path, num_bytes in self.num_bytes.items():
            assert num_bytes <= MOST_TIMES_READ * Path(path).stat().st_size, path
        assert self.images
        assert max(map(len, self.images)) < 100_000  # the pixels of 96x64 need 5000
        assert max(image.count(b"\xff\xda") for image in self.images) <= MAX_SCANS


class CountedFile:
    """A file whose reads are counted."""

    def __init__(self, file: BinaryIO, path: str, work: Work) -> None:
        self._file, self._path, self._work = file, path, work

    def __enter__(self) -> CountedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count)
        self._work.reads[self._path] += 1
        self._work.num_bytes[self._path] += len(data)
        return data


def test_hostile_files_have_one_line_each_and_good_ones_the_rows_of_a_run_of_their_own(
    tmp_path, monkeypatch
):
    source = write_archive(tmp_path / "in", tmp_path / "made", 39, 3)
    before = memory()
    with monkeypatch.context() as patch:
        work = Work(patch)
        summary = reference.track(
            [str(source)], str(tmp_path / "out"), CONFIG, components=COMPONENTS
        )
    assert summary.exit_code == ExitCode.SOME_FAILED
    work.check()
    assert memory() - before < MOST_MEMORY
    check(source, tmp_path / "out", 3)


@pytest.mark.slow
def test_a_thousand_hostile_files_among_fifty_good_videos(tmp_path, monkeypatch):
    source = write_archive(tmp_path / "in", tmp_path / "made", 1000, 50)
    before = memory()
    with monkeypatch.context() as patch:
        work = Work(patch)
        reference.track([str(source)], str(tmp_path / "out"), CONFIG, components=COMPONENTS)
    work.check()
    assert memory() - before < MOST_MEMORY
    check(source, tmp_path / "out", 50)


@pytest.mark.slow
@pytest.mark.ray
def test_hostile_files_end_no_worker_of_the_dataflow(ray_cluster: str, tmp_path: Path) -> None:
    source = write_archive(tmp_path / "in", tmp_path / "made", 200, 10)
    resources = ResourceConfig(num_detectors=1, num_decoders=1)
    out = str(tmp_path / "out")
    offline.track([str(source)], out, CONFIG, components=COMPONENTS, resources=resources)
    check(source, tmp_path / "out", 10)
