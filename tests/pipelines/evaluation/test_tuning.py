"""Trials say what `jde track` and `jde eval` would; a choice is judged where it was not made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fakes
import numpy as np
import pytest
from fakes import Script
from made_videos import pan_frame, write_images

from jde_ray.models.metrics.clear import ClearCounts
from jde_ray.models.metrics.tracking import SequenceScores
from jde_ray.models.tracking.registry import build_config
from jde_ray.pipelines.config import OutputConfig, TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.evaluation.pairing import Pairing
from jde_ray.pipelines.evaluation.search_space import Span
from jde_ray.pipelines.evaluation.tracks import score_pairing
from jde_ray.pipelines.evaluation.tuning import (
    Trial,
    Tuning,
    TuningSet,
    load_sequences,
    score_settings,
    tune,
    with_settings,
)
from jde_ray.pipelines.sources.saved_detections import find_saved, with_frames
from jde_ray.pipelines.tracking import reference
from jde_ray.pipelines.tracking.from_detections import resolve_settings


def sequence(folder: Path, name: str, score: float) -> TuningSet:
    """Two people; one of them is detected with this score only."""
    truth, found = [], []
    for frame in range(1, 21):
        for person in (1, 2):
            box = f"{20 * person + 3 * frame},{100 * person},40,90"
            truth.append(f"{frame},{person},{box},1,1,1\n")
            found.append(f"{frame},-1,{box},{0.9 if person == 1 else score}\n")
    (folder / name / "gt").mkdir(parents=True)
    (folder / name / "det").mkdir()
    (folder / name / "gt" / "gt.txt").write_text("".join(truth))
    (folder / name / "det" / "det.txt").write_text("".join(found))
    (saved,) = find_saved([str(folder / name)])
    return TuningSet(name, saved, str(folder / name / "gt" / "gt.txt"))


def settled(sets: list[TuningSet]) -> TrackConfig:
    return resolve_settings(TrackConfig(), [one.saved for one in sets], least=0.0)


@pytest.mark.parametrize("name", ["jde", "bytetrack"])
def test_a_trial_is_scored_as_its_run_would_be(tmp_path: Path, name: str) -> None:
    source = fakes.archive(tmp_path / "in", a=Script(frames=40), b=Script(frames=25, seed=4))
    saving = OutputConfig(save_detections=True)
    direct, other = str(tmp_path / "direct"), str(tmp_path / "other")
    reference.track(
        [str(source)], direct, fakes.CONFIG, components=fakes.COMPONENTS, outputs=saving
    )
    truths = {p.name: p for p in Path(direct, "tracks").iterdir()}  # what else is at hand
    saved = find_saved([direct])
    sets = [TuningSet(s.video.name, s, str(truths[f"{s.video.video_id}.parquet"])) for s in saved]
    settings = {"track_buffer": 3, "high_score": 0.932}
    base = resolve_settings(TrackConfig(tracking=build_config(name)), saved, least=0.0)
    config = with_settings(base, settings)
    scores = score_settings(config, load_sequences(base, sets))
    detection = replace(fakes.CONFIG.detection, score_threshold=config.detection.score_threshold)
    run = replace(fakes.CONFIG, detection=detection, tracking=config.tracking)
    reference.track([str(source)], other, run, components=fakes.COMPONENTS)
    assert set(scores) == {"a", "b"}
    for one in sets:
        file = Path(other, "tracks", f"{one.saved.video.video_id}.parquet")
        expected = score_pairing(Pairing(one.name, file, Path(one.truth)))
        assert scores[one.name].figures() == expected.figures()
        assert scores[one.name].figures()["HOTA"] < 100


def test_trials_know_the_cameras_motion_if_the_frames_are_at_hand(tmp_path: Path) -> None:
    one = sequence(tmp_path / "det", "A", 0.9)
    write_images(tmp_path / "frames" / "A", 20, 30.0, size=(320, 240), draw=pan_frame)
    blind = load_sequences(settled([one]), [one])
    assert blind[0].frames[5].camera_motion is None
    (saved,) = with_frames([one.saved], str(tmp_path / "frames"))
    seeing = replace(one, saved=saved)
    config = settled([seeing])
    assert config.camera_motion
    motion = load_sequences(config, [seeing])[0].frames[5].camera_motion
    assert not np.allclose(motion, np.eye(2, 3), atol=0.5)
    other = replace(saved, frames=replace(saved.frames, uri=str(tmp_path / "gone")))
    with pytest.raises(RunError):
        load_sequences(config, [replace(seeing, saved=other)])


@pytest.mark.ray
def test_the_grid_finds_what_is_best_and_says_what_it_was_before(
    ray_cluster: str, tmp_path: Path
) -> None:
    sets = [sequence(tmp_path, name, 0.45) for name in ("A", "B")]
    steps: list[tuple[int, int]] = []
    tuning = tune(
        settled(sets),
        sets,
        {"high_score": Span(0.3, 0.9, 3), "track_buffer": [10, 30]},
        progress=lambda done, total: steps.append((done, total)),
    )
    assert len(tuning.trials) == 6
    assert sorted(steps) == [(number, 6) for number in range(1, 7)]
    assert tuning.best.settings == {"high_score": 0.3, "track_buffer": 10}
    assert tuning.best.figure("HOTA") == pytest.approx(100)
    assert tuning.start.figure("HOTA") < 80
    figures = [trial.figure("HOTA") for trial in tuning.trials]
    assert figures == sorted(figures, reverse=True)
    left_out = tuning.left_out()
    assert left_out is not None
    assert left_out.figures()["HOTA"] == pytest.approx(100)


@pytest.mark.ray
def test_optuna_stays_within_the_range_and_repeats_itself(ray_cluster: str, tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    sets = [sequence(tmp_path, "A", 0.45)]
    space = {"high_score": Span(0.3, 0.9), "track_buffer": Span(1, 5), "min_hits": [1, 2]}
    tuning = tune(settled(sets), sets, space, search="optuna", samples=3, metric="IDF1", seed=1)
    assert len(tuning.trials) == 3
    assert tuning.left_out() is None
    for trial in tuning.trials:
        settings = trial.settings
        assert 0.3 <= settings["high_score"] <= 0.9
        assert settings["track_buffer"] in range(1, 6)
        assert settings["min_hits"] in (1, 2)


def scores(**hits: int) -> dict[str, SequenceScores]:
    """Sequences of 100 boxes of which so many are found: MOTA is their share."""
    return {
        name: SequenceScores(
            clear=replace(ClearCounts(), num_matches=number, num_misses=100 - number)
        )
        for name, number in hits.items()
    }


def test_the_start_takes_part() -> None:
    worse, better = Trial({"a": 1}, scores(x=50)), Trial({"a": 2}, scores(x=70))
    start = Trial({}, scores(x=60))
    assert Tuning("MOTA", [worse], start).best is start
    assert Tuning("MOTA", [better, worse], start).best is better
    assert Tuning("MOTA", [Trial({"a": 3}, scores(x=60))], start).best is start  # nothing gained
    both = [Trial({"a": 1}, scores(x=50, y=50))]
    left_out = Tuning("MOTA", both, Trial({}, scores(x=60, y=60))).left_out()
    assert left_out is not None
    assert left_out.figures()["MOTA"] == pytest.approx(60)


def test_the_least_score_of_all_trials_is_known() -> None:
    trials = [Trial({"high_score": 0.3}, scores(x=1)), Trial({"high_score": 0.7}, scores(x=2))]
    assert Tuning("MOTA", trials, Trial({}, scores(x=1))).looks_from(TrackConfig()) == 0.18


def test_left_out_judges_each_sequence_by_the_others_choice() -> None:
    """One trial fits x, the other y: each is what the other sequence would have chosen."""
    first, second = Trial({"a": 1}, scores(x=90, y=40)), Trial({"a": 2}, scores(x=50, y=70))
    tuning = Tuning("MOTA", [first, second], Trial({}, scores(x=60, y=60)))
    left_out = tuning.left_out()
    assert left_out is not None
    assert left_out.figures()["MOTA"] == pytest.approx((50 + 40) / 2)


def test_a_range_has_its_ends_and_whole_numbers_stay_whole() -> None:
    assert Span(0.3, 0.7).values() == [0.3, 0.4, 0.5, 0.6, 0.7]
    assert Span(1, 3).values() == [1, 2, 3]
    assert all(isinstance(value, int) for value in Span(1, 100, 7).values())


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({"high_score": [0.5, 1.5]}, "conf: got 1.5"),
        (
            {"track_buffer": ["a", "b"]},
            "param: track_buffer: got 'a', expected a whole number, 0 to 1000000",
        ),
        ({"low_score": [0.1]}, "low_score: no setting of association jde"),
        ({"high_score": Span(0.1, 0.9, 200), "track_buffer": Span(1, 200, 200)}, "combinations"),
    ],
)
def test_what_cannot_be_tried_is_refused_before_anything_is_read(space, said) -> None:
    with pytest.raises(RunError, match=said) as refused:
        tune(TrackConfig(), [], space)
    assert refused.value.exit_code == ExitCode.REFUSED
    assert np.isfinite(refused.value.exit_code)


def test_optuna_tries_no_list_with_a_value_that_cannot_be() -> None:
    space = {"track_buffer": [5, "x", 9], "high_score": Span(0.1, 0.9)}
    with pytest.raises(RunError, match="track_buffer: got 'x'") as refused:
        tune(TrackConfig(), [], space, search="optuna")
    assert refused.value.exit_code == ExitCode.REFUSED
