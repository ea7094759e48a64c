"""Refuses calls of `jde eval` that contradict themselves, before anything is scored."""

from __future__ import annotations

from pathlib import Path


def check_truth(
    gt: Path | None, labels: str | None, data: Path | None, weights: str | None
) -> None:
    """Refuse a call that names no ground truth, or two kinds of it.

    Raises:
        ValueError: If it does.
    """
    if (gt is None) == (labels is None):
        got = "neither --gt nor" if gt is None else "--gt and"
        raise ValueError(f"gt: got {got} --labels, expected one of them")
    if labels is not None and weights is None:
        raise ValueError(f"labels: got {labels} without --weights, expected a network to score")
    if data is not None and labels != "unified":
        raise ValueError(f"data: got {data}, expected it with --labels unified")


def check_labelled(min_visibility: float, skip_missing: bool, benchmark: str) -> None:
    """Refuse flags about the ground truth of sequences, which labelled pictures do not have.

    Raises:
        ValueError: If there is one.
    """
    given = {
        "min-visibility": min_visibility,
        "skip-missing": skip_missing,
        "benchmark": benchmark if benchmark != "auto" else "",
    }
    for name, value in given.items():
        if value:
            raise ValueError(f"{name}: got {value} with --labels, expected it with --gt")


def check_failures(
    failures: Path | None,
    frames: Path | None,
    reid: str | None,
    num_results: int,
    is_other: bool,
) -> None:
    """Refuse `--failures` where it cannot be answered, before anything is scored.

    Raises:
        ValueError: If there are several results or none of tracks, OUT is a file, or there is a
            place of frames or a network that nothing needs.
    """
    if failures is None:
        for name, value in (("frames", frames), ("reid", reid)):
            if value is not None:
                raise ValueError(f"{name}: got {value}, expected it with --failures")
    elif is_other:
        raise ValueError("failures: got --detections or --embeddings, expected tracks")
    elif num_results > 1:
        raise ValueError(f"failures: got {num_results} results, expected one with --failures")
    elif failures.exists() and not failures.is_dir():
        raise ValueError(f"failures: {failures} is a file, expected a folder")
