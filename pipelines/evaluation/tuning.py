"""Tunes the settings of an association on saved detections, in parallel with Ray Tune.

A trial associates and scores all sequences; it decodes and writes nothing. Scores are kept by
sequence, so that a choice can be scored on sequences that were not used to make it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from jde_ray.models.metrics.rows import BoxRows
from jde_ray.models.metrics.tracking import SequenceScores, score_sequence
from jde_ray.models.structures import Detections
from jde_ray.models.tracking.registry import build_config
from jde_ray.models.tracking.reporting import reported
from jde_ray.models.tracking.tracker import JDETracker
from jde_ray.pipelines.cluster import connected
from jde_ray.pipelines.config import TrackConfig
from jde_ray.pipelines.errors import ExitCode, RunError, VideoError
from jde_ray.pipelines.evaluation.frames_seen import limited
from jde_ray.pipelines.evaluation.ground_truth import TruthRules, read_truth
from jde_ray.pipelines.evaluation.search_space import (
    MOST_TRIALS,
    Setting,
    Settings,
    Space,
    Span,
    ends,
    grid,
    listed_values,
)
from jde_ray.pipelines.formats.detections import SavedFrame, SavedVideo, read_saved
from jde_ray.pipelines.formats.mot import GroundTruth
from jde_ray.pipelines.structures import VideoInfo
from jde_ray.pipelines.video.motion_of_frames import with_motion

Search = Literal["grid", "optuna"]


@dataclass(frozen=True)
class TuningSet:
    """A sequence to tune on: its detections and the path of its ground truth."""

    name: str
    saved: SavedVideo
    truth: str


@dataclass(frozen=True)
class Trial:
    """Settings that were tried, and their scores by sequence."""

    settings: Settings
    scores: dict[str, SequenceScores]

    def figure(self, metric: str, without: str | None = None) -> float:
        """The metric over all sequences together, optionally without one."""
        kept = [score for name, score in self.scores.items() if name != without]
        return sum(kept, SequenceScores()).figures()[metric]


@dataclass(frozen=True)
class Tuning:
    """Result of a tuning run.

    Attributes:
        metric: Figure that was maximised.
        trials: All trials, best first; of equal ones the earlier comes first.
        start: Trial with the configuration's own settings.
    """

    metric: str
    trials: list[Trial]
    start: Trial

    @property
    def best(self) -> Trial:
        """The trial with the largest figure, or the start if no trial exceeds it."""
        return self._best()

    def _best(self, without: str | None = None) -> Trial:
        everyone = [self.start, *self.trials]
        return max(everyone, key=lambda trial: _comparable(trial.figure(self.metric, without)))

    def looks_from(self, config: TrackConfig) -> float:
        """Lowest score that any trial uses; `config` is that of `tune`."""
        tried = (with_settings(config, trial.settings) for trial in (self.start, *self.trials))
        return min(one.tracking.least_score for one in tried)

    def left_out(self) -> SequenceScores | None:
        """Sum of each sequence's scores with the settings that are best on the other sequences.

        If they are far below those of the best trial, its settings fit only these sequences. None
        for a single sequence.
        """
        names = list(self.start.scores)
        if len(names) < 2:
            return None
        chosen = (self._best(without=name).scores[name] for name in names)
        return sum(chosen, SequenceScores())


def score_settings(config: TrackConfig, sequences: Sequence[Loaded]) -> dict[str, SequenceScores]:
    """Associate and score sequences with a configuration; equals `jde track` and `jde eval`."""
    return {one.name: _score(config, one) for one in sequences}


@dataclass(frozen=True)
class Loaded:
    """A sequence in memory."""

    name: str
    is_text: bool
    info: VideoInfo
    frames: list[SavedFrame]
    truth: GroundTruth


def load_sequences(
    config: TrackConfig, sets: Sequence[TuningSet], rules: TruthRules = TruthRules()
) -> list[Loaded]:
    """Read detections and ground truth.

    Raises:
        RunError: If either cannot be read.
    """
    loaded = []
    for one in sets:
        try:
            info, saved = read_saved(one.saved, config)
            if one.saved.frames is not None and config.estimates_motion:
                saved = with_motion(saved, one.saved, info, 0, config)
            frames = list(saved)
            truth = read_truth(Path(one.truth), rules)
            seen = limited(len(frames), config.vid_stride, config.max_frames)
            truth = truth if seen is None else seen.truth(truth)  # as `jde eval` does
            is_text = one.saved.is_text
            loaded.append(Loaded(one.name, is_text, info, frames, truth))
        except (ValueError, OSError, VideoError) as error:
            raise RunError(str(error), ExitCode.REFUSED) from error
    return loaded


def _score(config: TrackConfig, sequence: Loaded) -> SequenceScores:
    tracker = JDETracker(config.tracking, sequence.info.frames_per_second)
    # a run passes only detections above this score to the tracker, but all rows of MOT text
    threshold = -1.0 if sequence.is_text else config.detection.threshold
    parts = [BoxRows.empty()]
    for frame, time_s, found, motion in sequence.frames:
        seen = _above(found, np.float32(threshold))
        moved = motion if config.estimates_motion else None
        tracks = tracker.follow(seen, time_s=time_s, camera_motion=moved)
        keep = reported(tracks.tlbr, config)
        tlbr = tracks.tlbr[keep].astype(np.float32).astype(np.float64)  # in the rows' precision
        ids = tracks.track_id[keep].astype(np.int64)
        parts.append(BoxRows(np.full(len(ids), frame, np.int64), ids, tlbr))
    truth = sequence.truth
    rows = BoxRows.concatenate(parts)
    return score_sequence(truth.people, rows, truth.ignore, truth.other)


def _above(found: Detections, threshold: np.float32) -> Detections:
    keep = found.scores > threshold
    return found if keep.all() else found[keep]


def with_settings(config: TrackConfig, settings: Mapping[str, Setting]) -> TrackConfig:
    """A copy of the configuration with these settings of its association.

    Raises:
        ValueError: If there is no such setting or a value is out of range.
    """
    tracking = build_config(**{**asdict(config.tracking), **settings})
    threshold = max(config.detection.threshold, tracking.least_score)
    detection = replace(config.detection, score_threshold=threshold)
    return replace(config, tracking=tracking, detection=detection)


def tune(
    config: TrackConfig,
    sets: Sequence[TuningSet],
    space: Space,
    *,
    metric: str = "HOTA",
    search: Search = "grid",
    samples: int = 50,
    seed: int = 0,
    address: str = "local",
    rules: TruthRules = TruthRules(),
    progress: Callable[[int, int], None] | None = None,
) -> Tuning:
    """Try settings with Ray Tune.

    Args:
        config: Settings resolved for these detections by
            `pipelines.tracking.from_detections.resolve_settings`; its `score_threshold` is the
            lowest saved score.
        sets: Sequences; every node must see their files.
        space: Values to try by setting.
        metric: Official name of the figure to maximise.
        search: `grid` tries everything; `optuna` searches in `samples` trials.
        samples: Number of trials with `optuna`.
        seed: Seed of `optuna`; a grid does not use it.
        address: Address of the Ray cluster.
        rules: Rules for reading ground truth.
        progress: Called with the numbers of finished and of all trials.

    Raises:
        RunError: If settings are invalid, a file cannot be read, or Optuna is missing.
    """
    listed = grid(space) if search == "grid" else ends(space)
    total = len(listed) if search == "grid" else samples
    if not 0 < total <= MOST_TRIALS:
        raise RunError(f"param: got {total} trials, expected 1 to {MOST_TRIALS}", ExitCode.REFUSED)
    for settings in listed:
        _check(config, settings)
    loaded = load_sequences(config, sets, rules)
    start = Trial({}, score_settings(with_settings(config, {}), loaded))
    with connected(address):
        found = _run(config, loaded, space, metric, search, total, seed, progress)
    order = sorted(found, key=lambda trial: -_comparable(trial.figure(metric)))
    return Tuning(metric, order, start)


def _comparable(figure: float) -> float:
    return figure if np.isfinite(figure) else -np.inf


def _check(config: TrackConfig, settings: Settings) -> None:
    try:
        with_settings(config, settings)
    except ValueError as error:
        raise RunError(f"param: {error}", ExitCode.REFUSED) from error


def _run(
    config: TrackConfig,
    loaded: list[Loaded],
    space: Space,
    metric: str,
    search: Search,
    total: int,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> list[Trial]:
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # leave no files of Tune behind
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # our own table is printed at the end
    from ray import tune as ray_tune

    class Collector(ray_tune.Callback):
        """Counts the trials that have ended."""

        ended = 0

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            self.ended += 1
            if progress is not None:
                progress(self.ended, total)

    is_grid = search == "grid"
    parameters = {
        name: ray_tune.grid_search(listed_values(values)) if is_grid else _domain(values, ray_tune)
        for name, values in space.items()
    }
    with tempfile.TemporaryDirectory(prefix="jde-tune-") as folder:
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(
                ray_tune.with_parameters(_attempt, config=config, loaded=loaded, metric=metric),
                {"cpu": 1},
            ),
            param_space=parameters,
            tune_config=ray_tune.TuneConfig(
                metric=_FIGURE,
                mode="max",
                search_alg=None if is_grid else _optuna(seed),
                num_samples=1 if is_grid else total,
                reuse_actors=True,
            ),
            run_config=ray_tune.RunConfig(
                storage_path=folder, verbose=0, callbacks=[Collector()], log_to_file=False
            ),
        )
        results = tuner.fit()
    if results.errors:
        last = (str(results.errors[0]).strip().splitlines() or ["unknown"])[-1]
        raise RunError(f"a trial failed: {last}", ExitCode.INTERNAL)
    metrics = [results[number].metrics or {} for number in range(len(results))]
    found: list[Trial] = [values["trial"] for values in metrics]
    return sorted(found, key=lambda trial: repr(sorted(trial.settings.items())))


_FIGURE = "figure"


def _attempt(
    settings: Settings, config: TrackConfig, loaded: list[Loaded], metric: str
) -> dict[str, Any]:
    """Run one trial in a worker, with numbers rounded to the digits that a file will have."""
    tried = {n: round(v, 6) if isinstance(v, float) else v for n, v in settings.items()}
    trial = Trial(tried, score_settings(with_settings(config, tried), loaded))
    return {_FIGURE: _comparable(trial.figure(metric)), "trial": trial}


def _domain(values: Span | list[Setting], ray_tune: Any) -> Any:
    if not isinstance(values, Span):
        return ray_tune.choice(values)
    if values.is_whole:
        return ray_tune.randint(int(values.low), int(values.high) + 1)
    return ray_tune.uniform(values.low, values.high)


def _optuna(seed: int) -> Any:
    try:
        import optuna
        from ray.tune.search.optuna import OptunaSearch
    except ImportError as error:
        raise RunError(
            "search: optuna is not installed; pip install -e '.[tune]', or --search grid",
            ExitCode.REFUSED,
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return OptunaSearch(seed=seed)
