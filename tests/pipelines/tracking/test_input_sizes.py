"""`--size auto` in a run: chosen once per video, kept in OUT, the same with and without Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fakes
import pyarrow.parquet as pq
import pytest
from fakes import Script

from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.formats.file_facts import FileFacts
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.structures import FrameChunk, Segment
from jde_ray.pipelines.tracking import offline, reference

CONFIG = replace(fakes.CONFIG, detection=replace(fakes.CONFIG.detection, auto_size=True))
LARGEST = (192, 128)  # walkers are 20 to 24 px high at 96x64, so less than 45 at most sizes
OUTPUTS = OutputConfig(save_detections=True)
RESOURCES = ResourceConfig(chunk_frames=8, num_detectors=1, num_associators=1)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return fakes.archive(tmp_path / "archive", v0=Script(frames=40), v1=Script(frames=9, seed=1))


def track(archive: Path, out: Path, config: TrackConfig = CONFIG, **more: object) -> Summary:
    given = {"components": fakes.COMPONENTS, "resources": RESOURCES, **more}
    return reference.track([str(archive)], str(out), config, **given)  # type: ignore[arg-type]


def facts(out: Path) -> dict[str, FileFacts]:
    files = sorted((out / "tracks").glob("*.parquet"))
    return {file.name[:2]: FileFacts.of(pq.read_metadata(file)) for file in files}


def choices(out: Path) -> dict[str, Path]:
    return {file.name[:2]: file for file in sorted((out / "input_sizes").iterdir())}


def test_the_choice_is_in_the_files_and_in_the_summary(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = track(archive, out)
    assert [row.input_size for row in summary.videos] == ["192x128", "192x128"]
    own = facts(out)["v0"]
    assert own.input_size == "192x128"
    kept = json.loads(choices(out)["v0"].read_text())
    assert (tuple(kept["size"]), kept["why"]) == (LARGEST, own.metadata[b"input_size_why"].decode())
    assert "px high at 96x64" in kept["why"]
    again = track(archive, out)  # done before: read from the files
    assert [row.input_size for row in again.videos] == ["192x128", "192x128"]
    assert again.videos[0].input_size_why == kept["why"]


def test_without_auto_nothing_is_chosen_and_old_runs_go_on(archive: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = track(archive, out, fakes.CONFIG)
    assert [row.input_size for row in summary.videos] == ["", ""]
    assert not (out / "input_sizes").exists()
    assert facts(out)["v0"].input_size == ""
    record = json.loads((out / "run.json").read_text())["config"]
    assert record["detection"].pop("auto_size") is False
    assert CONFIG.hash() != fakes.CONFIG.hash()
    assert "auto_size" not in hashed(fakes.CONFIG)
    with pytest.raises(RunError, match=r"detection.auto_size: False there, True here") as caught:
        track(archive, out)
    assert caught.value.exit_code == ExitCode.OTHER_CONFIGURATION


def hashed(config: TrackConfig) -> str:
    """What the hash is of."""
    seen: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hashlib.sha256", lambda text: seen.append(text.decode()) or Digest())
        config.hash()
    return seen[0]


class Digest:
    def hexdigest(self) -> str:
        return "0" * 64


def test_frames_are_decoded_at_the_size_that_out_names(archive: Path, tmp_path: Path) -> None:
    """As when a run is continued: what was chosen before holds."""
    first, out = tmp_path / "first", tmp_path / "out"
    track(archive, first)
    decoded: dict[str, set[object]] = {}

    def decode(segment: Segment, **settings: object) -> Iterator[FrameChunk]:
        name = segment.video.name
        decoded.setdefault(name, set()).add((settings["size"], settings["rect"]))
        return fakes.decode(segment, **settings)  # type: ignore[arg-type]

    (out / "input_sizes").mkdir(parents=True)
    for name, file in choices(first).items():
        kept = json.loads(file.read_text())
        changed = {**kept, "size": [128, 96]} if name == "v0" else {**kept, "version": "older"}
        (out / "input_sizes" / file.name).write_text(json.dumps(changed))
    track(archive, out, components=replace(fakes.COMPONENTS, decode=decode))
    assert decoded["v0"] == {((128, 96), False)}
    assert ((192, 128), False) in decoded["v1"]
    assert facts(out)["v0"].input_size == "128x96"
    replaced = json.loads(choices(out)["v1"].read_text())
    assert replaced == json.loads(choices(first)["v1"].read_text())


@pytest.mark.parametrize("content", ["", "[]", '{"size": [1], "version": ""}', '{"why": 3}'])
def test_a_damaged_choice_is_made_again(archive: Path, tmp_path: Path, content: str) -> None:
    out = tmp_path / "out"
    track(archive, tmp_path / "first")
    name = choices(tmp_path / "first")["v0"].name
    (out / "input_sizes").mkdir(parents=True)
    (out / "input_sizes" / name).write_text(content)
    assert track(archive, out).exit_code == ExitCode.DONE
    assert facts(out)["v0"].input_size == "192x128"
    assert json.loads((out / "input_sizes" / name).read_text())["size"] == [192, 128]


def test_a_video_that_cannot_be_read_has_no_choice(tmp_path: Path) -> None:
    archive = fakes.archive(tmp_path / "a", cut=Script(error_at=0), nan=Script(seed=8, nan_at=0))
    out = tmp_path / "out"
    summary = track(archive, out)
    assert {error["reason"] for error in summary.errors} == {"truncated", "non_finite_output"}
    assert list(choices(out)) == ["na"]  # nobody was found before its first error


def test_a_store_that_cannot_be_written_ends_the_run(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jde_ray.pipelines.storage.local import LocalStore

    before = LocalStore.put_if_absent

    def put(self: LocalStore, key: str, body: bytes) -> bool:
        if key.startswith("input_sizes/"):
            raise OSError("no space left")
        return before(self, key, body)

    monkeypatch.setattr(LocalStore, "put_if_absent", put)
    with pytest.raises(RunError, match=r"cannot write to .*: no space left"):
        track(archive, tmp_path / "out")


def products(out: Path) -> dict[str, bytes]:
    folders = ("tracks", "detections", "input_sizes")
    files = (path for name in folders for path in sorted((out / name).iterdir()))
    return {path.name: path.read_bytes() for path in files if "killer" not in path.name}


def on_ray(archive: Path, out: Path, num_detectors: int) -> Summary:
    return offline.track(
        [str(archive)],
        str(out),
        CONFIG,
        components=fakes.COMPONENTS,
        resources=replace(RESOURCES, num_detectors=num_detectors, segment_frames=16, cut_bytes=0),
        outputs=OUTPUTS,
    )


@pytest.mark.ray
def test_the_dataflow_gives_the_plain_loops_bytes(
    ray_cluster: str, archive: Path, tmp_path: Path
) -> None:
    track(archive, tmp_path / "plain", outputs=OUTPUTS)
    summary = on_ray(archive, tmp_path / "ray", 1)
    assert products(tmp_path / "ray") == products(tmp_path / "plain")
    assert [row.input_size for row in summary.videos] == ["192x128", "192x128"]


@pytest.mark.slow
@pytest.mark.ray
def test_a_video_that_kills_its_worker_takes_no_choice_from_the_others(
    ray_cluster: str, archive: Path, tmp_path: Path
) -> None:
    track(archive, tmp_path / "plain", outputs=OUTPUTS)
    fakes.archive(archive, killer=Script(seed=3, exit_at=0))
    summary = on_ray(archive, tmp_path / "ray", 2)
    assert products(tmp_path / "ray") == products(tmp_path / "plain")
    assert [row.input_size for row in summary.videos] == ["", "192x128", "192x128"]
    assert [error["reason"] for error in summary.errors] == ["worker_died"]
