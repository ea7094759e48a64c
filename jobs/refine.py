"""`jde refine`: join, filter, fill and smooth the tracks of a finished run, into a new folder."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Annotated

import typer

from jde_ray.jobs.console.messages import count_videos
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.errors import ExitCode, RunError

Source = Annotated[
    str,
    typer.Argument(
        metavar="TRACKS",
        show_default=False,
        help="OUT of a run (also s3://), its Parquet files, or MOT text files from any tracker.",
    ),
]
Out = Annotated[
    str,
    typer.Option(metavar="OUT2", show_default=False, help="New folder for the refined tracks."),
]
Interpolate = Annotated[
    int,
    typer.Option(
        metavar="FRAMES", help="Fill gaps of up to this many frames by linear interpolation."
    ),
]
Smooth = Annotated[
    bool, typer.Option("--smooth", help="Smooth boxes over all frames (Rauch-Tung-Striebel).")
]
Relink = Annotated[
    bool,
    typer.Option(
        "--relink",
        help="Cut tracks where the person may have changed, and join the pieces of each person: by "
        "motion, and by appearance if the run had --save-embeddings, or by --reid.",
    ),
]
RelinkGap = Annotated[
    float | None,
    typer.Option(
        metavar="SECONDS",
        show_default=False,
        help=r"Longest gap that is joined. \[default: the whole video]",
    ),
]
RelinkDistance = Annotated[
    float | None,
    typer.Option(hidden=True, help="Without effect: each video sets its own scale."),
]
Reid = Annotated[
    str | None,
    typer.Option(
        metavar="colours|FILE",
        show_default=False,
        help="Re-identification network (weights of jde train, ONNX, or the YAML that declares"
        " it), or colours: it looks at the best crops of each track, read from the videos"
        " again, so that --relink knows people better.",
    ),
]
Frames = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE",
        show_default=False,
        help="The videos for --reid, found by name; repeatable. "
        r"\[default: where the run found them]",
    ),
]
MinTrackLength = Annotated[
    int, typer.Option(metavar="FRAMES", help="Drop tracks seen in fewer frames than this.")
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|HOST:PORT",
        help=r"Ray to run on, one task per video. \[default: this process for up to 16 videos]",
    ),
]


def refine(
    tracks: Source,
    out: Out,
    interpolate: Interpolate = 0,
    smooth: Smooth = False,
    relink: Relink = False,
    relink_gap: RelinkGap = None,
    relink_distance: RelinkDistance = None,
    reid: Reid = None,
    frames: Frames = None,
    min_track_length: MinTrackLength = 1,
    address: Address = None,
) -> int:
    """Improve finished tracks offline. Without a step: --relink --interpolate 20 --smooth.

    Steps run in this order: relink, min-track-length, interpolate, smooth. TRACKS is not changed.
    Columns that `jde track` does not write are empty in the new files. Exit code 3 if a file could
    not be refined; the others are.
    """
    from jde_ray.models.tracking.postprocessing.evidence import LinkSettings
    from jde_ray.pipelines.detection.weights import inspect_reid
    from jde_ray.pipelines.refinement.run import refine as refine_all
    from jde_ray.pipelines.refinement.second_look import SecondLook
    from jde_ray.pipelines.refinement.steps import USUAL, RefineConfig

    if relink_distance is not None:
        print(
            "note: --relink-distance has no effect; each video sets its own scale", file=sys.stderr
        )
    try:
        limits = LinkSettings() if relink_gap is None else LinkSettings(max_gap_s=relink_gap)
        config = RefineConfig(
            relink=limits if relink or relink_gap is not None else None,
            min_track_length=min_track_length,
            interpolate=interpolate,
            smooth=smooth,
        )
        config = USUAL if config.does_nothing else config
        if frames and not reid:
            raise ValueError("frames: only for --reid, which looks at them")
        look = None
        if reid:
            config, look = (
                replace(config, reid_sha256=inspect_reid(reid)),
                SecondLook.at(reid, frames),
            )
        with working("refining", "videos"):
            refined = refine_all(tracks, out, config, address, look)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    done = [one for one in refined if not one.error]
    failed = [one for one in refined if one.error]
    if len(refined) == 1 and failed:
        raise RunError(failed[0].error, ExitCode.REFUSED)
    for one in done:
        note = "" if one.is_new else "  (was there already)"
        print(
            f"{one.name}: {one.tracks_before} tracks became {one.tracks_after}, "
            f"{one.rows_before} rows {one.rows_after}{note}"
        )
    for one in failed:
        print(f"failed: {one.error}", file=sys.stderr)
    emptied = sorted({name for one in done for name in one.emptied})
    if emptied:
        print(f"columns that jde track does not write are empty there: {', '.join(emptied[:20])}")
    if crops := sum(one.num_crops for one in done):
        print(f"second look: {crops} crops of {sum(one.rows_before for one in done)} boxes")
    print(f"written to {out}" + (f"; {count_videos(len(failed))} failed" if failed else ""))
    return ExitCode.SOME_FAILED if failed else ExitCode.DONE


if __name__ == "__main__":
    main(refine, "refine")
