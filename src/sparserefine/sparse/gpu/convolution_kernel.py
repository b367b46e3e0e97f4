"""The implicit matrix product behind every sparse convolution on a GPU.

One kernel serves submanifold, strided, inverse and 1×1 convolutions and their input gradients;
what differs is how an output row finds its input rows. See `launch` for how it is called.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from sparserefine.sparse.gpu.rounding import round_to_tf32

# How a row finds its neighbors.
POINTWISE = 0  # itself
TABLE = 1  # int32 [9, rows], anything outside 0..num_in-1 where there is none
COMPACT = 2  # int16 [3, rows]: see `levels.DeviceLevels`


@triton.jit
@no_type_check
def locate(neighbors, stride_neighbors, rows, live, up, down, code, column, FORM: tl.constexpr):
    """Input row of each of `rows` at a kernel offset; -1 or too large where there is none."""
    if FORM == 0:
        return rows
    elif FORM == 1:
        return tl.load(neighbors + column * stride_neighbors + rows, mask=live, other=-1)
    else:
        dy = column // 3
        dx = column % 3
        bits = (code >> (3 * dy)) & 7
        # Active pixels of one image row are numbered consecutively.
        before = bits & ((1 << dx) - 1)
        first = tl.where(dy == 0, rows + up, tl.where(dy == 2, rows + down, rows - (bits & 1)))
        return tl.where(((bits >> dx) & 1) == 1, first + (before & 1) + (before >> 1), -1)


@triton.jit
@no_type_check
def tap_of(number, child_y, child_x, taps_x, INVERSE: tl.constexpr):
    """The tap that comes `number`-th, and the column of the neighbors that it meets."""
    if INVERSE:
        # Taps 0 and 2, or 1: fine = 2 · neighbor + tap - padding.
        dy = child_y % 2 + 2 * (number // taps_x)
        dx = child_x % 2 + 2 * (number % taps_x)
        return dy * 3 + dx, ((child_y - dy + 2) // 2) * 3 + (child_x - dx + 2) // 2
    else:
        return number, number


# The numbers differ from image to image: specialized on, they would compile again and again.
@triton.jit(
    do_not_specialize=("num_in", "num_rows", "num_out", "stride_neighbors", "stride_out_rows")
)
@no_type_check
def convolution_kernel(
    x,
    weight,
    neighbors,
    out_rows,
    count,
    skip,
    skip_weight,
    bias,
    residual,
    raw,
    scale,
    shift,
    active,
    scale2,
    shift2,
    active2,
    num_in,
    num_rows,
    num_out,
    stride_x,
    stride_neighbors,
    stride_out_rows,
    stride_skip,
    stride_residual,
    stride_raw,
    stride_active,
    stride_active2,
    C_IN: tl.constexpr,
    C_OUT: tl.constexpr,
    C_SKIP: tl.constexpr,
    TAPS: tl.constexpr,
    FORM: tl.constexpr,
    INVERSE: tl.constexpr,
    PADDING: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    AHEAD: tl.constexpr,
    NARROW: tl.constexpr,
):
    """y = Σ over taps of x[neighbor] @ weight[tap] (+ skip @ skip_weight + bias + residual).

    Stores y into `raw`, relu(y · scale + shift) into `active`, and the same with the second pair
    into `active2`; each is left out where its pointer is None. `count` holds the number of rows
    that exist, `num_rows` the number there is room for.

    An inverse convolution walks the coarse rows, once per child (program axis 1): all fine pixels
    that are the same child have the same 1, 2, 2 or 4 taps, which meet the coarse pixel's own
    neighbors. So it needs no map but the coarse level's and that of the way down.
    """
    NUM_N: tl.constexpr = (C_OUT + BLOCK_N - 1) // BLOCK_N
    NUM_K: tl.constexpr = (C_IN + BLOCK_K - 1) // BLOCK_K
    EVEN_K: tl.constexpr = C_IN % BLOCK_K == 0
    EVEN_N: tl.constexpr = C_OUT % BLOCK_N == 0
    if WIDE:
        # Tables too: beyond 238 million rows the ninth tap's numbers lie past 2^31.
        stride_neighbors = stride_neighbors.to(tl.int64)
        stride_out_rows = stride_out_rows.to(tl.int64)
    tile = tl.program_id(0) // NUM_N
    limit = num_rows
    if count is not None:
        limit = tl.minimum(tl.load(count), num_rows)
    if tile * BLOCK_M >= limit:
        return
    rows = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    live = rows < limit
    columns = (tl.program_id(0) % NUM_N) * BLOCK_N + tl.arange(0, BLOCK_N)
    inside = columns < C_OUT
    channels = tl.arange(0, BLOCK_K)

    up = rows
    down = rows
    code = rows
    if FORM == 2:
        up = tl.load(neighbors + rows, mask=live, other=0).to(tl.int32)
        down = tl.load(neighbors + stride_neighbors + rows, mask=live, other=0).to(tl.int32)
        code = tl.load(neighbors + 2 * stride_neighbors + rows, mask=live, other=0).to(tl.int32)

    num_taps = TAPS
    taps_x = 1
    child_y = 0
    child_x = 0
    if INVERSE:
        # A fine pixel is 2 · coarse + child - padding. Taps of the child's parity reach it.
        CHILDREN: tl.constexpr = 3 - PADDING
        child_y = tl.program_id(1) // CHILDREN + PADDING
        child_x = tl.program_id(1) % CHILDREN + PADDING
        taps_x = 2 - child_x % 2
        num_taps = (2 - child_y % 2) * taps_x

    out = rows
    if INVERSE:
        child = child_y * 3 + child_x
        out = tl.load(out_rows + child * stride_out_rows + rows, mask=live, other=-1)
        if PADDING == 0:
            # The last fine row and column have no coarse pixel of their own: the one before
            # takes them as its third child.
            if child_y == 2:
                at = locate(neighbors, stride_neighbors, rows, live, up, down, code, 7, FORM)
                out = tl.where((at >= 0) & (at < num_in), -1, out)
            if child_x == 2:
                at = locate(neighbors, stride_neighbors, rows, live, up, down, code, 5, FORM)
                out = tl.where((at >= 0) & (at < num_in), -1, out)
        live = live & (out >= 0) & (out < num_out)
        if tl.max(live.to(tl.int32), 0) == 0:
            return

    if NARROW:
        # Zero, but not for the compiler, which takes the widest copy that an address is known to
        # be aligned for. Copies of 16 bytes go past the L1 cache, those of 8 go through it.
        x += (num_rows >> 31) * (64 // x.dtype.element_ty.primitive_bitwidth)
    total = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    next_at = rows
    if AHEAD:
        # Found in the step before: where a copy waits for its address, Triton spends stages of
        # its pipeline on addresses, and keeps fewer copies under way.
        _, column = tap_of(0, child_y, child_x, taps_x, INVERSE)
        next_at = locate(neighbors, stride_neighbors, rows, live, up, down, code, column, FORM)
    for step in range(0, num_taps * NUM_K):
        tap, column = tap_of(step // NUM_K, child_y, child_x, taps_x, INVERSE)
        if AHEAD:
            at = next_at
            later = tl.minimum(step + 1, num_taps * NUM_K - 1) // NUM_K
            _, column = tap_of(later, child_y, child_x, taps_x, INVERSE)
            next_at = locate(neighbors, stride_neighbors, rows, live, up, down, code, column, FORM)
        else:
            at = locate(neighbors, stride_neighbors, rows, live, up, down, code, column, FORM)
        found = live & (at >= 0) & (at < num_in)
        if WIDE:
            at = at.to(tl.int64)
        within = (step % NUM_K) * BLOCK_K + channels
        x_mask = found[:, None]
        w_mask = inside[None, :]
        if not EVEN_K:
            x_mask = x_mask & (within < C_IN)[None, :]
            w_mask = w_mask & (within < C_IN)[:, None]
        a = tl.load(x + at[:, None] * stride_x + within[None, :], mask=x_mask, other=0.0)
        w_at = weight + (tap * C_IN + within)[:, None] * C_OUT + columns[None, :]
        if EVEN_K and EVEN_N:
            b = tl.load(w_at)
        else:
            b = tl.load(w_at, mask=w_mask, other=0.0)
        if PRECISION == "tf32":
            a = round_to_tf32(a)
            b = round_to_tf32(b)
        total = tl.dot(a, b, total, input_precision=PRECISION)

    if WIDE:
        rows = rows.to(tl.int64)
    if skip is not None:
        for step in range(0, (C_SKIP + BLOCK_K - 1) // BLOCK_K):
            within = step * BLOCK_K + channels
            valid = within < C_SKIP
            a = tl.load(
                skip + rows[:, None] * stride_skip + within[None, :],
                mask=live[:, None] & valid[None, :],
                other=0.0,
            )
            b = tl.load(
                skip_weight + within[:, None] * C_OUT + columns[None, :],
                mask=valid[:, None] & inside[None, :],
                other=0.0,
            )
            if PRECISION == "tf32":
                a = round_to_tf32(a)
                b = round_to_tf32(b)
            total = tl.dot(a, b, total, input_precision=PRECISION)

    if WIDE:
        out = out.to(tl.int64)
    keep = live[:, None] & inside[None, :]
    if bias is not None:
        total += tl.load(bias + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    if residual is not None:
        old = residual + out[:, None] * stride_residual + columns[None, :]
        total += tl.load(old, mask=keep, other=0.0).to(tl.float32)
    if raw is not None:
        at_raw = raw + out[:, None] * stride_raw + columns[None, :]
        tl.store(at_raw, total.to(raw.dtype.element_ty), mask=keep)
    if active is not None:
        factor = tl.load(scale + columns, mask=inside, other=0.0)
        offset = tl.load(shift + columns, mask=inside, other=0.0)
        y = tl.maximum(total * factor[None, :] + offset[None, :], 0.0)
        at_active = active + out[:, None] * stride_active + columns[None, :]
        tl.store(at_active, y.to(active.dtype.element_ty), mask=keep)
    if active2 is not None:
        factor = tl.load(scale2 + columns, mask=inside, other=0.0)
        offset = tl.load(shift2 + columns, mask=inside, other=0.0)
        y = tl.maximum(total * factor[None, :] + offset[None, :], 0.0)
        at_active = active2 + out[:, None] * stride_active2 + columns[None, :]
        tl.store(at_active, y.to(active2.dtype.element_ty), mask=keep)
