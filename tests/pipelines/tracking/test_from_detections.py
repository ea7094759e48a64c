"""Tracks from saved detections equal those of the run that saved them, byte for byte."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import fakes
import numpy as np
import pytest
from fakes import Script
from recurrent_weights import newest_looks

from jde_ray import read_detections
from jde_ray.models.tracking.registry import build_config
from jde_ray.pipelines.config import OutputConfig, ResourceConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.output.summary import Summary
from jde_ray.pipelines.sources.saved_detections import find_saved
from jde_ray.pipelines.tracking import from_detections, offline, reference

OUTPUTS = OutputConfig(save_detections=True, save_embeddings=True, save_mot=True)
SMALL = ResourceConfig(chunk_frames=5, num_detectors=1, num_associators=2)


def track_again(folder: Path, out: Path, config: TrackConfig, **settings: Any) -> Summary:
    saved = find_saved([str(folder)])
    config = from_detections.resolve_settings(config, saved)
    return from_detections.track(saved, str(out), config, **settings)


def products(out: Path) -> dict[str, bytes]:
    return {
        f"{folder}/{path.name}": path.read_bytes()
        for folder in ("tracks", "detections", "mot")
        for path in (out / folder).glob("*")
    }


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A list of two videos: of one the camera and start are known, of one its container's."""
    folder = tmp_path_factory.mktemp("in")
    b = Script(frames=12, seed=2, start_us=1_714_555_800_250_001)
    fakes.archive(folder, a=Script(frames=43), b=b)
    lines = ("source,camera,start", "a.mp4,north door,2024-05-01T09:30:00.5+02:00", "b.mp4,,")
    (folder / "list.csv").write_text("\n".join(lines))
    return folder / "list.csv"


@pytest.fixture(scope="module")
def direct(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("direct")
    reference.track(
        [str(archive)], str(out), fakes.CONFIG, components=fakes.COMPONENTS, outputs=OUTPUTS
    )
    return out


@pytest.mark.ray
def test_the_same_settings_give_the_same_bytes_without_the_videos(
    ray_cluster: str, direct: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"  # detections and run.json only, and no weights anywhere
    shutil.copytree(direct / "detections", copy / "detections")
    shutil.copy(direct / "run.json", copy)
    config = TrackConfig()
    out = tmp_path / "out"
    summary = track_again(copy, out, config, resources=SMALL, outputs=OUTPUTS)
    assert summary.exit_code == ExitCode.DONE
    assert (summary.videos_done, summary.frames) == (2, 55)
    assert len(products(out)) == 6
    assert products(out) == products(direct)
    again = track_again(copy, out, config, resources=SMALL)
    assert (again.videos_done, again.videos_skipped) == (0, 2)


@pytest.mark.ray
def test_saved_detections_of_a_damaged_video_give_partial_tracks_again(
    ray_cluster: str, tmp_path: Path
) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=40, error_at=21))
    first, out = tmp_path / "first", tmp_path / "out"
    reference.track(
        [str(source)],
        str(first),
        fakes.CONFIG,
        components=fakes.COMPONENTS,
        resources=SMALL,
        outputs=replace(OUTPUTS, keep_partial=True),
    )
    summary = track_again(first, out, TrackConfig(), resources=SMALL, outputs=OUTPUTS)
    assert (summary.videos_partial, summary.exit_code) == (1, ExitCode.SOME_FAILED)
    assert products(out) == products(first)
    limited = track_again(first, tmp_path / "limited", TrackConfig(max_frames=9), resources=SMALL)
    assert (limited.frames, limited.videos_partial) == (9, 0)


