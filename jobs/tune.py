"""`jde tune`: try tracker settings on saved detections and write the best as a config file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from jde_ray.jobs.console.flags import Given, completion, takes
from jde_ray.jobs.console.json_file import printed_beside, put_json
from jde_ray.jobs.console.options import (
    ConfigFile,
    Values,
    build_settings,
    collect,
    place_of,
    read_yaml,
)
from jde_ray.jobs.console.progress import Display
from jde_ray.jobs.console.run_flags import FLAGS, choose
from jde_ray.jobs.console.runner import main
from jde_ray.jobs.console.score_options import SkipMissing
from jde_ray.jobs.console.search_params import parse_space
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.models.metrics.tracking import SequenceScores
    from jde_ray.pipelines.config import TrackConfig
    from jde_ray.pipelines.evaluation.search_space import Setting
    from jde_ray.pipelines.evaluation.tuning import Search, Trial, Tuning, TuningSet
    from jde_ray.pipelines.formats.detections import SavedVideo

_SHOWN = ("HOTA", "IDF1", "MOTA", "IDs")  # shown after the metric
_MOST_ROWS = 10

Detections = Annotated[
    list[str],
    typer.Argument(
        metavar="DETECTIONS",
        show_default=False,
        help="OUT of a run with --save-detections, *.parquet, det.txt, a MOTChallenge tree, or "
        "globs.",
    ),
]
Truth = Annotated[
    Path,
    typer.Option("--gt", metavar="GT", show_default=False, help="Ground truth, as for `jde eval`."),
]
Param = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=VALUES",
        show_default=False,
        help="conf=0.3:0.7 (a range, 5 values in a grid), conf=0.3:0.7:9 (9 values), "
        "track_buffer=10,30,60. NAME is a flag of `jde track` or a setting of the tracking "
        "algorithm. Repeatable.",
    ),
]


def _metrics(incomplete: str) -> list[str]:
    """What the Tab key offers for `--metric`."""
    from jde_ray.models.metrics.tracking import RATIOS

    return completion(RATIOS)(incomplete)


Metric = Annotated[str, typer.Option(help="Metric to maximise.", autocompletion=_metrics)]
SearchName = Annotated[
    str,
    typer.Option(
        "--search",
        metavar="grid|optuna",
        help="Try all combinations (grid) or let Optuna choose.",
        autocompletion=completion(("grid", "optuna")),
    ),
]
Frames = Annotated[
    list[str] | None,
    typer.Option(
        "--frames",
        metavar="SOURCE",
        show_default=False,
        help="The videos of the detections, found by name: the camera's motion is estimated from"
        " them, as by `jde track --from-detections`. Repeatable.",
    ),
]
Samples = Annotated[int, typer.Option(help="Number of trials for --search optuna.")]
Seed = Annotated[int, typer.Option(help="Random seed for --search optuna.")]
Out = Annotated[
    Path,
    typer.Option(
        "--out",
        metavar="FILE.yaml",
        help="Settings file to write for `jde track --config`; overwritten.",
    ),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write all trials as JSON; - for standard output."),
]


@takes(flags=choose("association", "score_map", "address"))
def tune(
    detections: Detections,
    gt: Truth,
    param: Param,
    metric: Metric = "HOTA",
    search: SearchName = "grid",
    samples: Samples = 50,
    seed: Seed = 0,
    out: Out = Path("tuned.yaml"),
    save: Json = None,
    frames: Frames = None,
    skip_missing: SkipMissing = False,
    config: ConfigFile = None,
    *,
    flags: Given,
) -> None:
    """Try tracker settings on saved detections, and write the best as a config file.

    Exit codes: 0 done; 1 internal error; 2 refused before any work.
    """
    settings = build_settings(collect(flags, config))
    given = {} if config is None else read_yaml(config)

    with Display() as display:
        display.doing("loading Ray")
        from jde_ray.models.metrics.tracking import RATIOS
        from jde_ray.pipelines.evaluation.tuning import tune as run
        from jde_ray.pipelines.names import listed
        from jde_ray.pipelines.sources.saved_detections import find_saved, with_frames
        from jde_ray.pipelines.tracking.from_detections import resolve_settings

        for name, path in (("out", out), ("json", save)):
            if path is not None and not path.parent.is_dir():  # report it before the trials
                raise RunError(f"{name}: there is no folder {path.parent}", ExitCode.REFUSED)
        metric = _known(metric, RATIOS, "metric")
        search = _known(search, ("grid", "optuna"), "search")
        saved = find_saved(detections)
        saved = with_frames(saved, frames) if frames else saved
        sets, left_out = _pair(saved, gt, skip_missing)
        space = parse_space(param)
        # trials use detections down to the lowest score that was saved
        settled = resolve_settings(settings.track, saved, least=0.0)
        display.doing(f"trying settings on {len(sets)} videos")
        tuning = run(
            settled,
            sets,
            space,
            metric=metric,
            search=cast("Search", search),
            samples=samples,
            seed=seed,
            address=settings.resources.address,
            progress=_progress,
        )
    with printed_beside(save):
        _show(tuning)
        if left_out:
            print(f"skipped, since there is no ground truth of them: {listed(left_out)}")
        _say_what_is_missing(settled, tuning)
    _write(out, settled, tuning, given)
    if save is not None:
        rows = json.dumps([_row(trial) for trial in tuning.trials], indent=1)
        with _written("json", save):
            put_json(save, rows)
    with printed_beside(save):
        print(f"written to {out}; use it with jde track --config {out}")


def _known(given: str, accepted: tuple[str, ...], name: str) -> str:
    for choice in accepted:
        if given.lower() == choice.lower():
            return choice
    raise RunError(f"{name}: got {given!r}, expected {' | '.join(accepted)}", ExitCode.REFUSED)


def _pair(
    saved: list[SavedVideo], gt: Path, skip_missing: bool
) -> tuple[list[TuningSet], list[str]]:
    """The sequences with their ground truth, and the names of those without."""
    from jde_ray.pipelines.evaluation.pairing import pair_all
    from jde_ray.pipelines.evaluation.tuning import TuningSet

    by_name = {one.video.name: one for one in saved}
    try:
        if len(by_name) < len(saved):
            raise ValueError("detections: two videos of one name")
        files = {name: Path(one.key) for name, one in by_name.items()}
        pairings, left_out, _ = pair_all(files, gt, skip_missing)
    except ValueError as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    return [TuningSet(p.name, by_name[p.name], str(p.truth)) for p in pairings], left_out


def _progress(done: int, total: int) -> None:
    if done == total or done % max(1, total // 10) == 0:
        print(f"{done}/{total} trials", file=sys.stderr, flush=True)  # above a bar


def _figures(score: SequenceScores, metric: str) -> list[str]:
    figures = score.figures()
    names = dict.fromkeys((metric, *_SHOWN))
    return [f"{figures[name]:.0f}" if name == "IDs" else f"{figures[name]:.2f}" for name in names]


def _total(trial: Trial) -> SequenceScores:
    from jde_ray.models.metrics.tracking import SequenceScores

    return sum(trial.scores.values(), SequenceScores())


def _row(trial: Trial) -> dict[str, Any]:
    each = {name: score.figures() for name, score in trial.scores.items()}
    return {"settings": trial.settings, "figures": _total(trial).figures(), "sequences": each}


def _show(tuning: Tuning) -> None:
    """Print the best trials, and the scores to compare them with."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    names = list(tuning.trials[0].settings)
    flags = {flag.field: name for name, flag in FLAGS.items() if place_of(flag)[0] == "tracking"}
    titles = [flags.get(name, name) for name in names]
    for title in ("", *dict.fromkeys((tuning.metric, *_SHOWN)), *titles):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for rank, trial in enumerate(tuning.trials[:_MOST_ROWS], start=1):
        values = [_text(trial.settings[name]) for name in names]
        table.add_row(str(rank), *_figures(_total(trial), tuning.metric), *values)
    table.add_section()
    table.add_row("as it was", *_figures(_total(tuning.start), tuning.metric))
    left_out = tuning.left_out()
    if left_out is not None:
        table.add_row("left out", *_figures(left_out, tuning.metric))
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)
    print(
        "left out: each sequence scored with the settings that are best on the others; if that is"
        " no better than `as it was`, the choice fits these sequences only"
        if left_out is not None
        else "one sequence: it is unknown whether the choice holds for others"
    )


