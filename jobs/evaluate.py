"""`jde eval`: score tracks against ground truth, ours or anybody's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jobs._run import main
from pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from pipelines.sequences import Pairing, TruthRules

Tracks = Annotated[
    Path,
    typer.Argument(
        metavar="TRACKS",
        show_default=False,
        help="OUT of a run, a folder of its Parquet files, or MOT text files of any tracker.",
    ),
]
Truth = Annotated[
    Path,
    typer.Option(
        metavar="GT",
        show_default=False,
        help="MOTChallenge tree (NAME/gt/gt.txt), NAME.gt.txt, Parquet as in tracks/, or one file.",
    ),
]
Json = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write figures there.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write figures there.")]
SkipMissing = Annotated[
    bool, typer.Option("--skip-missing", help="Leave out sequences without ground truth.")
]
BenchmarkName = Annotated[
    str,
    typer.Option(
        "--benchmark",
        metavar="auto|MOT15|MOT16|MOT17|MOT20",
        help="Whose rules for distractors; auto goes by columns and folders.",
    ),
]
MinVisibility = Annotated[
    float,
    typer.Option(
        help="People seen less than that (0 to 1) are neither right nor wrong; "
        "the benchmarks count everyone."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|ray://HOST:PORT",
        help="Ray to score on, a task a sequence. Default: this process for up to 8 sequences.",
    ),
]


def evaluate(
    tracks: Tracks,
    gt: Truth,
    json: Json = None,
    csv: Csv = None,
    skip_missing: SkipMissing = False,
    benchmark: BenchmarkName = "auto",
    min_visibility: MinVisibility = 0.0,
    address: Address = None,
) -> None:
    """Score tracks as MOTChallenge's official kit does: HOTA, CLEAR and identity figures."""
    from jobs._scores import print_scores, write_csv, write_json
    from models.metrics.tracking import COUNTS, RATIOS, summarize
    from pipelines.evaluation import for_each, score_pairing

    try:
        rules = truth_rules(benchmark, min_visibility)
        pairings, left_out = pair_all(tracks, gt, skip_missing)
        by_name = summarize(for_each(score_pairing, pairings, rules, address))
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    scores = {name: one.figures() for name, one in by_name.items()}
    print_scores(scores, left_out, (RATIOS, COUNTS))
    try:
        if json is not None:
            write_json(json, scores, {"without_ground_truth": left_out})
        if csv is not None:
            write_csv(csv, scores)
    except OSError as error:
        raise RunError(f"cannot write: {error}", ExitCode.REFUSED) from error


def truth_rules(benchmark: str, min_visibility: float) -> TruthRules:
    """Checked rules.

    Raises:
        ValueError: If one is not accepted.
    """
    from pipelines.mot_format import BENCHMARKS
    from pipelines.sequences import TruthRules

    for known in BENCHMARKS:
        if benchmark.lower() == known.lower():
            return TruthRules(known, min_visibility)
    raise ValueError(f"benchmark: got {benchmark}, accepted is {' | '.join(BENCHMARKS)}")


def pair_all(
    tracks: Path, gt: Path, skip_missing: bool, folder: str = "tracks"
) -> tuple[list[Pairing], list[str]]:
    """Sequences with ground truth, and the names of those without that are left out.

    What has truth but no tracks is said on stderr: a mean over the easy half looks good.

    Raises:
        ValueError: If ground truth is missing and that was not allowed, or all of it is.
    """
    from pipelines.sequences import find_tracks, pair

    pairings, unscored = pair(find_tracks(tracks, folder), gt)
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
    if unscored:
        names = ", ".join(unscored[:8]) + (", ..." if len(unscored) > 8 else "")
        typer.echo(f"jde: ground truth without {folder}, not scored: {names}", err=True)
    return found, missing


if __name__ == "__main__":
    main(evaluate, "eval")
