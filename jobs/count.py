"""`jde count`: lines crossed, zones visited and ground walked, from finished tracks."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from jde_ray.jobs.console.messages import Messages, count_videos
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.errors import ExitCode, RunError, one_line

if TYPE_CHECKING:
    from jde_ray.pipelines.counting.result import Counted

_MOST_LINES = 40  # of counts and of failures on the terminal; the tables have all of them

Source = Annotated[
    str,
    typer.Argument(
        metavar="OUT",
        show_default=False,
        help="OUT of a run or of jde refine (also s3://), or its Parquet files.",
    ),
]
Config = Annotated[
    Path,
    typer.Option(
        metavar="PLACES.yaml",
        show_default=False,
        help="Lines, zones and ground by camera; docs/counting.md explains it.",
    ),
]
To = Annotated[
    str,
    typer.Option(
        "--to",
        "--out",
        metavar="OUT2",
        show_default=False,
        help="Folder or s3:// prefix for the tables.",
    ),
]
ByOption = Annotated[
    Literal["minute", "hour", "day"], typer.Option(help="Length of the buckets of counts.")
]
Timezone = Annotated[
    str,
    typer.Option(
        metavar="ZONE",
        help="Time zone in which hours and days begin, such as Europe/Berlin or +01:00.",
    ),
]
MinVisit = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Leave out flicker: shorter visits of zones, shorter stays on a side of a line.",
    ),
]
Join = Annotated[
    float,
    typer.Option(
        metavar="SECONDS",
        help="Join tracks over gaps of up to this long first, by place and time alone.",
    ),
]
Preview = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SOURCE",
        show_default=False,
        help="Videos of OUT: draw the places on a frame of each camera, into OUT2/preview/. "
        "Repeatable.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|HOST:PORT",
        help=r"Ray to run on. \[default: this process for up to some thousand short videos]",
    ),
]


def count(
    out: Source,
    config: Config,
    to: To,
    by: ByOption = "hour",
    timezone: Timezone = "UTC",
    min_visit: MinVisit = 0.5,
    join: Join = 0.0,
    preview: Preview = None,
    address: Address = None,
) -> int:
    """Count people in finished tracks: lines crossed, zones visited, ground walked, heat map.

    Example: jde count runs/week --config places.yaml --to runs/week-counts --by hour
    """
    from jde_ray.pipelines.counting.run import count as count_all
    from jde_ray.pipelines.counting.videos import CountConfig
    from jde_ray.pipelines.formats.places_file import read_places
    from jde_ray.pipelines.wall_clock import read_zone

    with Messages():
        try:
            zone = read_zone(timezone)
            settings = CountConfig(places=read_places(config), min_visit_s=min_visit, join_s=join)
            with working("counting", "groups of videos"):
                counted = count_all(
                    out, to, settings, by=by, zone=zone, address=address, preview=preview
                )
        except (ValueError, OSError) as error:
            raise RunError(str(error), ExitCode.REFUSED) from error
    for line in _lines(counted):
        print(line)
    for failure in counted.failures[:_MOST_LINES]:
        print(one_line(f"failed: {failure.file}: {failure.reason}"), file=sys.stderr)
    print(
        f"{counted.events.num_rows:,} events of {count_videos(len(counted.videos))}"
        + (f", {len(counted.failures)} failed" if counted.failures else "")
        + f"; written to {counted.out}"
    )
    return ExitCode.SOME_FAILED if counted.failures else ExitCode.DONE


def _lines(counted: Counted) -> list[str]:
    """Totals of each camera and place, one line per place."""
    from jde_ray.pipelines.counting.counts import INSIDE

    totals: dict[tuple[str, str], dict[str, int]] = {}
    for one in counted.series:
        if one.kind != INSIDE:
            own = totals.setdefault((one.camera, one.place), {})
            own[one.direction] = own.get(one.direction, 0) + int(one.count.sum())
    lines = [
        one_line(f"{camera} / {place}: " + ", ".join(f"{way} {n:,}" for way, n in own.items()))
        for (camera, place), own in totals.items()
    ]
    more = len(lines) - _MOST_LINES
    return lines[:_MOST_LINES] + ([f"... and {more} more places"] if more > 0 else [])


if __name__ == "__main__":
    main(count, "count")
