"""The arguments and options of `jde eval`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from jde_ray.jobs.console.flags import completion

Tracks = Annotated[
    list[str],
    typer.Argument(
        metavar="TRACKS",
        show_default=False,
        help="OUT of a run (also s3://), a folder of its Parquet files, or MOT text files from "
        "any tracker. Several are scored side by side and compared with the first. With --labels: "
        "lists of pictures.",
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        metavar="GT",
        show_default=False,
        help="Ground truth: a MOTChallenge tree (NAME/gt/gt.txt), NAME.gt.txt files, Parquet files "
        "like those in tracks/, CVAT for video (NAME.xml), COCO with track ids (NAME.coco.json), "
        "or one file.",
    ),
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="unified|boxes|coco|cvat",
        autocompletion=completion(("unified", "boxes", "coco", "cvat")),
        show_default=False,
        help="With --weights, instead of --gt: TRACKS are lists of pictures of the unified JDE "
        "layout, boxes folders, COCO JSON or CVAT files, as jde train reads them. Several are "
        "scored together.",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        metavar="ROOT",
        show_default=False,
        help=r"With --labels unified: folder to which the paths in the lists are relative. "
        r"\[default: that of each list]",
    ),
]
Json = Annotated[
    Path | None,
    typer.Option("--json", metavar="FILE", help="Write the scores as JSON; - for standard output."),
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
        autocompletion=completion(("auto", "MOT15", "MOT16", "MOT17", "MOT20")),
        help="Benchmark whose rules for distractors apply; auto goes by columns and folders.",
    ),
]
MinVisibility = Annotated[
    float,
    typer.Option(
        help="Ignore people who are less visible than this (0 to 1): they are neither hits nor "
        "misses. The benchmarks count everyone."
    ),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="local|auto|HOST:PORT",
        help=r"Ray to score on, one task per sequence; a network runs in the detectors of jde "
        r"track. \[default: this process for up to 16 sequences, or as much as jde "
        r"track does without Ray]",
    ),
]
PerSequence = Annotated[
    bool,
    typer.Option(
        "--per-sequence",
        metavar="",
        help="Show every sequence of several results; those of a single one are always shown.",
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
        "frames, or with --labels lists of pictures.",
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
Every = Annotated[int, typer.Option(min=1, help="With --weights: use every n-th frame or picture.")]
FailuresOut = Annotated[
    Path | None,
    typer.Option(
        metavar="OUT",
        show_default=False,
        help="Show where identities break, too: the best ids that are possible at these boxes, "
        "every switch, who is found. Writes index.html, failures.json and switches.csv into OUT.",
    ),
]
FramesPlace = Annotated[
    Path | None,
    typer.Option(
        metavar="PLACE",
        show_default=False,
        help=r"With --failures: videos or image folders by the name of their sequence. "
        r"\[default: img1/ beside the ground truth]",
    ),
]
Reid = Annotated[
    str | None,
    typer.Option(
        metavar="colours|FILE",
        show_default=False,
        help="With --failures: re-identification network, as jde track --reid takes it."
        " The saved detections are associated with its embeddings, beside those of the run.",
    ),
]
