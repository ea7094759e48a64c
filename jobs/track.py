"""`jde track`: track people in videos, one Parquet file per video. Also `python -m jobs.track`.

Turns the command line into configurations, checks the weights, runs
`pipelines.tracking.offline.track`, and shows its progress.
"""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.messages import Messages, count_videos
from jde_ray.jobs.console.options import ConfigFile, Settings, Values, build_settings, collect
from jde_ray.jobs.console.printed_settings import describe_environment, describe_run
from jde_ray.jobs.console.progress import Display
from jde_ray.jobs.console.refinement import check_before_run, refine_run
from jde_ray.jobs.console.results import show_summary
from jde_ray.jobs.console.run_flags import DATA, FLAGS
from jde_ray.jobs.console.runner import main
from jde_ray.jobs.console.settings import check_weights, refuse_missing
from jde_ray.pipelines.config import OutputConfig
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.storage.s3_client import configure

if TYPE_CHECKING:
    from jde_ray.pipelines.formats.detections import SavedVideo
    from jde_ray.pipelines.output.summary import Summary

logger = logging.getLogger("jde_ray.jobs.track")  # `python -m jobs.track` has another name

Sources = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="SOURCE",
        show_default=False,
        help="Video file, folder, folder of images, glob, @list.txt, "
        ".csv with a column source (and camera, start), or s3://bucket/prefix.",
    ),
]
Out = Annotated[
    str | None,
    typer.Option(
        metavar="OUT",
        show_default=False,
        help="Folder or s3:// prefix for the results; videos already done there are skipped. "
        r"\[default: runs/track/NAME, a new one each time]",
    ),
]
Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        metavar="",
        help="Process finished videos again, with the same configuration; each keeps its tracks "
        "until the new ones replace them.",
    ),
]
RetryErrors = Annotated[
    bool,
    typer.Option(
        "--retry-errors",
        metavar="",
        help="Try videos again that failed in an earlier call. Otherwise they are skipped and do "
        "not affect the exit code.",
    ),
]

FromDetections = Annotated[
    list[str] | None,
    typer.Option(
        "--from-detections",
        metavar="PATH",
        rich_help_panel=DATA,
        show_default=False,
        help="Track saved detections instead of SOURCE: OUT of a run, *.parquet, det.txt, a "
        "MOTChallenge tree, or a glob. Repeatable.",
    ),
]

Frames = Annotated[
    list[str] | None,
    typer.Option(
        "--frames",
        metavar="SOURCE",
        rich_help_panel=DATA,
        show_default=False,
        help="The videos of --from-detections, found by name: the camera's motion is estimated from"
        " them, for detections that were saved without. Repeatable.",
    ),
]

PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-config",
        metavar="",
        help="Print the settings of this call, as a file for --config, and do nothing else.",
    ),
]


@takes(flags=FLAGS)
def track(
    sources: Sources = None,
    out: Out = None,
    config: ConfigFile = None,
    *,
    flags: Given,
    from_detections: FromDetections = None,
    frames: Frames = None,
    overwrite: Overwrite = False,
    retry_errors: RetryErrors = False,
    print_config: PrintConfig = False,
) -> int:
    """Track people in videos and write OUT/tracks/*.parquet.

    Exit codes: 0 done; 1 internal error; 2 refused before any work; 3 some videos failed or are
    partial in this call; 4 OUT belongs to another configuration; 130, 143 interrupted (run the
    same command to continue).
    """
    values = collect(flags, config)
    if print_config:
        return _print_settings(values)
    if values.get(("outputs", "refine")):  # the refinement judges by appearance too
        values = {("outputs", "save_embeddings"): True, **values}
    settings = build_settings(values)
    configure(settings.resources.s3_endpoint)
    again = {"overwrite": overwrite, "retry_errors": retry_errors}
    with Messages(settings.console) as messages:
        if settings.outputs.blur != "none" and not settings.outputs.has_pictures:
            logger.warning("note: --blur is for --save-video and --save-crops; no picture is made")
        with Display(config=settings.console, messages=messages) as display:
            named = _one_of(sources, from_detections, frames)
            out = out or next_folder(named)
            check_before_run(out, settings)
            if from_detections:
                settings, run = _from_saved(values, named, frames, out, display)
            else:
                settings, run = _from_videos(values, settings, named, out, display, again)
            summary = run(
                out,
                settings.track,
                resources=settings.resources,
                outputs=settings.outputs,
                progress=display,
                **again,
            )
            stopped = summary.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
            notes: list[str] = []
            troubles: list[str] = []
            if settings.outputs.refine and not stopped:
                display.pause()
                notes, troubles = refine_run(out, settings)
            if troubles and summary.exit_code == ExitCode.DONE:
                summary = replace(summary, exit_code=ExitCode.SOME_FAILED)
            display.ended(summary)
        show_summary(
            summary,
            outputs=settings.outputs,
            notes=[*notes, *_missing_outputs(summary, settings.outputs)],
            troubles=troubles,
            quiet=settings.console.quiet or settings.console.progress == "json",
            messages=messages,
        )
        if stopped:
            raise RunError(
                f"interrupted; run the same command with --out {out} to continue", summary.exit_code
            )
    return int(summary.exit_code)


def _print_settings(values: Values) -> int:
    build_settings(values)  # a wrong one is refused as in a run
    about = describe_environment("track", inspect.signature(track).parameters)
    print("\n".join([*about, *describe_run(values, FLAGS)]))
    return ExitCode.DONE


