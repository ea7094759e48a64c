"""`jde eval`: score tracks from any tracker against ground truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from jde_ray.jobs.console.json_file import printed_beside
from jde_ray.jobs.console.options import parse_size
from jde_ray.jobs.console.progress import working
from jde_ray.jobs.console.runner import main
from jde_ray.jobs.console.score_checks import check_failures, check_labelled, check_truth
from jde_ray.jobs.console.score_options import (
    Address,
    BenchmarkName,
    Csv,
    Data,
    Every,
    FailuresOut,
    FramesPlace,
    Html,
    Json,
    Labels,
    MinVisibility,
    OfDetections,
    OfEmbeddings,
    PerSequence,
    Reid,
    Size,
    SkipMissing,
    Tracks,
    Truth,
    Weights,
)
from jde_ray.pipelines.errors import ExitCode, RunError
from jde_ray.pipelines.evaluation.figures import (
    Scored,
    nobody_in,
    page_of,
    score_detections,
    score_embeddings,
    score_tracks,
)

if TYPE_CHECKING:
    from jde_ray.pipelines.evaluation.failures import Failures
    from jde_ray.pipelines.evaluation.ground_truth import TruthRules
    from jde_ray.pipelines.evaluation.pairing import Pairing


def evaluate(
    tracks: Tracks,
    gt: Truth = None,
    labels: Labels = None,
    data: Data = None,
    detections: OfDetections = False,
    embeddings: OfEmbeddings = False,
    weights: Weights = None,
    size: Size = None,
    every: Every = 1,
    json: Json = None,
    csv: Csv = None,
    html: Html = None,
    failures: FailuresOut = None,
    frames: FramesPlace = None,
    reid: Reid = None,
    skip_missing: SkipMissing = False,
    per_sequence: PerSequence = False,
    benchmark: BenchmarkName = "auto",
    min_visibility: MinVisibility = 0.0,
    address: Address = None,
) -> None:
    """Score tracks with HOTA, CLEAR and identity metrics, equal to MOTChallenge's official kit.

    Several results are shown side by side, with 95 % intervals of their differences from the first.
    """
    from jde_ray.pipelines.evaluation.ground_truth import rules_of

    with _refused():
        check_truth(gt, labels, data, weights)
        score = choose_scores(detections, embeddings, weights, size, every)
        if labels is not None:
            check_failures(failures, frames, reid, 1, is_other=True)
            check_labelled(min_visibility, skip_missing, benchmark)
            network = {"weights": weights, "size": _read_size(size), "every": 1}
            files = _Files(json, csv, html)
            score_labelled(tracks, labels, data, every, network, detections, address, files)
            return
        assert gt is not None  # noqa: S101 - from `check_truth`
        asked = _Asked(gt, rules_of(benchmark, min_visibility), skip_missing, address)
        if address not in (None, "local") and any("://" in one for one in tracks):
            raise ValueError(f"address: got {address}, but tracks in a store are scored locally")
        if len(tracks) > 1 and (detections or embeddings):
            kind = "detections" if detections else "embeddings"
            raise ValueError(f"{kind}: got {len(tracks)} results, expected one with --{kind}")
        check_failures(failures, frames, reid, len(tracks), detections or embeddings)
    files = _Files(json, csv, html, failures, frames, reid)
    if len(tracks) > 1:
        score_side_by_side(tracks, asked, files, per_sequence)
        return
    folder = "detections" if detections or embeddings else "tracks"
    score_one(tracks[0], asked, files, score, folder=folder, of_frames=weights is not None)


@dataclass(frozen=True)
class _Asked:
    """Ground truth, the rules for it, and the Ray to score on."""

    gt: Path
    rules: TruthRules
    skip_missing: bool
    address: str | None


@dataclass(frozen=True)
class _Files:
    """Files to write besides the table."""

    json: Path | None
    csv: Path | None
    html: Path | None
    failures: Path | None = None
    frames: Path | None = None
    reid: str | None = None

    def progress(self) -> AbstractContextManager[None]:
        """A line on a terminal while the block scores, but not for programs."""
        return working("scoring", "sequences", is_quiet=self.json is not None)


def score_one(
    tracks: str,
    asked: _Asked,
    files: _Files,
    score: Callable[..., Scored],
    *,
    folder: str,
    of_frames: bool,
) -> None:
    """Score a single result and show all its sequences."""
    from jde_ray.pipelines.evaluation.figures import show_tracks
    from jde_ray.pipelines.evaluation.pairing import local_copy, pair_all

    with _refused(), files.progress(), local_copy(tracks, folder) as place:
        found = find_scored(place, folder, of_frames)
        pairings, left_out, unscored = pair_all(found, asked.gt, asked.skip_missing)
        failures = None
        if files.failures is None:
            scored = score(pairings, asked.rules, asked.address)
        else:
            failures = find_failures(pairings, asked, files)
            scored = show_tracks(failures.scores(), failures.tables())
        partly = [] if of_frames else describe_partial_runs(pairings)
    _say(_without_tracks(unscored), *partly, *(failures.notes if failures else ()))
    show(scored, f"{tracks} against {asked.gt}", files, left_out)
    if files.failures is not None and failures is not None:
        with _refused("cannot write: ", (OSError,)):
            failures.write(files.failures, tracks, str(asked.gt))
            _say(f"written: {files.failures / 'index.html'}")


def score_labelled(
    lists: Sequence[str],
    labels: str,
    data: Path | None,
    every: int,
    network: dict[str, Any],
    of_boxes: bool,
    address: str | None,
    files: _Files,
) -> None:
    """Score a network on lists of labelled pictures, all together as OVERALL."""
    from jde_ray.jobs.console.network_scores import read_lists, score_sets

    with files.progress():
        sets = read_lists(lists, labels, data, every)
        scored = score_sets(sets, address, network=network, of_boxes=of_boxes)
    show(scored, f"{network['weights']} on {', '.join(lists)}", files, [])


def show(scored: Scored, place: str, files: _Files, left_out: list[str]) -> None:
    """Print the scores of one result and write the files."""
    from jde_ray.jobs.console.score_tables import print_scores, print_table, write_csv, write_json

    _say(nobody_in(list(scored.figures.values())[-1]))
    with printed_beside(files.json):
        print_scores(scored.figures, left_out, scored.columns)
        for table in scored.tables:
            print_table(table)
    with _refused("cannot write: ", (OSError,)):
        if files.json is not None:
            more = {"without_ground_truth": left_out, "curves": scored.curves}
            more |= {table.key: table.plain() for table in scored.tables}
            write_json(files.json, scored.figures, more)
        if files.csv is not None:
            write_csv(files.csv, scored.figures)
        if files.html is not None:
            page = page_of(scored, place, left_out)
            files.html.write_text(page, encoding="utf-8")


def score_side_by_side(
    tracks: Sequence[str], asked: _Asked, files: _Files, per_sequence: bool
) -> None:
    """Score several results on the sequences that all have, and compare them with the first."""
    from jde_ray.jobs.console import score_tables
    from jde_ray.models.metrics.tracking import COUNTS, OVERALL, RATIOS
    from jde_ray.pipelines.evaluation.comparison import compare
    from jde_ray.pipelines.evaluation.figures import DIFFERENCE_COLUMNS, page_of_results
    from jde_ray.pipelines.evaluation.pairing import local_copy, pair_all
    from jde_ray.pipelines.evaluation.result_names import name_results

    results: dict[str, list[Pairing]] = {}
    left_out: dict[str, None] = {}
    unscored: list[list[str]] = []
    with _refused(), files.progress(), ExitStack() as copies:
        places = name_results(tracks)
        for name, place in places.items():
            local = copies.enter_context(local_copy(place, "tracks"))
            found = find_scored(local, "tracks", of_frames=False)
            results[name], without, missing = pair_all(found, asked.gt, asked.skip_missing)
            left_out |= dict.fromkeys(without)
            unscored.append(missing)
        comparison = compare(results, asked.rules, asked.address)
    nowhere = [name for name in unscored[0] if all(name in missing for missing in unscored)]
    _say(_without_tracks(nowhere), *comparison.notes(list(left_out)))
    figures = comparison.figures()
    shown = [*comparison.sequences, OVERALL] if per_sequence else [OVERALL]
    by_sequence = {name: {one: own[name] for one, own in figures.items()} for name in shown}
    _say(nobody_in(next(iter(figures.values()))[OVERALL]))
    with printed_beside(files.json):
        score_tables.print_results(by_sequence, (RATIOS, COUNTS))
        score_tables.print_differences(comparison, DIFFERENCE_COLUMNS)
    with _refused("cannot write: ", (OSError,)):
        if files.json is not None:
            score_tables.write_comparison(files.json, comparison, places, list(left_out))
        if files.csv is not None:
            score_tables.write_results_csv(files.csv, figures)
        if files.html is not None:
            page = page_of_results(comparison, places, str(asked.gt), list(left_out))
            files.html.write_text(page, encoding="utf-8")


@contextmanager
def _refused(
    before: str = "", kinds: tuple[type[Exception], ...] = (ValueError, OSError)
) -> Iterator[None]:
    """Turn errors into refusals of one line."""
    try:
        yield
    except kinds as error:
        raise RunError(f"{before}{error}", ExitCode.REFUSED) from error


def _say(*lines: str) -> None:
    for line in filter(None, lines):
        typer.echo(f"jde: {line}", err=True)


def _without_tracks(unscored: Sequence[str]) -> str:
    """Line naming ground truth that is not scored: the mean of an easy half would look good."""
    from jde_ray.pipelines.names import listed

    return f"ground truth without tracks, not scored: {listed(unscored)}" if unscored else ""


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
        ValueError: If the size cannot be parsed.
    """
    if detections and embeddings:
        raise RunError("got --detections and --embeddings, expected one", ExitCode.REFUSED)
    if weights is not None and not (embeddings or detections):
        raise RunError(
            "got --weights, expected it with --detections or --embeddings", ExitCode.REFUSED
        )
    if weights is not None:
        from jde_ray.jobs.console.network_scores import score_sequences

        network = {"weights": weights, "size": _read_size(size), "every": every}
        return partial(score_sequences, network=network, of_boxes=detections)
    return score_detections if detections else score_embeddings if embeddings else score_tracks


