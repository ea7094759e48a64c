"""`--reid` of a refinement: crops of finished tracks, read from the video again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from made_videos import write_images
from onnx_models import write_mean_embedder

from jde_ray.jobs import cli
from jde_ray.models.structures import Tracks
from jde_ray.models.tracking.postprocessing.evidence import LinkSettings
from jde_ray.models.tracking.postprocessing.trajectories import Trajectories
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.output.result_files import RowWriter
from jde_ray.pipelines.refinement.run import refine
from jde_ray.pipelines.refinement.second_look import SecondLook, Vectors, look_at
from jde_ray.pipelines.refinement.steps import RefineConfig
from jde_ray.pipelines.storage.stores import open_store
from jde_ray.pipelines.structures import TrackedFrame, Video


class Describer:
    """Describes a crop by its mean colour, and notes what it was shown."""

    width = 3

    def __init__(self) -> None:
        self.shown: list[np.ndarray] = []

    def embed(self, picture: np.ndarray, tlbr: np.ndarray) -> np.ndarray:
        self.shown += list(tlbr)
        crops = [picture[int(y1) : int(y2), int(x1) : int(x2)] for x1, y1, x2, y2 in tlbr]
        vectors = np.array([crop.reshape(-1, 3).mean(axis=0) + 1e-3 for crop in crops])
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


RED, BLUE, GREY = (255, 0, 0), (0, 0, 255), (90, 90, 90)


def pictures(folder: Path, colours: list[tuple[int, int, int]]) -> Path:
    """A sequence with a box of a colour at the same place in each frame."""

    def draw(number: int, width: int, height: int) -> np.ndarray:
        frame = np.full((height, width, 3), GREY, np.uint8)
        frame[10:50, 30:50] = colours[number]
        return frame

    return write_images(folder, len(colours), 10.0, draw=draw)


def standing(frames: list[int], ids: list[int], scores: list[float]) -> Trajectories:
    tlbr = np.tile([30.0, 10.0, 50.0, 50.0], (len(frames), 1))
    return Trajectories.sort(np.array(frames), np.array(ids), tlbr, np.array(scores))


def test_the_cleanest_sighting_of_each_glimpse_is_looked_at(tmp_path: Path) -> None:
    colours = [GREY] * 10
    colours[3], colours[8] = RED, BLUE
    folder = pictures(tmp_path / "s", colours)
    scores = [0.9 if k in (3, 8) else 0.5 for k in range(10)]
    people = standing(list(range(10)), [1] * 10, scores)
    embedder = Describer()
    video = Video(str(folder), "s", is_image_folder=True)
    vectors, crops = look_at(people, video, embedder, tmp_path)
    assert crops == len(embedder.shown) == 2
    assert vectors.shape == (10, 3)
    found = vectors[np.arange(10)]
    assert found[:5, 0].min() > 0.99
    assert found[5:, 2].min() > 0.99


def test_boxes_of_frames_of_another_size_are_scaled(tmp_path: Path) -> None:
    folder, embedder = pictures(tmp_path / "s", [RED]), Describer()
    people = standing([0], [1], [0.9])
    large = Trajectories(people.frame, people.track_id, people.tlbr * 2, people.score, np.arange(1))
    video = Video(str(folder), "s", is_image_folder=True)
    look_at(large, video, embedder, tmp_path, size=(192, 128))
    np.testing.assert_allclose(embedder.shown, people.tlbr)


def test_a_video_without_a_frame_of_the_tracks_is_refused(tmp_path: Path) -> None:
    video = Video(str(pictures(tmp_path / "s", [RED] * 3)), "s", is_image_folder=True)
    people = standing([2, 3], [1, 1], [0.5, 0.9])
    with pytest.raises(ValueError, match="it has no frame 3, expected the video of these tracks"):
        look_at(people, video, Describer(), tmp_path)
    nothing, crops = look_at(standing([], [], []), video, Describer(), tmp_path)
    assert (nothing.shape, crops) == ((0, 3), 0)


def test_both_vectors_stand_side_by_side() -> None:
    own, looks = np.array([[2.0, 0.0], [0.0, 3.0]]), np.array([[0.0, 1.0], [0.0, 0.0]])
    both = Vectors(own, looks, np.array([0, 1]))
    np.testing.assert_allclose(both[np.array([1, 0])], [[0, 1, 0, 0], [0.6, 0, 0, 0.8]], atol=1e-6)
    alone = Vectors(None, looks, np.array([0, 0]))
    np.testing.assert_array_equal(alone[np.array([1])], [[0, 1]])


def finished_run(out: Path, folder: Path, uri: str | None = None) -> Path:
    """OUT of a run in which somebody is lost in frame 20 and seen there again from frame 25."""
    video, store = Video(uri or str(folder), "s", is_image_folder=True), open_store(str(out))
    writer = RowWriter(out / "rows", video, 0, OutputConfig())
    for frame in [*range(20), *range(25, 45)]:
        ids = np.array([1 if frame < 20 else 2])
        tlbr = np.array([[30.0, 10.0, 50.0, 50.0]])
        seen = Tracks(ids, tlbr, np.array([0.9]), np.array([0]))
        writer.write(TrackedFrame(frame, frame / 10, seen))
    facts = {"frames_per_second": "10", "width": "96", "height": "64", "num_frames": "45"}
    writer.commit(store, facts)
    store.put("run.json", json.dumps({"config_hash": "x", "config": {"vid_stride": 1}}).encode())
    return out


@pytest.fixture
def look(tmp_path: Path) -> str:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return str(write_mean_embedder(tmp_path / "look.onnx"))


@pytest.mark.parametrize(("later", "people"), [(RED, 1), (BLUE, 2)])
def test_whoever_looks_different_after_a_gap_is_somebody_else(
    tmp_path: Path, look: str, later: tuple[int, int, int], people: int
) -> None:
    folder = pictures(tmp_path / "s", [RED] * 22 + [later] * 23)
    out = finished_run(tmp_path / "run", folder)
    blind = RefineConfig(relink=LinkSettings())
    (done,) = refine(out, str(tmp_path / "blind"), blind)
    assert (done.tracks_after, done.num_crops, done.by_appearance) == (1, 0, False)
    seeing = RefineConfig(relink=LinkSettings(), reid_sha256="f" * 64)
    (done,) = refine(out, str(tmp_path / "new"), seeing, second_look=SecondLook(look))
    assert (done.tracks_after, done.num_crops, done.by_appearance) == (people, 8, True)


def test_the_verb_takes_the_network_and_the_place_of_moved_videos(
    tmp_path: Path, look: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "s", [RED] * 22 + [BLUE] * 23)
    out = str(finished_run(tmp_path / "run", folder, uri=str(tmp_path / "gone/s")))
    new = ["--out", str(tmp_path / "new")]
    assert cli.run(["refine", out, "--reid", look, *new]) == 2
    assert "name the videos with --frames" in capsys.readouterr().err
    assert cli.run(["refine", out, "--reid", look, "--frames", str(folder), *new]) == 0
    said = capsys.readouterr().out
    assert "2 tracks became 2" in said
    assert "second look: 8 crops of 40 boxes" in said
    assert cli.run(["refine", out, *new]) == 2  # other steps


def test_mot_text_is_looked_at_in_the_frames_that_are_named(
    tmp_path: Path, look: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "s", [RED] * 22 + [BLUE] * 23)
    frames = [*range(20), *range(25, 45)]
    lines = [f"{k + 1},{1 + (k > 20)},31,11,20,40,.9,-1,-1,-1\n" for k in frames]
    (tmp_path / "mot").mkdir()
    (tmp_path / "mot" / "s.txt").write_text("".join(lines))
    arguments = ["refine", str(tmp_path / "mot"), "--relink", "--reid", look]
    assert cli.run([*arguments, "--out", str(tmp_path / "a")]) == 2
    assert "does not name its video, expected --frames" in capsys.readouterr().err
    named = ["--frames", str(folder), "--out", str(tmp_path / "b")]
    assert cli.run([*arguments, *named]) == 0
    assert "s: 2 tracks became 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--frames", "x"], "frames: only for --reid"),
        (["--reid", "nope.onnx"], "reid: nope.onnx"),
        (["--reid", "LOOK", "--smooth"], "reid: nothing is joined without --relink"),
        (["--reid", "LOOK", "--frames", "OTHER"], "frames: got none of s"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_code_2(
    tmp_path: Path,
    look: str,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    message: str,
) -> None:
    folder = pictures(tmp_path / "s", [RED] * 45)
    out = str(finished_run(tmp_path / "run", folder))
    other = str(pictures(tmp_path / "other", [RED]))
    flags = [{"LOOK": look, "OTHER": other}.get(flag, flag) for flag in flags]
    assert cli.run(["refine", out, "--out", str(tmp_path / "new"), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