def _from_videos(
    values: Values,
    typed: Settings,
    sources: list[str],
    out: str,
    display: Display,
    again: dict[str, bool],
) -> tuple[Settings, Callable[..., Summary]]:
    """Settings and dataflow for videos; what cannot run is refused before torch is imported."""
    from jde_ray.pipelines.sources.discovery import find_videos  # loads PyAV

    display.doing(f"looking for videos in {_some(sources)}")
    found = find_videos(sources, typed.sources)  # an archive is listed once: on S3 pages cost money
    refuse_missing(values)
    check_out(out)
    display.started(out, len(found.videos))
    display.doing(f"{count_videos(len(found.videos))}: loading the network")
    settings = check_weights(values, chooses_size=True)

    from jde_ray.pipelines.tracking.small_work import is_small_run  # loads PyAV and OpenCV

    config, resources, outputs = settings.track, settings.resources, settings.outputs
    if is_small_run(found.videos, out, config, resources, outputs, **again):
        from jde_ray.pipelines.tracking import reference

        return settings, partial(reference.track, found)
    display.doing("loading Ray")

    from jde_ray.pipelines.tracking import offline

    return settings, partial(offline.track, found)


def _from_saved(
    values: Values, named: list[str], frames: list[str] | None, out: str, display: Display
) -> tuple[Settings, Callable[..., Summary]]:
    """Settings and dataflow for saved detections."""
    display.doing(f"looking for detections in {_some(named)}")
    settings, saved = check_saved(values, named, frames)
    check_out(out)
    display.doing("loading Ray")

    from jde_ray.pipelines.tracking import from_detections

    return settings, partial(from_detections.track, saved)


def _some(names: list[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def check_out(out: str) -> None:
    """List something in OUT: a wrong store or missing credentials are told before Ray starts.

    Raises:
        RunError: If it cannot be read.
    """
    from jde_ray.pipelines.output.layout import RUN_KEY
    from jde_ray.pipelines.output.run_record import usable

    with usable(out) as store:
        next(iter(store.list(RUN_KEY)), None)


def _missing_outputs(summary: Summary, outputs: OutputConfig) -> list[str]:
    """Outputs asked for now that videos finished earlier do not have, one line per kind."""
    from jde_ray.pipelines.storage.stores import open_store
    from jde_ray.pipelines.tracking.later_outputs import without_detections, without_embeddings

    skipped = [row.video_id for row in summary.videos if row.status == "skipped" and not row.error]
    lines = []
    for is_wanted, kind, find in (
        (outputs.save_detections, "detections", without_detections),
        (outputs.save_embeddings, "embeddings", without_embeddings),
    ):
        if is_wanted and skipped and (missing := find(open_store(summary.out), skipped)):
            lines.append(
                f"no {kind} of {len(missing)} done before; --overwrite processes them again"
            )
    return lines


def _one_of(
    sources: list[str] | None, saved: list[str] | None, frames: list[str] | None
) -> list[str]:
    if frames and not saved:
        raise RunError(
            "frames: only for --from-detections; videos have their own frames", ExitCode.REFUSED
        )
    if sources and saved:
        raise RunError("got SOURCE and --from-detections, expected one", ExitCode.REFUSED)
    if not (sources or saved):
        raise RunError("Missing argument 'SOURCE', or --from-detections", ExitCode.REFUSED)
    return sources or saved or []


def check_saved(
    values: Values, named: list[str], frames: list[str] | None = None
) -> tuple[Settings, list[SavedVideo]]:
    """Find the detections of a run that takes no network settings, and build the configurations.

    Args:
        values: Settings that were given.
        named: Sources of detections.
        frames: Videos that show their frames; None if none are at hand.

    Raises:
        RunError: If a network setting is given, there are no detections, they do not go together,
            or the camera's motion is asked for and unknown.
    """
    from jde_ray.pipelines.sources.saved_detections import find_saved, from_addresses, with_frames
    from jde_ray.pipelines.tracking.from_detections import resolve_settings

    for section, field in values:
        if section == "detection" and field != "score_map":
            raise RunError(
                f"{field}: nothing is detected with --from-detections; leave it out",
                ExitCode.REFUSED,
            )
    settings = build_settings(values)
    if frames and not settings.track.estimates_motion:
        raise RunError(
            "frames: they show how the camera moves, which these settings do not use",
            ExitCode.REFUSED,
        )
    saved = from_addresses(find_saved(named), settings.sources)
    if frames:
        saved = with_frames(saved, frames)
    settled = resolve_settings(settings.track, saved)
    if values.get(("run", "camera_motion")) and not settled.camera_motion:
        unknown = next(one.video.name for one in saved if not one.has_motion)
        raise RunError(
            f"camera-motion: {unknown} was saved without; name its frames with --frames SOURCE",
            ExitCode.REFUSED,
        )
    least, threshold = settled.tracking.least_score, settled.detection.threshold
    if threshold > least:
        logger.warning(
            "note: detections were saved down to a score of %g, but this algorithm uses them down"
            " to %g; to match a direct run, save with --conf %g",
            threshold,
            least,
            settings.track.tracking.high_score,
        )
    return replace(settings, track=settled), saved


def next_folder(sources: list[str]) -> str:
    """A folder in runs/track that does not exist yet, named after the first source."""
    stem = Path(sources[0].removeprefix("@")).resolve().stem
    name = re.sub(r"[^\w.-]+", "-", stem).strip("-.") or "videos"
    folder = Path("runs/track") / name
    number = 2
    while folder.exists():
        folder = Path("runs/track") / f"{name}-{number}"
        number += 1
    return str(folder)


if __name__ == "__main__":
    main(track, "track")
