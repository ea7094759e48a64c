"""The dataflow on a local Ray. Every run is compared with the plain loop, byte for byte."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import fakes
import pytest
from fakes import Script

from jde_ray.pipelines.config import OutputConfig, PoolSize, ResourceConfig, SourceConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.names import sequence_name
from jde_ray.pipelines.output.layout import mot_key
from jde_ray.pipelines.sources.discovery import find_videos
from jde_ray.pipelines.structures import Segment, Video
from jde_ray.pipelines.tracking import offline, reference
from jde_ray.pipelines.tracking.offline import build
from jde_ray.pipelines.tracking.pools import size_pools
from jde_ray.pipelines.tracking.run import Attempt
from jde_ray.pipelines.tracking.stages.decode import Decoder

pytestmark = pytest.mark.ray

SMALL = ResourceConfig(chunk_frames=8, num_detectors=1, num_associators=1)
OUTPUTS = OutputConfig(save_mot=True, save_embeddings=True, save_detections=True)


def products(out: Path) -> dict[str, bytes]:
    """Everything a run made but what it says about itself."""
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in ("run.json", "report.html", "summary.json")
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos, two of which fail; the containers of two say when they began."""
    scripts = {f"v{i}": Script(frames=20 + 13 * i, seed=i) for i in range(4)}
    for name, start_us in (("v0", 1_714_555_800_000_000), ("v2", 1_714_555_800_250_001)):
        scripts[name] = replace(scripts[name], start_us=start_us)
    scripts["cut"] = Script(seed=7, error_at=30)
    scripts["nan"] = Script(seed=8, nan_at=21)
    return fakes.archive(tmp_path_factory.mktemp("archive"), **scripts)