@pytest.mark.ray
@pytest.mark.parametrize(
    "name", [pytest.param("sort", marks=pytest.mark.slow), "deepsort", "bytetrack"]
)
def test_every_association_gives_what_its_direct_run_and_the_reference_give(
    ray_cluster: str, archive: Path, direct: Path, tmp_path: Path, name: str
) -> None:
    tracking = build_config(name, high_score=0.5)
    threshold = max(0.3, tracking.least_score)
    detection = replace(fakes.CONFIG.detection, score_threshold=threshold)
    config = replace(fakes.CONFIG, tracking=tracking, detection=detection)
    source, outputs = [str(archive)], OutputConfig(save_embeddings=True)
    settings = {"resources": SMALL, "outputs": outputs}
    reference.track(
        source, str(tmp_path / "a"), config, components=fakes.COMPONENTS, outputs=outputs
    )
    track_again(direct, tmp_path / "c", config, **settings)
    expected = products(tmp_path / "a")
    assert len(expected) == 2
    if name == "deepsort":  # the one with a state of its own
        offline.track(source, str(tmp_path / "b"), config, components=fakes.COMPONENTS, **settings)
        assert products(tmp_path / "b") == expected
    assert products(tmp_path / "c") == expected
    ours = (direct / "tracks").glob("*")
    assert {path.read_bytes() for path in ours} != set(expected.values())


@pytest.mark.ray
def test_qualities_of_pictures_are_saved_and_tracks_from_them_are_the_same(
    ray_cluster: str, archive: Path, tmp_path: Path
) -> None:
    """As of an embedder that is a QAN: plain loop, dataflow and saved detections agree."""
    config = replace(fakes.CONFIG, tracking=build_config("poi", least_affinity=0.1))
    components = replace(fakes.COMPONENTS, build_model=fakes.JudgingModel)
    settings = {"resources": SMALL, "outputs": OUTPUTS}
    for name, run in (("a", reference), ("b", offline)):
        run.track([str(archive)], str(tmp_path / name), config, components=components, **settings)
    expected = products(tmp_path / "a")
    assert len(expected) == 6
    assert products(tmp_path / "b") == expected
    track_again(tmp_path / "a", tmp_path / "c", config, **settings)
    assert products(tmp_path / "c") == expected
    quality = read_detections(tmp_path / "a").column("quality").to_numpy()
    assert len(np.unique(quality)) > 5
    assert quality.min() == 0


@pytest.mark.ray
def test_one_bad_file_is_one_failed_video_and_mot_text_needs_no_run(
    ray_cluster: str, tmp_path: Path
) -> None:
    for name, text in (("good", ""), ("bad", "0,-1,1,1,2,2,1\n")):
        lines = [f"{n},-1,{n},50,40,100,0.9,-1,-1,-1\n" for n in range(20, 0, -1)]
        (tmp_path / name / "det").mkdir(parents=True)
        (tmp_path / name / "det" / "det.txt").write_text("".join(lines) + text)
    out = tmp_path / "out"
    config = TrackConfig(tracking=build_config("sort"))
    summary = track_again(tmp_path, out, config, resources=SMALL)
    assert summary.exit_code == ExitCode.SOME_FAILED
    assert (summary.videos_done, summary.rows, summary.tracks) == (1, 20, 1)
    (error,) = summary.errors
    assert error["reason"] == "unsupported_format"
    assert "det.txt:21" in error["detail"]
    other = TrackConfig(tracking=build_config("bytetrack"))
    with pytest.raises(RunError, match=r"tracking\.association: sort there") as refused:
        track_again(tmp_path, out, other, resources=SMALL)
    assert refused.value.exit_code == ExitCode.OTHER_CONFIGURATION


def settle(config: TrackConfig, *folders: Path) -> TrackConfig:
    return from_detections.resolve_settings(config, find_saved([str(folder) for folder in folders]))


