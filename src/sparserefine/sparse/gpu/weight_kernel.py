"""The gradient of the weights on a GPU: products of gathered rows with rows, summed over pixels.

The pixels are split into chunks, whose partial sums a second kernel adds in a fixed order: the
same result on every run, without atomics.
"""

from __future__ import annotations

from typing import no_type_check

import triton
import triton.language as tl

from sparserefine.sparse.gpu.rounding import round_to_tf32


# The numbers differ from image to image: specialized on, they would compile again and again.
@triton.jit(do_not_specialize=("num_gathered", "num_rows", "chunk", "stride_neighbors"))
@no_type_check
def partial_gradient_kernel(
    gathered,
    direct,
    neighbors,
    partial,
    num_gathered,
    num_rows,
    chunk,
    stride_gathered,
    stride_direct,
    stride_neighbors,
    C_GATHERED: tl.constexpr,
    C_DIRECT: tl.constexpr,
    TAPS: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_P: tl.constexpr,
    BLOCK_G: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """partial[chunk, tap] = Σ over the chunk's rows of gathered[neighbor(row, tap)]ᵀ direct[row].

    Without `neighbors` a row's neighbor is itself (1×1).
    """
    NUM_G: tl.constexpr = (C_GATHERED + BLOCK_G - 1) // BLOCK_G
    NUM_D: tl.constexpr = (C_DIRECT + BLOCK_D - 1) // BLOCK_D
    tile = tl.program_id(0)
    tap = tile // (NUM_G * NUM_D)
    from_gathered = (tile // NUM_D) % NUM_G * BLOCK_G + tl.arange(0, BLOCK_G)
    from_direct = tile % NUM_D * BLOCK_D + tl.arange(0, BLOCK_D)
    first = tl.program_id(1) * chunk
    end = tl.minimum(first + chunk, num_rows)
    if WIDE:
        stride_neighbors = stride_neighbors.to(tl.int64)

    total = tl.zeros((BLOCK_G, BLOCK_D), dtype=tl.float32)
    for start in range(first, end, BLOCK_P):
        rows = start + tl.arange(0, BLOCK_P)
        live = rows < end
        at = rows
        if neighbors is not None:
            at = tl.load(neighbors + tap * stride_neighbors + rows, mask=live, other=-1)
        found = live & (at >= 0) & (at < num_gathered)
        if WIDE:
            rows = rows.to(tl.int64)
            at = at.to(tl.int64)
        a = tl.load(
            gathered + at[:, None] * stride_gathered + from_gathered[None, :],
            mask=found[:, None] & (from_gathered < C_GATHERED)[None, :],
            other=0.0,
        )
        b = tl.load(
            direct + rows[:, None] * stride_direct + from_direct[None, :],
            mask=live[:, None] & (from_direct < C_DIRECT)[None, :],
            other=0.0,
        )
        if PRECISION == "tf32":
            a = round_to_tf32(a)
            b = round_to_tf32(b)
        total = tl.dot(tl.trans(a), b, total, input_precision=PRECISION)

    base = (tl.program_id(1) * TAPS + tap).to(tl.int64) * (C_GATHERED * C_DIRECT)
    at_partial = partial + base + from_gathered[:, None] * C_DIRECT + from_direct[None, :]
    keep = (from_gathered < C_GATHERED)[:, None] & (from_direct < C_DIRECT)[None, :]
    tl.store(at_partial, total, mask=keep)


@triton.jit(do_not_specialize=("num_chunks", "size"))
@no_type_check
def sum_partials_kernel(partial, out, num_chunks, size, BLOCK: tl.constexpr):
    """out = Σ over chunks of partial[chunk], always in the same order."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < size
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    of_chunk = partial + at
    for _ in range(0, num_chunks):
        total += tl.load(of_chunk, mask=inside, other=0.0)
        of_chunk += size
    tl.store(out + at, total.to(out.dtype.element_ty), mask=inside)
