"""`jde convert`: the tracks of a run as files of other tools."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from jde_ray.jobs.console.flags import completion
from jde_ray.jobs.console.messages import count_videos
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.conversion.kinds import KINDS
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.pipelines.conversion.convert import Converted

Source = Annotated[
    str,
    typer.Argument(
        metavar="OUT",
        show_default=False,
        help="OUT of a run or its refined tracks (also s3://), its Parquet files, or MOT text.",
    ),
]
To = Annotated[
    str,
    typer.Option(
        metavar="FORMAT",
        show_default=False,
        help="\n\n".join(f"{name}: {kind.help}" for name, kind in KINDS.items()),
        autocompletion=completion(tuple(KINDS)),
    ),
]
Out = Annotated[
    str,
    typer.Option(
        metavar="FOLDER",
        show_default=False,
        help="New folder or s3:// prefix for the files; the same command writes them again.",
    ),
]
Scores = Annotated[
    bool, typer.Option("--scores", help="mot: column 7 is the score. Otherwise it is 1.")
]
Detectors = Annotated[
    bool,
    typer.Option(
        "--detectors", help="mot: MOT17-01.txt as -DPM, -FRCNN and -SDP, which its server wants."
    ),
]
Zip = Annotated[
    bool, typer.Option("--zip", help="mot: also submission.zip, for the MOTChallenge server.")
]
TrackIds = Annotated[
    bool,
    typer.Option(
        "--track-ids/--no-track-ids", help="yolo: lines end with the track id, or fit a trainer."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|HOST:PORT",
        help=r"Ray to run on, one task per video. \[default: this process for up to 16 videos]",
    ),
]


def convert(
    tracks: Source,
    to: To,
    out: Out,
    scores: Scores = False,
    detectors: Detectors = False,
    zipped: Zip = False,
    track_ids: TrackIds = True,
    address: Address = None,
) -> None:
    """Write the tracks of a run as files of another tool.

    Example: jde convert runs/first --to cvat --out cvat/

    docs/convert.md says for each format what it keeps, and how to open it. Weights of a network,
    not tracks, are written by jde export; data sets to train on are converted by jde data convert.
    """
    from jde_ray.pipelines.conversion.convert import ConvertConfig
    from jde_ray.pipelines.conversion.convert import convert as convert_all
    from jde_ray.pipelines.formats.exchange.video_tracks import Choices

    try:
        config = ConvertConfig(
            to=to,
            choices=Choices(scores=scores, track_ids=track_ids),
            detectors=detectors,
            zipped=zipped,
        )
        with working("converting", "videos"):
            done = convert_all(tracks, out, config, address)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    print(f"{count_videos(len(done))}, {_sum(done, 'num_tracks')} tracks, {_rows(done)}: {out}")
    if lost := _describe_clipped(done):
        print(lost, file=sys.stderr)


def _sum(done: Sequence[Converted], name: str) -> int:
    return sum(int(getattr(one, name)) for one in done)


def _rows(done: Sequence[Converted]) -> str:
    return f"{_sum(done, 'num_rows')} rows"


def _describe_clipped(done: Sequence[Converted]) -> str:
    """What was changed since the format has no boxes beyond the picture; empty for nothing."""
    num_cut, num_outside = _sum(done, "num_cut"), _sum(done, "num_outside")
    if not num_cut and not num_outside:
        return ""
    text = f"jde: cut off at the border of the picture, as the format requires: {num_cut} boxes"
    return f"{text}; {num_outside} outside of it left out" if num_outside else text


if __name__ == "__main__":
    main(convert, "convert")