def _say_what_is_missing(config: TrackConfig, tuning: Tuning) -> None:
    """Print a note if trials need lower scores than were saved, and one if no trial is better."""
    saved, least = config.detection.threshold, tuning.looks_from(config)
    if saved > least:
        print(
            f"note: detections were saved down to a score of {saved:g}, but trials use them down to"
            f" {least:g}; to match a direct run with such settings, save with a lower --conf"
        )
    if tuning.best is tuning.start:
        print("no trial is better than the starting settings, which are written")


def _text(value: Setting) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _write(out: Path, config: TrackConfig, tuning: Tuning, given: Values) -> None:
    """Write the best settings, together with all others of the `--config` it started from."""
    import yaml

    before = asdict(config.tracking)
    default = asdict(type(config.tracking)())
    kept = {name: value for name, value in before.items() if value != default[name]}
    best = {"association": before["association"], **kept, **tuning.best.settings}
    content: dict[str, dict[str, Any]] = {}
    for (section, field), value in given.items():
        if section != "tracking":
            content.setdefault(section, {})[field] = (
                list(value) if isinstance(value, tuple) else value
            )
    content["tracking"] = best
    figure, start = (trial.figure(tuning.metric) for trial in (tuning.best, tuning.start))
    lines = [f"# jde tune: {tuning.metric} {figure:.2f}, {start:.2f} before"]
    left_out = tuning.left_out()
    if left_out is not None:
        lines.append(
            f"# on sequences left out of the choice: {left_out.figures()[tuning.metric]:.2f}"
        )
    with _written("out", out):
        out.write_text("\n".join(lines) + "\n" + yaml.safe_dump(content), encoding="utf-8")


@contextmanager
def _written(name: str, path: Path) -> Iterator[None]:
    """Turn an error of the block, which writes a file, into a refusal."""
    try:
        yield
    except OSError as error:
        raise RunError(f"{name}: {path} cannot be written ({error})", ExitCode.REFUSED) from error


if __name__ == "__main__":
    main(tune, "tune")
