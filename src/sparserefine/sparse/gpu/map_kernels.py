"""Index grids and kernel maps of all levels of a pyramid, built on the device.

No hash table and no synchronization with the host: counts stay on the device, buffers have a
fixed capacity. See `levels` for the buffers. A level's grid has a border of one empty cell; a row
of the table `levels` is (first cell, height and width with border, first row, capacity). Each of
`counts` has 16 bytes to itself, as triton compiles a kernel anew for pointers aligned otherwise.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

FIELDS = 5  # of the table `levels`
COUNT_STRIDE = 4  # of `counts`


@triton.jit
@no_type_check
def coarsen_kernel(
    active,
    fine_cell,
    coarse_cell,
    fine_height,
    fine_width,
    height,
    width,
    num_cells,
    START: tl.constexpr,
    REACH: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """A coarse pixel is active where one of REACH × REACH fine cells from 2·(y, x) + START is.

    Heights and widths include the border, `num_cells` counts the coarse pixels without it.
    """
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = pixel < num_cells
    across = width - 2
    x = pixel % across
    y = pixel // across % (height - 2)
    image = pixel // (across * (height - 2))
    window = fine_cell + (image * fine_height + 2 * y + START) * fine_width + 2 * x + START
    found = tl.zeros((BLOCK,), dtype=tl.int32)
    for dy in tl.static_range(REACH):
        for dx in tl.static_range(REACH):
            cell = tl.load(active + window + dy * fine_width + dx, mask=live, other=0)
            found = found | cell.to(tl.int32)
    at = coarse_cell + (image * height + y + 1) * width + x + 1
    tl.store(active + at, found.to(tl.uint8), mask=live)


@triton.jit
@no_type_check
def number_kernel(
    active, running, grid, cells, found, counts, levels, num_levels, total, BLOCK: tl.constexpr
):
    """Number the active cells of every level, in row-major order.

    `running` is the running sum of `active` over all levels. Writes into `grid` the row of each
    active cell (-1 elsewhere), into `cells` the cell of each row, into `found` the number of
    active cells per level, and into `counts` as many of them as the level has capacity for.
    """
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    on = tl.load(active + at, mask=at < total, other=0) != 0
    number = tl.load(running + at, mask=at < total, other=0) - 1
    base = tl.zeros((BLOCK,), dtype=tl.int32)  # active cells of the finer levels
    first_cell = tl.zeros((BLOCK,), dtype=tl.int32)
    first_row = tl.zeros((BLOCK,), dtype=tl.int32)
    capacity = tl.zeros((BLOCK,), dtype=tl.int32)
    for level in range(0, num_levels):
        start = tl.load(levels + level * 5)
        before = tl.load(running + start - 1, mask=start > 0, other=0)
        end = tl.load(levels + level * 5 + 5, mask=level + 1 < num_levels, other=total)
        room = tl.load(levels + level * 5 + 4)
        here = at >= start
        base = tl.where(here, before, base)
        first_cell = tl.where(here, start, first_cell)
        first_row = tl.where(here, tl.load(levels + level * 5 + 3), first_row)
        capacity = tl.where(here, room, capacity)
        if tl.program_id(0) == 0:
            number_here = tl.load(running + end - 1) - before
            tl.store(found + level, number_here)
            tl.store(counts + level * 4, tl.minimum(number_here, room))
    number -= base
    fits = on & (number < capacity)
    tl.store(grid + at, tl.where(fits, number, -1), mask=at < total)
    tl.store(cells + first_row + number, at - first_cell, mask=fits)


@triton.jit
@no_type_check
def submanifold_kernel(
    grid,
    cells,
    counts,
    levels,
    table,
    compact,
    first_level,
    skipped,
    stride,
    BLOCK: tl.constexpr,
):
    """Neighbors of every row at its own level, as a table [9, rows] or compact [3, rows].

    The first `skipped` rows of all levels have no place in the table.
    """
    level = first_level + tl.program_id(1)
    count = tl.load(counts + level * 4)
    if tl.program_id(0) * BLOCK >= count:
        return
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = row < count
    first_cell = tl.load(levels + level * 5)
    width = tl.load(levels + level * 5 + 2)
    first_row = tl.load(levels + level * 5 + 3)
    cell = tl.load(cells + first_row + row, mask=live, other=0)
    place = first_row - skipped + row
    stride = stride.to(tl.int64)  # the ninth tap of 239 million rows lies past 2^31
    code = tl.zeros((BLOCK,), dtype=tl.int32)
    up = tl.zeros((BLOCK,), dtype=tl.int32)
    down = tl.zeros((BLOCK,), dtype=tl.int32)
    for tap in tl.static_range(9):
        at = first_cell + cell + (tap // 3 - 1) * width + tap % 3 - 1
        neighbor = tl.load(grid + at, mask=live, other=-1)
        if table is not None:
            tl.store(table + tap * stride + place, neighbor, mask=live)
        if compact is not None:
            present = neighbor >= 0
            if tap < 3:
                up = tl.where(present & ((code & 7) == 0), neighbor - row, up)
            if tap >= 6:
                down = tl.where(present & ((code >> 6) == 0), neighbor - row, down)
            code = code | (present.to(tl.int32) << tap)
    if compact is not None:
        tl.store(compact + place, up.to(tl.int16), mask=live)
        tl.store(compact + stride + place, down.to(tl.int16), mask=live)
        tl.store(compact + 2 * stride + place, code.to(tl.int16), mask=live)


@triton.jit
@no_type_check
def strided_kernel(
    grid,
    cells,
    counts,
    levels,
    table,
    skipped,
    stride,
    PADDING: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The fine rows in the 3×3 window of every coarse row, as a table [9, rows].

    The first `skipped` rows of all levels have no place in the table.
    """
    level = 1 + tl.program_id(1)
    count = tl.load(counts + level * 4)
    if tl.program_id(0) * BLOCK >= count:
        return
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = row < count
    height = tl.load(levels + level * 5 + 1)
    width = tl.load(levels + level * 5 + 2)
    first_row = tl.load(levels + level * 5 + 3)
    fine_cell = tl.load(levels + level * 5 - 5)
    fine_height = tl.load(levels + level * 5 - 4)
    fine_width = tl.load(levels + level * 5 - 3)
    cell = tl.load(cells + first_row + row, mask=live, other=0)
    x = cell % width - 1
    y = cell // width % height - 1
    image = cell // (width * height)
    place = first_row - skipped + row
    stride = stride.to(tl.int64)
    window = (image * fine_height + 2 * y - PADDING + 1) * fine_width + 2 * x - PADDING + 1
    for tap in tl.static_range(9):
        at = fine_cell + window + (tap // 3) * fine_width + tap % 3
        neighbor = tl.load(grid + at, mask=live, other=-1)
        tl.store(table + tap * stride + place, neighbor, mask=live)


@triton.jit
@no_type_check
def gather_kernel(
    images,
    cells,
    count,
    feats,
    capacity,
    height,
    width,
    stride_image,
    stride_channel,
    stride_y,
    stride_x,
    CHANNELS: tl.constexpr,
    WIDTH: tl.constexpr,
    STRIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Rows of features of the active pixels from [B, C, H, W] images of any strides.

    A row is WIDTH long; what is more than CHANNELS becomes zero. Rows begin STRIDE apart.
    """
    row = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = row < tl.minimum(tl.load(count), capacity)
    cell = tl.load(cells + row, mask=live, other=0)
    # Offsets in 64 bits: 22 channels of 98 megapixels are 2^31 numbers.
    x = (cell % width - 1).to(tl.int64)
    y = (cell // width % height - 1).to(tl.int64)
    image = (cell // (width * height)).to(tl.int64)
    pixel = image * stride_image + y * stride_y + x * stride_x
    channel = tl.arange(0, BLOCK_C).to(tl.int64)
    there = live[:, None] & (channel < CHANNELS)[None, :]
    at = images + pixel[:, None] + channel[None, :] * stride_channel
    value = tl.load(at, mask=there, other=0)
    keep = live[:, None] & (channel < WIDTH)[None, :]
    at = feats + row.to(tl.int64)[:, None] * STRIDE + channel[None, :]
    tl.store(at, value.to(feats.dtype.element_ty), mask=keep)
