"""A checkpoint in the published layout, as a user gives it to `jde track`: all three sizes."""

import pyarrow.parquet as pq
import pytest
import torch
from made_videos import write_video

from jde_ray.jobs import cli
from jde_ray.jobs.console.settings import check_weights
from jde_ray.models.jde.config import PUBLISHED_ANCHORS
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.detection.precision import quick_precision
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.tracking import reference

SIZES = pytest.mark.parametrize("size", PUBLISHED_ANCHORS, ids=lambda s: f"{s[0]}x{s[1]}")


@pytest.fixture
def checkpoint(published_file):
    return str(published_file)


@pytest.fixture(autouse=True)
def _keep_threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def flags(checkpoint, size):
    return {
        ("detection", "weights"): checkpoint,
        ("detection", "size"): size,
        ("detection", "score_threshold"): 0.7,
        ("detection", "precision"): quick_precision("cpu"),  # bf16 where the processor has it
    }


@SIZES
def test_one_process_tracks_at_the_size_asked_for(checkpoint, tmp_path, size):
    video = write_video(tmp_path / "v.mp4", 1, size=(192, 108))
    settings = check_weights(flags(checkpoint, size))
    assert settings.track.detection.size == size
    assert not settings.track.detection.rect
    resources = ResourceConfig(chunk_frames=1, device="cpu")
    out = str(tmp_path / "out")
    summary = reference.track([str(video)], out, settings.track, resources=resources)
    assert summary.exit_code == ExitCode.DONE
    assert summary.frames == 1
    assert summary.detections > 0  # random weights see people everywhere
    (file,) = (tmp_path / "out/tracks").glob("*.parquet")
    said = pq.read_metadata(file).metadata
    assert said[b"model"] == b"jde.1088x608.uncertainty.pt"
    assert len(said[b"weights_sha256"]) == 64


def test_without_its_size_it_is_refused_before_any_work(checkpoint):
    values = flags(checkpoint, None)
    del values["detection", "size"]
    with pytest.raises(RunError, match="--size accepts 1088x608, 864x480, 576x320") as caught:
        check_weights(values)
    assert caught.value.exit_code == ExitCode.REFUSED


def test_its_anchors_belong_to_one_size(checkpoint):
    with pytest.raises(RunError, match="expected --no-rect") as caught:
        check_weights(flags(checkpoint, (576, 320)) | {("detection", "rect"): True})
    assert caught.value.exit_code == ExitCode.REFUSED


def test_no_size_is_chosen_for_it(checkpoint):
    values = flags(checkpoint, (576, 320)) | {("detection", "auto_size"): True}
    with pytest.raises(RunError, match=r"size: got auto for .*, whose anchors were chosen"):
        check_weights(values, chooses_size=True)


@pytest.mark.slow
@pytest.mark.ray
@SIZES
def test_the_command_tracks_through_ray(checkpoint, tmp_path, size, capfd):
    video = write_video(tmp_path / "v.mp4", 2, size=(192, 108))
    arguments = ["--weights", checkpoint, "--size", f"{size[0]}x{size[1]}", "--chunk-frames", "1"]
    out = tmp_path / "out"
    code = cli.run(["track", str(video), "--out", str(out), *arguments, "--device", "cpu"])
    assert code == 0, capfd.readouterr().err
    assert (
        pq.ParquetFile(next((out / "tracks").glob("*.parquet"))).metadata.metadata[b"num_frames"]
        == b"2"
    )
