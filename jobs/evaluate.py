"""`jde eval`: score tracks from any tracker against ground truth."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jde_ray.jobs.console.options import parse_size
from jde_ray.jobs.console.runner import main
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.evaluation.figures import (
    Scored,
    page_of,
    score_detections,
    score_embeddings,
    score_network,
    score_tracks,
)

if TYPE_CHECKING:
    from jde_ray.pipelines.evaluation.ground_truth import TruthRules
    from jde_ray.pipelines.evaluation.pairing import Pairing


Tracks = Annotated[
    str,
    typer.Argument(
        metavar="TRACKS",
        show_default=False,
        help="OUT of a run (also s3://), a folder of its Parquet files, or MOT text files from "
        "any tracker.",
    ),
]
Truth = Annotated[
    Path,
    typer.Option(
        metavar="GT",
        show_default=False,
        help="Ground truth: a MOTChallenge tree (NAME/gt/gt.txt), NAME.gt.txt files, Parquet files "
        "like those in tracks/, or one file.",
    ),
]
Json = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="Write the scores as JSON.")
]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the scores as CSV.")]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Skip sequences without ground truth.")
]
BenchmarkName = Annotated[
    str,
    typer.Option(
        "--benchmark",
        metavar="auto|MOT15|MOT16|MOT17|MOT20",
        help="Benchmark whose rules for distractors apply; auto decides by columns and folders.",
    ),
]
MinVisibility = Annotated[
    float,
    typer.Option(
        help="Ignore people who are less visible than this (0 to 1): neither a hit nor a miss. "
        "The benchmarks count everyone."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|HOST:PORT",
        help=r"Ray to score on, one task per sequence. \[default: this process for up to 16 "
        "sequences]",
    ),
]


Html = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write a page with charts.")
]
OfDetections = Annotated[
    bool,
    typer.Option(
        "--detections",
        help="Score detections instead of tracks: average precision of OUT/detections (written by "
        "--save-detections) or MOT det.txt files. With --weights, score a network by the "
        "published protocol.",
    ),
]
OfEmbeddings = Annotated[
    bool,
    typer.Option(
        "--embeddings",
        help="Score embeddings instead of tracks: how well those in OUT/detections tell people "
        "apart. With --weights, score a network's embeddings at the ground truth's boxes.",
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|PATH",
        show_default=False,
        help="Network to score with --detections or --embeddings. TRACKS is then a folder of "
        "frames.",
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="WxH",
        show_default=False,
        help="Input size of that network, if its file does not state one.",
    ),
]
Every = Annotated[int, typer.Option(min=1, help="With --weights: use every n-th frame.")]


def evaluate(
    tracks: Tracks,
    gt: Truth,
    detections: OfDetections = False,
    embeddings: OfEmbeddings = False,
    weights: Weights = None,
    size: Size = None,
    every: Every = 1,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
    skip_missing: SkipMissing = False,
    benchmark: BenchmarkName = "auto",
    min_visibility: MinVisibility = 0.0,
    address: Address = None,
) -> None:
    """Score tracks with HOTA, CLEAR and identity metrics, equal to MOTChallenge's official kit."""
    from jde_ray.jobs.console.score_tables import print_scores, write_csv, write_json
    from jde_ray.pipelines.evaluation.pairing import local_copy

    try:
        score = choose_scores(detections, embeddings, weights, size, every)
        rules = truth_rules(benchmark, min_visibility)
        folder = "detections" if detections or embeddings else "tracks"
        if "://" in tracks and address not in (None, "local"):
            raise ValueError(f"address: got {address}, tracks of a store are scored here")
        with local_copy(tracks, folder) as place:
            files = find_scored(place, folder, weights is not None)
            pairings, left_out, unscored = pair_all(files, gt, skip_missing)
            scored = score(pairings, rules, address)
            partly = [] if weights is not None else describe_partial_runs(pairings)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    if unscored:  # a mean over the easy half looks good
        names = ", ".join(unscored[:8]) + (", ..." if len(unscored) > 8 else "")
        typer.echo(f"jde: ground truth without tracks, not scored: {names}", err=True)
    for line in partly:
        typer.echo(line, err=True)
    print_scores(scored.figures, left_out, scored.columns)
    try:
        if json is not None:
            more = {"without_ground_truth": left_out, "curves": scored.curves}
            write_json(json, scored.figures, more)
        if csv is not None:
            write_csv(csv, scored.figures)
        if html is not None:
            html.write_text(page_of(scored, f"{tracks} against {gt}", left_out), encoding="utf-8")
    except OSError as error:
        raise RunError(f"cannot write: {error}", ExitCode.REFUSED) from error


