from dataclasses import replace

import cv2
import fakes
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fakes import CONFIG
from rich.console import Console

from jde_ray.jobs.console.runner import run_verb
from jde_ray.jobs.demo import (
    PICTURED,
    annotated_path,
    demo,
    is_rendered,
    plan_archive,
    render_video,
    run,
    score_archive,
    tracks_path,
    write_pictures,
)
from jde_ray.models.structures import Tracks
from jde_ray.models.synthetic.render import render
from jde_ray.pipelines.config import ResourceConfig
from jde_ray.pipelines.formats.mot import read_ground_truth
from jde_ray.pipelines.report.dataflow import dataflow_drawing
from jde_ray.pipelines.tracking.components import Components


@pytest.fixture
def video(tmp_path):
    video = plan_archive(tmp_path, 0.4)[0]
    render_video(video)
    return video


def commit(truth, path):
    """The truth as a run's tracks."""
    rows = truth.people
    columns = {"frame": rows.frame.astype("int32"), "track_id": rows.track_id.astype("int32")}
    columns |= {
        n: rows.tlbr[:, i].astype("float32") for i, n in enumerate(("x1", "y1", "x2", "y2"))
    }
    columns["score"] = truth.visibility.astype("float32")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)


def test_the_truth_scores_full_marks(tmp_path, video):
    truth = read_ground_truth(video.truth)
    assert set(truth.people.frame.tolist()) == set(range(video.scene.num_frames))
    commit(truth, tracks_path(video, tmp_path))
    scores = score_archive([video], tmp_path)
    assert scores["promenade"].clear.mota == scores["OVERALL"].identity.idf1 == 1


def test_a_video_without_tracks_is_left_out(tmp_path, video):
    assert score_archive([video], tmp_path) == {}


def test_what_is_rendered_is_kept_and_another_length_is_refused(tmp_path, video):
    assert is_rendered(video)
    assert not is_rendered(plan_archive(tmp_path, 0.4)[1])
    with pytest.raises(ValueError, match=r"rendered with --seconds 0\.4"):
        is_rendered(plan_archive(tmp_path, 0.6)[0])


def test_the_three_videos_differ(tmp_path):
    videos = plan_archive(tmp_path, 10)
    assert len({video.scene.seed for video in videos}) == len(videos) == 3
    assert all(video.scene.num_frames == 200 for video in videos)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "abacus"], "device: got 'abacus', expected auto | cpu | cuda"),
        (["--weights", "/nowhere/w.safetensors"], "/nowhere/w.safetensors"),
    ],
)
def test_a_refusal_is_one_line_before_any_work(tmp_path, capsys, arguments, message):
    out = tmp_path / "demo"
    assert run_verb(demo, "demo", ["--out", str(out), *arguments]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert message in said
    assert not out.exists()


def test_it_says_at_once_what_will_happen(tmp_path, capsys, monkeypatch):
    from jde_ray.pipelines.detection import settings

    def import_of_torch(weights):
        said = " ".join(capsys.readouterr().out.split())
        assert f"renders three street scenes of 3 s into {tmp_path}" in said
        raise ValueError("enough")

    monkeypatch.setattr(settings, "detection_for", import_of_torch)
    assert run_verb(demo, "demo", ["--out", str(tmp_path), "--seconds", "3"]) == 2
    assert "enough" in capsys.readouterr().err


@pytest.mark.ray
def test_the_demo_runs_on_ray_and_names_what_it_wrote(tmp_path, ray_cluster):
    console = Console(record=True, width=100)
    components = Components(build_model=fakes.ColourModel)
    resources = ResourceConfig(device="cpu", num_detectors=1)  # the others would only start
    code = run(tmp_path, CONFIG, resources, 0.2, console, components)
    assert code == 0
    text = console.export_text()
    videos = plan_archive(tmp_path, 0.2)
    for video in videos:
        assert video.name in text
        assert tracks_path(video, tmp_path).exists()
        assert annotated_path(video, tmp_path).exists()
        assert str(annotated_path(video, tmp_path)) in text.replace("\n", "")
    assert "MOTA" in text


def test_the_pictures_of_the_readme_are_of_the_last_frame(tmp_path):
    class Boxes:
        """Finds one person, who moves one pixel per frame."""

        frames = 0

        def update(self, frame):
            assert frame.shape == (90, 160, 3)
            self.frames += 1
            tlbr = np.array([[40.0 + self.frames, 30, 60 + self.frames, 80]])
            return Tracks(np.array([1]), tlbr, np.array([0.5], np.float32), np.array([0]))

    tracker = Boxes()
    scene = replace(PICTURED, width=160, height=90, num_frames=3)
    write_pictures(tmp_path / "new", tracker, scene)
    assert tracker.frames == 3
    drawn = cv2.imread(str(tmp_path / "new/people.webp"))
    plain = [image for image, _ in render(scene)][-1][:, :, ::-1]
    changed = np.abs(drawn.astype(int) - plain).max(axis=2)[40:75].mean(axis=0)
    assert set(np.argsort(changed)[-2:].tolist()) == {43, 63}  # the sides of the last box
    assert (tmp_path / "new/dataflow.svg").read_text("utf-8") == dataflow_drawing()