def find_failures(pairings: list[Pairing], asked: _Asked, files: _Files) -> Failures:
    """Where identities break, with pictures of the worst switches."""
    from jde_ray.pipelines.evaluation.failures import gather_failures

    return gather_failures(pairings, asked.rules, asked.address, files.frames, reid=files.reid)


def describe_partial_runs(pairings: list[Pairing]) -> list[str]:
    """One line naming the sequences that the run processed only in part, if any."""
    from jde_ray.pipelines.evaluation.frames_seen import frames_seen
    from jde_ray.pipelines.names import listed

    partly = {
        one.name: seen for one in pairings if (seen := frames_seen(one.predictions)) is not None
    }
    if not partly:
        return []
    names = listed([f"{name} ({seen})" for name, seen in partly.items()])
    return [f"scored on the frames that the run processed: {names}"]


def find_scored(place: Path, folder: str, of_frames: bool) -> dict[str, Path]:
    """Find the files to score, or videos and image folders, by sequence name.

    Raises:
        ValueError: If there are none, or two have the same name.
    """
    if of_frames:
        from jde_ray.pipelines.evaluation.frame_sources import find_frames

        return find_frames(place)
    from jde_ray.pipelines.sources.saved_tracks import find_tracks

    return find_tracks(place, folder)


def _read_size(text: str | None) -> tuple[int, int] | None:
    try:
        return None if text is None else parse_size(text)
    except ValueError as error:
        raise ValueError(f"size: {error}") from error


if __name__ == "__main__":
    main(evaluate, "eval")
