"""`jde bench models`: networks side by side on the same sequences: all that tells them apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jde_ray.jobs.bench.clocks import Clock, check_clock
from jde_ray.jobs.bench.machine import processor
from jde_ray.jobs.console.flags import Given, takes
from jde_ray.jobs.console.run_flags import choose, one_size
from jde_ray.pipelines.errors import ExitCode, RunError

if TYPE_CHECKING:
    from jde_ray.jobs.bench.model_tables import Result
    from jde_ray.jobs.bench.paper.combinations import Combination
    from jde_ray.jobs.console.options import Settings, Values
    from jde_ray.pipelines.evaluation.embeddings import KnownEmbeddings
    from jde_ray.pipelines.evaluation.pairing import Pairing

ReadEmbeddings = Callable[["Pairing"], "KnownEmbeddings"]


@takes(flags={**one_size(), **choose("precision", "threads")})
def models(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE", show_default=False, help="MOTChallenge sequences with ground truth."
        ),
    ],
    weights: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|PATH",
            help=r"Networks to compare, repeatable; speed is relative to the first. "
            r"\[default: small]",
        ),
    ] = None,
    config: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Settings for jde track, repeatable: each with every --weights. A file that "
            "names weights, such as separate networks, is a line of its own.",
        ),
    ] = None,
    reid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help="Re-identification network for the tables of embeddings, repeatable.",
        ),
    ] = None,
    *,
    flags: Given,
    every: Annotated[int, typer.Option(min=1, help="Read embeddings in every n-th frame.")] = 3,
    max_frames: Annotated[int | None, typer.Option(min=6, help="Frames per sequence.")] = None,
    clock: Clock = "wall",
    out: Annotated[Path, typer.Option(help="Folder for models.json.")] = Path("runs/models"),
) -> None:
    """Networks side by side: tracks, speed, who is found (far, hidden, crowded), embeddings.

    Every frame goes through all networks before the next one, one at a time and without Ray.
    """
    from jde_ray.jobs.bench.model_tables import Result, build_tables
    from jde_ray.jobs.console.score_tables import print_table

    try:
        entries = build_entries(weights or ["small"], config or [], flags)
        readers = build_readers(entries, reid or [], every, max_frames)
        pairings = find_pairings(sources)
        results = {name: Result() for name in entries}
        known: dict[str, dict[str, KnownEmbeddings]] = {name: {} for name in readers}
        for pairing in pairings:
            typer.echo(f"jde: {pairing.name}", err=True)
            run_sequence(pairing, entries, results, max_frames, clock)
            for name, read in readers.items():
                known[name][pairing.name] = read(pairing)
    except (ValueError, OSError) as error:
        raise RunError(str(error), ExitCode.REFUSED) from error
    tables = build_tables(results, known)
    report = {
        "machine": processor(),
        "clock": clock,
        "every": every,
        "max_frames": max_frames,
        "models": {name: one.described() for name, one in entries.items()},
        **{table.key: table.plain() for table in tables},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / "models.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    for table in tables:
        print_table(table)
    typer.echo(f"written to {out / 'models.json'}")


@dataclass(frozen=True)
class Entry:
    """A line of the tables: a network with the settings of its run."""

    settings: Settings
    combination: Combination

    def described(self) -> dict[str, Any]:
        """Facts for the file of results."""
        config = self.settings.track
        return {
            "weights": config.detection.weights,
            "weights_sha256": config.detection.weights_sha256,
            "size": list(config.detection.size),
            "precision": config.detection.precision,
            "threads": self.settings.resources.torch_threads,
            "config": config.to_dict(),
        }


def build_entries(weights: Sequence[str], files: Sequence[Path], given: Given) -> dict[str, Entry]:
    """Load every network once, and combine it with the settings of every file.

    Args:
        weights: Names or paths of networks.
        files: Settings for `jde track`; those that name weights are entries of their own.
        given: What was typed for all networks; files with weights take the threads only.

    Raises:
        ValueError: If two entries have one name, or settings leave out frames.
        RunError: If settings cannot be read.
    """
    from jde_ray.jobs.bench.paper.combinations import Combination as Pair
    from jde_ray.jobs.bench.paper.combinations import (
        build_finder,
        declared_embedder,
        resolve_settings,
    )

    entries: dict[str, Entry] = {}
    finders: dict[Any, Any] = {}
    for name, values in _name_settings(weights, files, given):
        settings = resolve_settings(values)
        if settings.track.vid_stride != 1 or settings.track.max_frames is not None:
            raise ValueError(f"config: {name} leaves out frames, expected vid-stride 1")
        key = settings.track.detection
        finder = finders.setdefault(key, None) or build_finder(name, settings)
        finders[key] = finder
        combination = Pair(finder, declared_embedder(settings), settings.track)
        if name in entries:
            raise ValueError(f"config: two are named {name}, expected different names")
        entries[name] = Entry(settings, combination)
    return entries


def _name_settings(
    weights: Sequence[str], files: Sequence[Path], given: Given
) -> Iterator[tuple[str, Values]]:
    from jde_ray.jobs.console.options import collect
    from jde_ray.pipelines.evaluation.result_names import name_results

    place = ("detection", "weights")
    threads = {name: value for name, value in given.items() if name == "threads"}
    with_weights = [file for file in files if place in collect({}, file)]
    others = [file for file in files if file not in with_weights]
    for name, path in name_results(weights).items():
        if not others:
            yield name, collect({**given, "weights": path}, None)
        for file in others:
            shown = name if len(others) == 1 else f"{name}, {file.stem}"
            yield shown, collect({**given, "weights": path}, file)
    for file in with_weights:
        yield file.stem, collect(threads, file)


def build_readers(
    entries: Mapping[str, Entry], reid: Sequence[str], every: int, max_frames: int | None
) -> dict[str, ReadEmbeddings]:
    """Functions that read embeddings at the boxes of the ground truth, one per network."""
    from jde_ray.jobs.console.network_scores import read_embeddings
    from jde_ray.pipelines.detection.networks import is_separate
    from jde_ray.pipelines.detection.weights import load_reid, reid_name
    from jde_ray.pipelines.evaluation.embedding_protocol import embed_crops

    frames = {"every": every, "max_frames": max_frames}
    readers: dict[str, ReadEmbeddings] = {}
    seen = set()
    for name, entry in entries.items():
        detection = entry.settings.track.detection
        if is_separate(detection.weights) or detection.weights in seen:
            continue
        seen.add(detection.weights)
        network = {"weights": detection.weights, "size": detection.size}
        readers[name] = partial(read_embeddings, **network, **frames)  # type: ignore[arg-type]
    for file in reid:
        embedder = load_reid(file)
        readers[reid_name(file)] = partial(embed_crops, embedder=embedder, **frames)  # type: ignore[arg-type]
    return readers


def find_pairings(sources: Sequence[Path]) -> list[Pairing]:
    """Frames and ground truth of the sequences below some folders.

    Raises:
        ValueError: If a sequence has no ground truth, or two have the same name.
    """
    from jde_ray.pipelines.evaluation.frame_sources import find_frames
    from jde_ray.pipelines.evaluation.pairing import pair_all

    found: dict[str, Pairing] = {}
    for source in sources:
        for pairing in pair_all(find_frames(source), source, skip_missing=False)[0]:
            if pairing.name in found:
                raise ValueError(f"source: two sequences are named {pairing.name}")
            found[pairing.name] = pairing
    return list(found.values())


def run_sequence(
    pairing: Pairing,
    entries: Mapping[str, Entry],
    results: Mapping[str, Result],
    max_frames: int | None,
    clock: str,
) -> None:
    """Track a sequence with all networks, frame by frame in turn, and add to the results."""
    from jde_ray.jobs.bench.paper.comparison import measure
    from jde_ray.jobs.bench.paper.footage import Footage
    from jde_ray.pipelines.evaluation.detections import image_boxes, truth_of
    from jde_ray.pipelines.evaluation.frame_sources import video_at
    from jde_ray.pipelines.evaluation.frames_seen import FramesSeen
    from jde_ray.pipelines.evaluation.ground_truth import read_truth

    for entry in entries.values():
        check_clock(clock, entry.settings.resources.torch_threads)
    truth = read_truth(truth_of(pairing))
    footage = Footage(video_at(pairing.predictions), truth)
    combinations = [entry.combination for entry in entries.values()]
    seen = FramesSeen(max_frames, 1).truth(truth)
    measured = measure(footage, combinations, max_frames, clock)
    for result, one in zip(results.values(), measured, strict=True):
        if one.scores is not None:
            result.scores[pairing.name] = one.scores
        result.images[pairing.name] = image_boxes(seen, one.found, one.frame_size)
        result.frames[pairing.name] = one.frames
        result.seconds[pairing.name] = sum(one.seconds.values())