@pytest.fixture(scope="module")
def expected(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("reference")
    summary = reference.track(
        [str(archive)],
        str(out),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        resources=SMALL,
        outputs=OUTPUTS,
    )
    assert summary.exit_code == ExitCode.SOME_FAILED
    return products(out)


@pytest.mark.parametrize(
    ("detectors", "shards", "chunk_frames", "decode", "row_bytes", "packs"),
    [
        (1, 1, 8, fakes.decode, 8 << 20, 128),
        ((1, 3), 3, 8, fakes.decode_shuffled, 0, 128),  # a pool that follows; a chunk a row
        (3, 2, 5, fakes.decode_shuffled, 100_000, 1),  # all videos in one task, four chunks a row
    ],
)
def test_the_dataflow_gives_the_plain_loops_bytes(
    ray_cluster: str,
    archive: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    detectors: PoolSize,
    shards: int,
    chunk_frames: int,
    decode: Decoder,
    row_bytes: int,
    packs: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("jde_ray.pipelines.tracking.packing._fewest_packs", lambda _: packs)
    resources = ResourceConfig(
        chunk_frames=chunk_frames,
        num_detectors=detectors,
        num_associators=shards,
        row_bytes=row_bytes,
    )
    seen: list[offline.Progress] = []
    summary = offline.track(
        [str(archive)],
        str(tmp_path),
        fakes.CONFIG,
        components=replace(fakes.COMPONENTS, decode=decode),
        resources=resources,
        outputs=OUTPUTS,
        progress=seen.append,
    )
    assert products(tmp_path) == expected
    assert summary.exit_code == ExitCode.SOME_FAILED
    assert (summary.videos_done, summary.videos_failed, summary.passes) == (4, 2, 1)
    assert {error["reason"] for error in summary.errors} == {"truncated", "non_finite_output"}
    assert seen[-1].videos_done == seen[-1].videos == 6
    assert summary.seconds["decode"] > 0
    assert list(summary.frames_by_node.values()) == [summary.frames_seen]
    assert json.loads((tmp_path / "summary.json").read_text())["rows"] == summary.rows


def test_long_videos_in_parts_give_the_plain_loops_bytes(
    ray_cluster: str, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """Every video is cut into parts of two chunks, and kept after every third chunk."""
    resources = ResourceConfig(
        chunk_frames=8,
        num_detectors=2,
        num_associators=2,
        num_decoders=3,
        segment_frames=16,
        cut_bytes=0,
        checkpoint_frames=24,
    )
    summary = offline.track(
        [str(archive)],
        str(tmp_path),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        resources=resources,
        outputs=OUTPUTS,
    )
    assert products(tmp_path) == expected  # and no checkpoint is left
    assert summary.passes == 1
    assert summary.frames > 100


def test_cameras_and_times_are_those_of_the_plain_loop(
    ray_cluster: str, archive: Path, tmp_path: Path
) -> None:
    """By pattern and container, in parts and with checkpoints."""
    resources = replace(SMALL, num_decoders=3, segment_frames=16, cut_bytes=0, checkpoint_frames=24)
    given = {"components": fakes.COMPONENTS, "resources": resources, "outputs": OUTPUTS}
    named = find_videos(str(archive), SourceConfig(source_pattern="{camera}/v*"))
    plain, out = tmp_path / "plain", tmp_path / "out"
    reference.track(named, str(plain), fakes.CONFIG, **given)
    summary = offline.track(named, str(out), fakes.CONFIG, **given)
    assert products(out) == products(plain)
    found = {row.video_id[:2]: (row.camera, row.start) for row in summary.videos if not row.error}
    began = "2024-05-01T09:30:00+00:00"
    assert found == {
        "v0": (archive.name, began),
        "v1": (archive.name, None),
        "v2": (archive.name, "2024-05-01T09:30:00.250001+00:00"),
        "v3": (archive.name, None),
    }
    again = offline.track(named, str(out), fakes.CONFIG, **given)
    assert (again.videos_skipped, again.relabelled) == (4, [])
    assert (again.videos_without_camera, again.videos_without_start) == (0, 2)


@pytest.mark.parametrize("segment_frames", [16, 1500])
def test_the_tracks_before_damage_are_those_of_the_plain_loop(
    ray_cluster: str, archive: Path, expected: dict[str, bytes], tmp_path: Path, segment_frames: int
) -> None:
    """Whole videos are not changed by the flag, in parts or in one piece."""
    outputs = replace(OUTPUTS, keep_partial=True)
    resources = replace(SMALL, segment_frames=segment_frames, cut_bytes=0)
    given = {"components": fakes.COMPONENTS, "resources": resources, "outputs": outputs}
    plain, out = tmp_path / "plain", tmp_path / "out"
    reference.track([str(archive)], str(plain), fakes.CONFIG, **given)
    summary = offline.track([str(archive)], str(out), fakes.CONFIG, **given)
    assert products(out) == products(plain)
    added = products(out).keys() - expected.keys()
    assert {name.partition("/")[0] for name in added} == {"tracks", "mot", "detections"}
    same = products(out).keys() & expected.keys()
    assert len(same) == len(expected) - 1
    assert all(products(out)[name] == expected[name] for name in same)
    assert (summary.videos_done, summary.videos_partial, summary.videos_failed) == (5, 1, 1)
    assert summary.exit_code == ExitCode.SOME_FAILED


def test_a_lost_association_actor_goes_on_from_its_checkpoints(
    ray_cluster: str, tmp_path: Path
) -> None:
    """It is killed when half of a long video is kept; the rest is all that is decoded again."""
    import ray

    plain, out, go_on = tmp_path / "plain", tmp_path / "out", tmp_path / "go-on"
    script = Script(frames=160, seed=5, pause_at=112, pause_for=str(go_on))
    source = fakes.archive(tmp_path / "in", long=script)
    resources = replace(SMALL, segment_frames=16, cut_bytes=0, checkpoint_frames=16)
    settings = {"components": fakes.COMPONENTS, "resources": resources, "outputs": OUTPUTS}
    go_on.touch()
    reference.track([str(source)], str(plain), fakes.CONFIG, **settings)
    go_on.unlink()
    kept: list[int] = []
    frames: list[int] = []

    def kill_at_half(progress: offline.Progress) -> None:
        states = [int(path.parent.name) for path in out.glob("checkpoints/*/*/*/state.npz")]
        frames.append(progress.frames)
        if not kept and max(states, default=0) >= 80:
            kept.append(progress.frames)
            names = ray.util.list_named_actors()
            ray.kill(ray.get_actor(next(name for name in names if name.startswith("jde-"))))
            go_on.touch()

    summary = offline.track(
        [str(source)], str(out), fakes.CONFIG, progress=kill_at_half, **settings
    )
    assert kept
    assert summary.passes == 2
    assert (summary.videos_done, summary.frames) == (1, 160)
    assert products(out) == products(plain)
    redone = frames[-1] - 160
    assert redone <= 80, "more than what follows the checkpoint was done again"


@pytest.mark.slow
def test_a_run_goes_on_from_the_checkpoints_of_a_run_that_was_ended(
    ray_cluster: str, tmp_path: Path
) -> None:
    plain, out, go_on = tmp_path / "plain", tmp_path / "out", tmp_path / "go-on"
    script = Script(frames=160, seed=6, pause_at=112, pause_for=str(go_on))
    source = fakes.archive(tmp_path / "in", long=script)
    resources = replace(SMALL, segment_frames=16, cut_bytes=0, checkpoint_frames=16)
    settings = {"components": fakes.COMPONENTS, "resources": resources, "outputs": OUTPUTS}
    go_on.touch()
    reference.track([str(source)], str(plain), fakes.CONFIG, **settings)
    go_on.unlink()

    def terminate(_: offline.Progress) -> None:
        if any(int(path.parent.name) >= 80 for path in out.glob("checkpoints/*/*/*/state.npz")):
            signal.raise_signal(signal.SIGTERM)

    first = offline.track([str(source)], str(out), fakes.CONFIG, progress=terminate, **settings)
    assert first.exit_code == ExitCode.TERMINATED
    go_on.touch()
    seen: list[offline.Progress] = []
    summary = offline.track([str(source)], str(out), fakes.CONFIG, progress=seen.append, **settings)
    assert (summary.exit_code, summary.frames) == (ExitCode.DONE, 160)
    assert seen[-1].frames <= 80
    assert products(out) == products(plain)


@pytest.mark.slow
def test_parts_that_do_not_fit_together_are_done_again_as_one(
    ray_cluster: str, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    summary = offline.track(
        [str(archive / "v2.mp4")],
        str(tmp_path),
        fakes.CONFIG,
        components=replace(fakes.COMPONENTS, decode=fakes.decode_misfit),
        resources=replace(SMALL, segment_frames=16, cut_bytes=0, checkpoint_frames=8),
        outputs=OUTPUTS,
    )
    assert (summary.passes, summary.exit_code) == (2, ExitCode.DONE)
    found = products(tmp_path)
    assert found == {key: value for key, value in expected.items() if "/v2-" in key}


def test_decoding_is_a_stage_of_its_own(
    ray_cluster: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """Ray Data would fuse it into the detectors if both asked for the same resources."""
    pools = size_pools(SMALL)
    assert pools.decoder_cpus == pools.detector_cpus
    attempt = Attempt("no-attempt", [Segment(Video("/archive/a.mp4", "a"))], pools)
    build(attempt, fakes.CONFIG, SMALL, fakes.COMPONENTS).explain()
    plan = capfd.readouterr().out
    physical = plan[plan.index("Physical Plan") :]
    assert "decode_rows" in physical
    assert "->MapBatches(DetectorStage)" not in physical.replace(" ", "")


def test_what_is_committed_is_not_opened_again(
    archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """A finished OUT needs neither Ray nor a decoder."""
    settings = {"resources": SMALL, "outputs": OUTPUTS}
    source, out = [str(archive)], str(tmp_path)
    reference.track(source, out, fakes.CONFIG, components=fakes.COMPONENTS, **settings)
    broken = fakes.Components(decode=fakes.refuse, build_model=fakes.refuse)
    summary = offline.track(source, out, fakes.CONFIG, components=broken, **settings)
    assert (summary.videos_skipped, summary.videos_failed, summary.frames) == (4, 0, 0)
    assert (summary.videos_failed_before, summary.exit_code) == (2, ExitCode.DONE)
    assert products(tmp_path) == expected


def test_an_out_of_another_configuration_is_refused(archive: Path, tmp_path: Path) -> None:
    source, out = [str(archive)], str(tmp_path)
    reference.track(source, out, fakes.CONFIG, components=fakes.COMPONENTS)
    before = products(tmp_path)
    with pytest.raises(RunError, match=r"min_box_area: 200\.0 there, 10 here") as refused:
        offline.track(
            source, out, replace(fakes.CONFIG, min_box_area=10), components=fakes.COMPONENTS
        )
    assert refused.value.exit_code == ExitCode.OTHER_CONFIGURATION
    assert products(tmp_path) == before


def test_workers_that_die_cost_nothing_but_the_video_that_kills_them(
    ray_cluster: str,
    archive: Path,
    expected: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One video ends its detector once; one ends it always; one ends its decoder always.

    They share tasks and rows with one that does nothing of the kind.
    """
    monkeypatch.setattr("jde_ray.pipelines.tracking.packing._fewest_packs", lambda _: 1)
    good = Script(frames=33, seed=1)
    assert Script(**json.loads((archive / "v1.mp4").read_text())) == good
    scripts = {
        "v1": replace(good, exit_once_at=17),
        "poison": Script(exit_at=12),
        "segfault": Script(decode_exit_at=20),
    }
    mixed = fakes.archive(tmp_path / "in", **scripts)
    mark = tmp_path / "fake"
    mark.mkdir()
    config = replace(fakes.CONFIG, detection=replace(fakes.CONFIG.detection, weights=str(mark)))
    again = [str(archive / "v2.mp4"), str(mixed)]
    out = tmp_path / "out"
    summary = offline.track(
        again, str(out), config, components=fakes.COMPONENTS, resources=SMALL, outputs=OUTPUTS
    )
    assert (mark / "has-died").exists()
    assert {(Path(e["video"]).stem, e["reason"], e["detail"]) for e in summary.errors} == {
        ("poison", "worker_died", "chunk 1 ended 3 detectors"),
        ("segfault", "worker_died", "decoding ended 3 workers"),
    }
    assert (summary.videos_done, summary.passes) == (2, 1)
    found = products(out)
    for key, content in found.items():
        if "/v2-" in key:
            assert content == expected[key]
    plain = tmp_path / "plain"
    (mark / "has-died").touch()
    reference.track(
        [str(mixed / "v1.mp4")],
        str(plain),
        config,
        components=fakes.COMPONENTS,
        resources=SMALL,
        outputs=OUTPUTS,
    )
    assert products(plain).items() <= found.items()


def test_a_lost_association_actor_is_made_up_for(
    ray_cluster: str, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """All of them are killed at the first receipt: the unfinished videos are planned again."""
    import ray

    killed: list[str] = []

    def kill(_: offline.Progress) -> None:
        if not killed:
            for name in ray.util.list_named_actors():
                if name.startswith("jde-"):
                    killed.append(name)
                    ray.kill(ray.get_actor(name))

    summary = offline.track(
        [str(archive)],
        str(tmp_path),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        resources=replace(SMALL, num_associators=2),
        outputs=OUTPUTS,
        progress=kill,
    )
    assert len(killed) == 2
    assert summary.passes == 2
    assert (summary.videos_done, summary.videos_failed) == (4, 2)
    assert products(tmp_path) == expected


def test_a_terminated_run_says_so_and_goes_on_later(
    ray_cluster: str, archive: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    def terminate(progress: offline.Progress) -> None:
        if progress.videos_done == 2:
            signal.raise_signal(signal.SIGTERM)

    settings = {"components": fakes.COMPONENTS, "resources": SMALL, "outputs": OUTPUTS}
    go, out = tmp_path / "go", tmp_path / "out"
    # without it quick workers may have committed everything before the signal is acted on
    held = Script(pause_at=0, pause_for=str(go)).write(tmp_path / "in", "held")
    source = [str(archive), held]
    summary = offline.track(source, str(out), fakes.CONFIG, progress=terminate, **settings)
    assert summary.exit_code == ExitCode.TERMINATED
    recorded = json.loads((out / "summary.json").read_text())
    assert (recorded["exit_code"], recorded["redone"]) == (143, [])
    assert not (out / "report.html").exists()
    committed = set(out.glob("tracks/*"))
    # to which the held video does not belong; texts get their plain names when a run has ended
    named = {
        mot_key(sequence_name(Path(key).stem)) if key.startswith("mot/") else key: content
        for key, content in products(out).items()
    }
    assert named.items() <= expected.items()
    go.touch()
    summary = offline.track(source, str(out), fakes.CONFIG, **settings)
    assert (summary.exit_code == ExitCode.SOME_FAILED) == (summary.videos_failed > 0)
    assert summary.videos_failed + summary.videos_failed_before == 2
    assert summary.videos_skipped == len(committed)
    assert products(out).items() > expected.items()
    assert len(set(out.glob("tracks/held-*"))) == 1


def test_a_dataflow_that_cannot_start_ends_the_run_and_blames_no_video(
    ray_cluster: str, archive: Path, tmp_path: Path
) -> None:
    broken = replace(fakes.COMPONENTS, build_model=fakes.refuse)
    with pytest.raises(RunError, match="no such component") as failed:
        offline.track(
            [str(archive)], str(tmp_path), fakes.CONFIG, components=broken, resources=SMALL
        )
    assert failed.value.exit_code == ExitCode.INTERNAL
    assert products(tmp_path) == {}


def test_an_out_that_cannot_be_written_ends_the_run_and_blames_no_video(
    ray_cluster: str, archive: Path, tmp_path: Path
) -> None:
    """The last commit fails in the background, when every chunk was delivered long ago."""
    (tmp_path / "tracks").write_text("where a folder should be")
    with pytest.raises(RunError, match="cannot write to") as failed:
        offline.track(
            [str(archive / "v0.mp4")],
            str(tmp_path),
            fakes.CONFIG,
            components=fakes.COMPONENTS,
            resources=SMALL,
        )
    assert failed.value.exit_code == ExitCode.INTERNAL
    assert not (tmp_path / "errors").exists()


class Queued(fakes.ColourModel):
    """A model that several threads may ask at once."""

    def detect_parts(self, parts):
        return [self.detect(*part) for part in parts]


@pytest.mark.slow
@pytest.mark.ray
def test_two_calls_at_a_time_give_the_bytes_of_the_reference_loop(
    ray_cluster: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU with the runner in front of it, which this machine need not have."""
    pool = offline.detector_pool

    def of_a_gpu(pools, resources):
        return pool(replace(pools, detector_gpus=1.0), replace(resources, graphs=True))

    monkeypatch.setattr(offline, "detector_pool", of_a_gpu)
    scripts = {name: Script(frames=20 + 9 * seed, seed=seed) for seed, name in enumerate("abc")}
    source = fakes.archive(tmp_path / "in", **scripts)
    resources = ResourceConfig(chunk_frames=4, num_detectors=1, num_associators=1)
    components = replace(fakes.COMPONENTS, build_model=Queued)
    for track, name in ((reference.track, "plain"), (offline.track, "out")):
        summary = track(
            [str(source)],
            str(tmp_path / name),
            fakes.CONFIG,
            resources=resources,
            components=components,
            outputs=OUTPUTS,
        )
        assert summary.exit_code == ExitCode.DONE
    for folder in ("tracks", "detections"):
        plain, out = (
            {path.name: path.read_bytes() for path in (tmp_path / name / folder).iterdir()}
            for name in ("plain", "out")
        )
        assert plain == out
        assert len(plain) == 3
