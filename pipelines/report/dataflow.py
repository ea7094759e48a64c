"""The drawing of the dataflow in the README, as SVG that is legible on light and on dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 1040, 290
_TOP, _TALL = 72, 104  # of the boxes
_STEP, _WIDE = 172, 126  # from a box to the next one, and its width
_FIRST = 27
_STACK = 5  # pixels between the sheets of a box that stands for several workers

_STYLE = """
.page { fill: #ffffff; stroke: #d4dae3 }
.band { fill: #eef3fb }
.box { fill: #ffffff; stroke: #2f6fdb; stroke-width: 1.5 }
.name { fill: #16202e; font-size: 16px; font-weight: 600 }
.text { fill: #3c4858; font-size: 12.5px }
.soft { fill: #5a6778; font-size: 12.5px }
.line { fill: none; stroke: #5a6778; stroke-width: 1.5 }
.tip { fill: #5a6778 }
text { font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; text-anchor: middle }
@media (prefers-color-scheme: dark) {
.page { fill: #0f1620; stroke: #2a3646 }
.band { fill: #182333 }
.box { fill: #0f1620; stroke: #6f9df0 }
.name { fill: #eef2f7 }
.text { fill: #c3cddb }
.soft { fill: #9aa7b8 }
.line { stroke: #9aa7b8 }
.tip { fill: #9aa7b8 }
}
"""


@dataclass(frozen=True)
class _Stage:
    """A box of the drawing, and what leaves it; `sheets` is more than 1 for several workers."""

    name: str
    lines: tuple[str, ...]
    sends: tuple[str, ...] = ()
    sheets: int = 1


_STAGES = (
    _Stage("sources", ("files, folders,", "globs, lists,", "s3://"), ("videos",)),
    _Stage("split", ("long videos,", "at keyframes", "CPU task"), ("segments",)),
    _Stage("decode", ("and letterbox", "to the network", "CPU tasks"), ("chunks", "of frames"), 3),
    _Stage("detect", ("one network", "per worker", "GPU/CPU actors"), ("boxes,", "vectors"), 2),
    _Stage("associate", ("order the chunks,", "track each video", "actors"), ("rows",), 3),
    _Stage("tracks", ("a Parquet file", "per video, which", "is created once")),
)
_BANDS = (("Ray Data, streaming", 1, 3), ("stateful Ray actors", 4, 4))


def dataflow_drawing() -> str:
    """SVG text of the drawing; equal for every call."""
    parts = [
        f'<rect class="page" x="0.5" y="0.5" width="{_WIDTH - 1}" height="{_HEIGHT - 1}" rx="10"/>'
    ]
    parts += [_band(*band) for band in _BANDS]
    parts += [_box(number, stage) for number, stage in enumerate(_STAGES)]
    parts += [_arrow(number, stage.sends) for number, stage in enumerate(_STAGES[:-1])]
    parts.append(_receipts())
    title = "The dataflow: sources, split, decode, detect, associate, tracks"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{title}">\n<title>{title}</title>\n<style>{_STYLE}</style>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _left(number: int) -> int:
    return _FIRST + number * _STEP


def _text(kind: str, x: float, y: float, text: str) -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}">{escape(text)}</text>'


def _band(name: str, first: int, last: int) -> str:
    """A background behind some boxes, with a name above them."""
    left, right = _left(first) - 12, _left(last) + _WIDE + 22
    shape = f'<rect class="band" x="{left}" y="22" width="{right - left}" height="212" rx="8"/>'
    return shape + _text("soft", (left + right) / 2, 45, name)


def _box(number: int, stage: _Stage) -> str:
    left, middle = _left(number), _left(number) + _WIDE / 2
    sheets = [
        f'<rect class="box" x="{left + _STACK * n}" y="{_TOP - _STACK * n}" width="{_WIDE}" '
        f'height="{_TALL}" rx="6"/>'
        for n in reversed(range(stage.sheets))
    ]
    lines = [_text("text", middle, _TOP + 54 + 18 * n, line) for n, line in enumerate(stage.lines)]
    return "".join([*sheets, _text("name", middle, _TOP + 28, stage.name), *lines])


def _arrow(number: int, sends: tuple[str, ...]) -> str:
    """An arrow to the next box, and below it what travels along it."""
    start = _left(number) + _WIDE + _STACK * (_STAGES[number].sheets - 1)
    end, y = _left(number + 1), _TOP + _TALL / 2
    middle = (_left(number) + _WIDE + end) / 2
    line = f'<path class="line" d="M{start} {y:g}H{end - 7}"/>'
    tip = f'<path class="tip" d="M{end - 9} {y - 5:g}L{end} {y:g}L{end - 9} {y + 5:g}Z"/>'
    words = [_text("soft", middle, _TOP + _TALL + 24 + 16 * n, s) for n, s in enumerate(sends)]
    return line + tip + "".join(words)


def _receipts() -> str:
    """The way back to the driver."""
    start, end, low = _left(3) + _WIDE / 2, _left(0) + _WIDE / 2, 250
    top = _TOP + _TALL
    line = (
        f'<path class="line" stroke-dasharray="5 4" d="M{start:g} {top}V{low}H{end:g}V{top + 10}"/>'
    )
    tip = (
        f'<path class="tip" d="M{end - 5:g} {top + 11}L{end:g} {top + 2}L{end + 5:g} {top + 11}Z"/>'
    )
    text = "receipts: the driver sees only counts, no picture and no row"
    return line + tip + _text("soft", (start + end) / 2, low + 20, text)