def choose_scores(
    detections: bool,
    embeddings: bool,
    weights: str | None,
    size: str | None,
    every: int,
) -> Callable[..., Scored]:
    """Choose the scoring function by the flags.

    Raises:
        RunError: If the flags contradict each other.
        ValueError: If the size cannot be read.
    """
    if detections and embeddings:
        raise RunError("got --detections and --embeddings, expected one", ExitCode.REFUSED)
    if weights is not None and not (embeddings or detections):
        raise RunError(
            "got --weights, expected it with --detections or --embeddings", ExitCode.REFUSED
        )
    if weights is not None:
        network = {"weights": weights, "size": _read_size(size), "every": every}
        return partial(score_network, network=network, of_boxes=detections)
    return score_detections if detections else score_embeddings if embeddings else score_tracks


def describe_partial_runs(pairings: list[Pairing]) -> list[str]:
    """One line naming the sequences that the run processed only in part, if any."""
    from jde_ray.pipelines.evaluation.frames_seen import frames_seen

    partly = {
        one.name: seen for one in pairings if (seen := frames_seen(one.predictions)) is not None
    }
    if not partly:
        return []
    names = ", ".join(f"{name} ({seen})" for name, seen in list(partly.items())[:8])
    more = ", ..." if len(partly) > 8 else ""
    return [f"jde: scored on the frames that the run processed: {names}{more}"]


def truth_rules(benchmark: str, min_visibility: float) -> TruthRules:
    """Check the rules for ground truth.

    Raises:
        ValueError: If the benchmark is unknown or the visibility out of range.
    """
    from jde_ray.pipelines.evaluation.ground_truth import TruthRules
    from jde_ray.pipelines.formats.mot import BENCHMARKS

    for known in BENCHMARKS:
        if benchmark.lower() == known.lower():
            return TruthRules(known, min_visibility)
    raise ValueError(f"benchmark: got {benchmark}, expected {' | '.join(BENCHMARKS)}")


def find_scored(place: Path, folder: str, of_frames: bool) -> dict[str, Path]:
    """Find the files to score, or videos and image folders, by sequence name.

    Raises:
        ValueError: If there are none, or two have the same name.
    """
    if of_frames:
        from jde_ray.pipelines.evaluation.embedding_protocol import find_frames

        return find_frames(place)
    from jde_ray.pipelines.formats.track_files import find_tracks

    return find_tracks(place, folder)


def pair_all(
    files: dict[str, Path], gt: Path, skip_missing: bool
) -> tuple[list[Pairing], list[str], list[str]]:
    """Pair files with ground truth.

    Returns:
        The pairings, names of sequences skipped for lack of ground truth, and names of ground
        truth without tracks.

    Raises:
        ValueError: If ground truth is missing without `skip_missing`, or for all sequences.
    """
    from jde_ray.pipelines.evaluation.pairing import pair

    pairings, unscored = pair(files, gt)
    missing = [pairing.name for pairing in pairings if pairing.truth is None]
    if missing and not skip_missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise ValueError(
            f"gt: no {missing[0]}/gt/gt.txt, {missing[0]}.gt.txt or {missing[0]}.parquet below "
            f"{gt}{more}; --skip-missing leaves out what has no ground truth"
        )
    found = [pairing for pairing in pairings if pairing.truth is not None]
    if not found:
        raise ValueError(f"gt: no ground truth below {gt} for any sequence")
    return found, missing, unscored


def _read_size(text: str | None) -> tuple[int, int] | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise ValueError(f"size: {error}") from error


if __name__ == "__main__":
    main(evaluate, "eval")