def with_record(direct: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(direct, folder)
    record = json.loads((folder / "run.json").read_text())
    record["config"] |= changes
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_the_network_and_the_frames_are_those_of_the_run(direct: Path, tmp_path: Path) -> None:
    detection = replace(fakes.CONFIG.detection, precision="fp32")
    if settle(TrackConfig(), direct).detection.precision != "fp32":  # as this machine has it
        detection = replace(detection, precision="bf16")
    assert settle(TrackConfig(), direct) == replace(fakes.CONFIG, detection=detection)
    higher = settle(TrackConfig(tracking=build_config(high_score=0.9)), direct)
    assert higher.detection.score_threshold == 0.54
    lower = settle(TrackConfig(tracking=build_config(high_score=0.1)), direct)
    assert lower.detection.score_threshold == 0.3  # there is no more
    assert settle(TrackConfig(vid_stride=2, max_frames=5), direct).vid_stride == 2
    sparse = with_record(direct, tmp_path / "sparse", vid_stride=3)
    assert settle(TrackConfig(), sparse).vid_stride == 3
    with pytest.raises(RunError, match="vid-stride: got 2, expected 3"):
        settle(TrackConfig(vid_stride=2), sparse)


def test_the_network_is_that_from_which_the_association_has_learned(
    direct: Path, tmp_path: Path
) -> None:
    newest_looks(4, sha256="a" * 64).save(tmp_path / "looks.safetensors")
    weights = str(tmp_path / "looks.safetensors")
    config = TrackConfig(tracking=build_config("ran", weights=weights))
    for sha256, is_right in (("a" * 64, True), ("b" * 64, False)):
        detection = asdict(fakes.CONFIG.detection) | {"weights_sha256": sha256}
        folder = with_record(direct, tmp_path / sha256[:1], detection=detection)
        if is_right:
            assert settle(config, folder).detection.weights_sha256 == sha256
        else:
            with pytest.raises(RunError, match="got embeddings of bbbbbbbb, expected those of sm"):
                settle(config, folder)


def test_detections_that_do_not_go_together_are_refused(direct: Path, tmp_path: Path) -> None:
    other = with_record(direct, tmp_path / "other", detection={"size": [64, 64]})
    for file in (other / "detections").glob("a*"):
        file.unlink()
    one = tmp_path / "one"
    shutil.copytree(direct, one)
    for file in (one / "detections").glob("b*"):
        file.unlink()
    with pytest.raises(RunError, match="different detectors or settings"):
        settle(TrackConfig(), one, other)
    (tmp_path / "x.txt").write_text("1,-1,1,1,10,20,0.5\n")
    with pytest.raises(RunError, match="and MOT text come from"):
        settle(TrackConfig(), one, tmp_path / "x.txt")
    alone = tmp_path / "alone" / "detections"  # of another run, whose run.json is not there
    shutil.copytree(other / "detections", alone)
    with pytest.raises(RunError, match=r"one and .*alone.* \(without a run\.json\) come"):
        settle(TrackConfig(), one, alone)
    shutil.copy(other / "run.json", alone.parent)  # sorts before `one`, and is the one that differs
    (tmp_path / "aaa").mkdir()
    with pytest.raises(RunError, match=r"alone and .*one come from different"):
        settle(TrackConfig(), one, alone.parent)
    for flag in ("save_video", "save_crops"):
        outputs = OutputConfig(**{flag: True})
        with pytest.raises(RunError, match=flag.replace("_", "-")):
            track_again(one, tmp_path / "o", TrackConfig(), outputs=outputs)
    for number, wrong in enumerate(({"vid_stride": 1.5}, {"vid_stride": None}, {"max_frames": "x"},
                                    {"detection": {"weights": 7}}, {"detection": {"size": 3}},
                                    {"detection": []})):  # fmt: skip
        odd = with_record(direct, tmp_path / f"odd-{number}", **wrong)
        with pytest.raises(RunError, match=r"run\.json cannot be read") as refused:
            settle(TrackConfig(), odd)
        assert refused.value.exit_code == ExitCode.REFUSED
    (one / "run.json").write_text("{}")
    with pytest.raises(RunError, match=r"run\.json cannot be read"):
        settle(TrackConfig(), one)
