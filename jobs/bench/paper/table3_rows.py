"""The rows of the paper's Table 3: published ones, and how measured ones are printed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table

from jde_ray.jobs.bench.paper.speed import RATES, rate_text, whole_rate

COLUMNS = ("Method", "Det", "Emb", "#box", "#id", "MOTA", "IDF1", "MT", "ML", "IDs", "FPSD",
           "FPSE", "FPSA", "FPS", "decoded")  # fmt: skip
# As printed in the paper: MOT-16 test, private detections, Titan Xp; * is its own estimate. It has
# neither FPSE nor the last column.
PUBLISHED = (
    ("DeepSORT_2", "FRCNN", "WRN", "429K", "1.2k", "61.4", "62.2", "32.8", "18.2", "781",
     "<15*", "", "17.4", "<8.1", ""),
    ("RAR16wVGG", "FRCNN", "Inception", "429K", "-", "63.0", "63.8", "39.9", "22.1", "482",
     "<15*", "", "1.6", "<1.5", ""),
    ("TAP", "FRCNN", "MRCNN", "429K", "-", "64.8", "73.5", "40.6", "22.0", "794",
     "<15*", "", "18.2", "<8.2", ""),
    ("CNNMTT", "FRCNN", "5-Layer", "429K", "0.2K", "65.2", "62.2", "32.4", "21.3", "946",
     "<15*", "", "11.2", "<6.4", ""),
    ("POI", "FRCNN", "QAN", "429K", "16K", "66.1", "65.1", "34.0", "21.3", "805",
     "<15*", "", "9.9", "<6", ""),
    ("JDE-864", "JDE", "-", "270K", "8.7K", "62.1", "56.9", "34.4", "16.7", "1608",
     "34.3", "", "81.0", "24.1", ""),
    ("JDE-1088", "JDE", "-", "270K", "8.7K", "64.4", "55.8", "35.4", "20.0", "1544",
     "24.5", "", "81.5", "18.8", ""),
)  # fmt: skip


def rate_of(text: str) -> float:
    """The number of a speed: of `<15*`, 15."""
    return float(text.strip("<*"))


def measured_row(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Format a measured row; a dash stands for what was not measured.

    Args:
        row: `name`, `detector`, `embedding`, `boxes`, `identities`, `fpsd` (of saved detections, as
            written, `-` if it is not known), `scores` and the speeds by the names of `speed.RATES`.
    """
    scores = row["scores"]
    people = sum(scores.get(key, 0) for key in ("MT", "PT", "ML"))
    shares = [f"{100 * scores[key] / people:.1f}" if people else "-" for key in ("MT", "ML")]
    return (
        row["name"],
        row["detector"],
        row["embedding"],
        count_text(row.get("boxes")),
        count_text(row.get("identities")),
        *(f"{scores[key]:.1f}" if key in scores else "-" for key in ("MOTA", "IDF1")),
        *shares,
        str(scores.get("IDs", "-")),
        *_speeds(row),
    )


def _speeds(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The last five columns; with saved detections a bound, of which decoding is no part."""
    detector = row.get("fpsd", "")
    if not detector:
        return tuple(rate_text(row[name]) for name in RATES)
    parts = [row["FPSE"], row["FPSA"]]
    whole = "-"
    if detector != "-":
        known = [rate_of(detector), *(rate for rate in parts if rate is not None)]
        whole = f"{'<' if detector.startswith('<') else ''}{whole_rate(known):.1f}"
    return (detector, *map(rate_text, parts), whole, "-")


def count_text(number: int | None) -> str:
    """A number of boxes or identities as the paper writes it; a dash for None.

    >>> count_text(270_000), count_text(8_700), count_text(312), count_text(None)
    ('270K', '8.7K', '312', '-')
    """
    if number is None:
        return "-"
    if number < 1000:
        return str(number)
    return f"{number / 1000:.0f}K" if number >= 10_000 else f"{number / 1000:.1f}K"


def build_table(measured: Sequence[tuple[str, ...]], *, published: bool = True) -> Table:
    """Build the table: a measured row below the published one of its name, others at the end.

    Args:
        measured: Rows from `measured_row`.
        published: Whether published rows are shown.
    """
    table = Table(
        title="Table 3 of the paper" + (", with rows measured here" if measured else ""),
        caption="Published: MOT-16 test, private detections, Titan Xp; * is the paper's estimate. "
        "Measured (>): other weights, sequences and another machine, so that the two rows of a "
        "system do not rank each other. FPSD: detector alone. FPSE: crops and embeddings. "
        "FPSA: association alone. FPS: these together, as in the paper; the last column with "
        "decoding.",
    )
    for name in COLUMNS:
        table.add_column(name, justify="left" if name in COLUMNS[:3] else "right", no_wrap=True)
    left = list(measured)
    for row in PUBLISHED if published else ():
        table.add_row(*row)
        for own in [one for one in left if one[0] == row[0]]:
            table.add_row(f"> {own[0]}", *own[1:])
            left.remove(own)
    if published:
        table.add_section()
    for own in left:
        table.add_row(*own)
    return table
