"""Triton kernels of the convolutions, each with all that follows it: bias, activation, sum.

Maps lie as in `models.jde.gpu.padded`: one row of channels per cell, a column of zeros after each
line and a line of zeros after each image, so that a tap of a 3x3 convolution is a shift by a
constant number of rows and a convolution is one matrix product over shifted rows. Every output
element sums its products in one fixed order, wherever its cell lies.
"""

from __future__ import annotations

import triton
import triton.language as tl

_ANY = ["num_cells", "pitch", "lines", "guard"]  # one compiled kernel for all sizes


@triton.jit(do_not_specialize=_ANY)
def convolve(  # noqa: ANN201, D417
    cells: tl.tensor,
    weights: tl.tensor,
    bias: tl.tensor,
    added: tl.tensor,
    out: tl.tensor,
    num_cells: tl.tensor,
    num_channels: tl.tensor,
    num_outputs: tl.tensor,
    pitch: tl.tensor,
    lines: tl.tensor,
    guard: tl.tensor,
    slope: tl.tensor,
    taps: tl.constexpr,
    has_sum: tl.constexpr,
    tile_cells: tl.constexpr,
    tile_outputs: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """Convolution of stride 1: `out = leaky(cells * weights + bias) (+ added)`, 0 outside.

    Args:
        cells: Descriptor of `(guard + num_cells + guard, C)`, tiles `(tile_cells, tile_channels)`.
        weights: Descriptor of `(num_outputs, taps * C)`, tiles `(tile_outputs, tile_channels)`.
        bias: `(num_outputs,)` float32.
        added: Rows like `out`'s, added after the activation if `has_sum`; may be `out` itself.
        out: `(num_cells, num_outputs)`, after the guard.
        pitch: Cells per line, the column of zeros included.
        lines: Lines per image, the line of zeros included.
        guard: Rows of zeros before and after the cells.
        slope: Of the leaky ReLU; 1 is none, 0 a plain ReLU.
        taps: 9 for 3x3; otherwise a 1x1 convolution whose weights are the sum of so many parts.
    """
    blocks = tl.cdiv(num_outputs, tile_outputs)
    tile = tl.program_id(0)
    first_cell, first_output = (tile // blocks) * tile_cells, (tile % blocks) * tile_outputs
    per_tap = num_channels // tile_channels
    total = tl.zeros((tile_cells, tile_outputs), tl.float32)
    for step in range(taps * per_tap):
        tap = step // per_tap
        shift = guard
        if taps == 9:
            shift += (tap // 3 - 1) * pitch + tap % 3 - 1
        part = cells.load([first_cell + shift, (step % per_tap) * tile_channels])
        kernel = weights.load([first_output, step * tile_channels])
        total = tl.dot(part, kernel.T, total)
    columns = first_output + tl.arange(0, tile_outputs)
    total += tl.load(bias + columns, mask=columns < num_outputs, other=0.0)[None, :]
    total = tl.where(total > 0, total, total * slope)
    rows = first_cell + tl.arange(0, tile_cells)
    is_cell = (rows % pitch < pitch - 1) & ((rows // pitch) % lines < lines - 1)
    is_cell = is_cell & (rows < num_cells)
    place = rows[:, None].to(tl.int64) * num_outputs + columns[None, :]
    exists = is_cell[:, None] & (columns < num_outputs)[None, :]
    if has_sum:
        total += tl.load(added + place, mask=exists, other=0.0).to(tl.float32)
    tl.store(out + place, total.to(out.dtype.element_ty), mask=exists)


@triton.jit
def suppress(  # noqa: ANN201, D417
    tlbr: tl.tensor,
    counts: tl.tensor,
    kept: tl.tensor,
    most: tl.tensor,
    threshold: tl.tensor,
    tile: tl.constexpr,
):
    """Greedy suppression of one image per program, exactly that of `models.jde.decode.nms`.

    Boxes are settled in tiles of falling score: first by the kept boxes of the tiles before, then
    among themselves, until nothing changes.

    Args:
        tlbr: `(B, most, 4)` float32 corners in order of falling score.
        counts: `(B,)` int32: boxes of each image.
        kept: `(B, most)` int32, written for the first `counts` boxes.
        most: Boxes per image that there is room for.
        threshold: IoU above which the later box goes.
    """
    image = tl.program_id(0).to(tl.int64)
    count = tl.load(counts + image)
    tlbr += image * most * 4
    kept += image * most
    place = tl.arange(0, tile)
    for start in range(0, count, tile):
        late = start + place
        x1, y1, x2, y2 = _corners(tlbr, late, count)
        alive = (late < count).to(tl.int32)
        for before in range(0, start, tile):
            early = before + place
            overlaps = _overlap(tlbr, early, count, x1, y1, x2, y2, threshold)
            is_kept = tl.load(kept + early, mask=early < count, other=0)
            hit = tl.max((overlaps & (is_kept[:, None] > 0)).to(tl.int32), axis=0)
            alive = alive * (1 - hit)
        overlaps = _overlap(tlbr, late, count, x1, y1, x2, y2, threshold)
        overlaps = overlaps & (late[:, None] < late[None, :])
        now = alive
        changes = 1
        while changes > 0:
            hit = tl.max((overlaps & (_as_rows(now, tile) > 0)).to(tl.int32), axis=0)
            settled = alive * (1 - hit)
            changes = tl.sum((settled != now).to(tl.int32), axis=0)
            now = settled
        tl.store(kept + late, now, mask=late < count)
        tl.debug_barrier()  # the next tile reads what all threads have written


@triton.jit
def _as_rows(values: tl.tensor, tile: tl.constexpr):  # noqa: ANN202
    return tl.reshape(values, (tile, 1))


@triton.jit
def _corners(tlbr: tl.tensor, box: tl.tensor, count: tl.tensor):  # noqa: ANN202
    exists = box < count
    x1 = tl.load(tlbr + box * 4, mask=exists, other=0.0)
    y1 = tl.load(tlbr + box * 4 + 1, mask=exists, other=0.0)
    x2 = tl.load(tlbr + box * 4 + 2, mask=exists, other=0.0)
    y2 = tl.load(tlbr + box * 4 + 3, mask=exists, other=0.0)
    return x1, y1, x2, y2


@triton.jit
def _overlap(  # noqa: ANN202
    tlbr: tl.tensor,
    early: tl.tensor,
    count: tl.tensor,
    x1: tl.tensor,
    y1: tl.tensor,
    x2: tl.tensor,
    y2: tl.tensor,
    threshold: tl.tensor,
):
    """Whether boxes `early` (rows) overlap the given ones (columns) by more than the threshold."""
    left, top, right, bottom = _corners(tlbr, early, count)
    width = tl.minimum(right[:, None], x2[None, :]) - tl.maximum(left[:, None], x1[None, :])
    height = tl.minimum(bottom[:, None], y2[None, :]) - tl.maximum(top[:, None], y1[None, :])
    overlap = tl.maximum(width, 0.0) * tl.maximum(height, 0.0)
    area = ((right - left) * (bottom - top))[:, None] + ((x2 - x1) * (y2 - y1))[None, :]
    return tl.div_rn(overlap, tl.maximum(area - overlap, 1e-9)) > threshold


@triton.jit(do_not_specialize=_ANY[:3])
def convolve_down(  # noqa: ANN201, D417
    cells: tl.tensor,
    weights: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    num_cells: tl.tensor,
    num_outputs: tl.tensor,
    pitch: tl.tensor,
    lines: tl.tensor,
    slope: tl.tensor,
    num_channels: tl.constexpr,
    tile_cells: tl.constexpr,
    tile_outputs: tl.constexpr,
    tile_channels: tl.constexpr,
):
    """3x3 convolution of stride 2; the arguments are those of `convolve`.

    Args:
        cells: `(num_input_cells, num_channels)` after its guard, with `2 pitch - 1` cells per line
            and `2 lines - 1` lines per image.
    """
    blocks = tl.cdiv(num_outputs, tile_outputs)
    tile = tl.program_id(0)
    first_cell, first_output = (tile // blocks) * tile_cells, (tile % blocks) * tile_outputs
    rows = first_cell + tl.arange(0, tile_cells)
    column, line, image = rows % pitch, (rows // pitch) % lines, rows // (pitch * lines)
    is_cell = (column < pitch - 1) & (line < lines - 1) & (rows < num_cells)
    pitch_in, lines_in = 2 * pitch - 1, 2 * lines - 1
    centre = (image * lines_in + 2 * line).to(tl.int64) * pitch_in + 2 * column
    channel = tl.arange(0, tile_channels)
    per_tap: tl.constexpr = num_channels // tile_channels
    total = tl.zeros((tile_cells, tile_outputs), tl.float32)
    for step in range(9 * per_tap):
        tap = step // per_tap
        row = centre + (tap // 3 - 1) * pitch_in + tap % 3 - 1
        place = row[:, None] * num_channels + ((step % per_tap) * tile_channels + channel)[None, :]
        part = tl.load(cells + place, mask=is_cell[:, None], other=0.0)
        kernel = weights.load([first_output, step * tile_channels])
        total = tl.dot(part, kernel.T, total)
    columns = first_output + tl.arange(0, tile_outputs)
    total += tl.load(bias + columns, mask=columns < num_outputs, other=0.0)[None, :]
    total = tl.where(total > 0, total, total * slope)
    place = rows[:, None].to(tl.int64) * num_outputs + columns[None, :]
    exists = is_cell[:, None] & (columns < num_outputs)[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=exists)


@triton.jit(do_not_specialize=_ANY[:3])
def convolve_pixels(  # noqa: ANN201, D417
    pixels: tl.tensor,
    weights: tl.tensor,
    bias: tl.tensor,
    out: tl.tensor,
    num_cells: tl.tensor,
    pitch: tl.tensor,
    lines: tl.tensor,
    slope: tl.tensor,
    num_outputs: tl.constexpr,
    tile_cells: tl.constexpr,
):
    """3x3 convolution of stride 1 of bytes: the first layer. Bytes are exact in bfloat16.

    Args:
        pixels: `(B, lines - 1, pitch - 1, 3)` uint8, without columns or lines of zeros.
        weights: `(num_outputs, 32)`: 9 taps of 3 channels and 5 zeros, of inputs from 0 to 255.
    """
    rows = tl.program_id(0) * tile_cells + tl.arange(0, tile_cells)
    column, line, image = rows % pitch, (rows // pitch) % lines, rows // (pitch * lines)
    is_cell = (column < pitch - 1) & (line < lines - 1) & (rows < num_cells)
    term = tl.arange(0, 32)
    x = column[:, None] + ((term // 3) % 3 - 1)[None, :]
    y = line[:, None] + (term // 9 - 1)[None, :]
    exists = is_cell[:, None] & (term < 27)[None, :]
    exists = exists & (x >= 0) & (x < pitch - 1) & (y >= 0) & (y < lines - 1)
    place = (image[:, None] * (lines - 1) + y).to(tl.int64) * (pitch - 1) + x
    part = tl.load(pixels + place * 3 + (term % 3)[None, :], mask=exists, other=0)
    columns = tl.arange(0, num_outputs)
    kernel = tl.load(weights + columns[None, :] * 32 + term[:, None])
    total = tl.dot(part.to(kernel.dtype), kernel)
    total += tl.load(bias + columns)[None, :]
    total = tl.where(total > 0, total, total * slope)
    place = rows[:, None].to(tl.int64) * num_outputs + columns[None, :]
    tl.store(out + place, total.to(out.dtype.element_ty), mask=is_cell[:, None])
