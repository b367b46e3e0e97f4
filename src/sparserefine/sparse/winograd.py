"""Winograd's method on active blocks, as plain torch arithmetic."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.chunks import Scratch, like, rows_of, rows_per_chunk, with_zero_row
from sparserefine.sparse.layouts import Blocks

# A chunk has at least this many blocks, or the weights, read once for each chunk, would take as
# long as the products.
_CHUNK_BLOCKS = 192
# Most numbers in the copies of transformed weights for all threads: what a third-level cache holds.
_COPIED_WEIGHTS = 1 << 22


def convolve_winograd(
    feats: Float[Tensor, "N C_in"], weight: Float[Tensor, "9 C_in C_out"], blocks: Blocks
) -> Float[Tensor, "N C_out"]:
    """Winograd F(size×size, 3×3) on the active blocks: 2.25 or 4 times fewer MACs.

    Source: Lavin & Gray 2016, arXiv:1509.09308.
    """
    c_in, c_out = weight.shape[1:]
    size, points = blocks.size, (blocks.size + 2) ** 2
    number = blocks.neighbors.shape[1]
    to_points, kernel_to_points, to_pixels = _matrices(size, feats.dtype, feats.device)
    transformed = like(feats, points, c_in * c_out)
    torch.mm(kernel_to_points, weight.reshape(9, -1), out=transformed)
    parts = _count_parts(transformed)
    transformed = transformed.expand(parts, -1, -1).reshape(-1, c_in, c_out)
    to_points, to_pixels = (m.expand(parts, -1, -1) for m in (to_points, to_pixels))
    padded = with_zero_row(feats)
    pixels = like(feats, size * size * number, c_out).view(size * size, number, c_out)
    chunk = rows_per_chunk(points * max(c_in, c_out), _CHUNK_BLOCKS // parts)
    # Four steps in turns between two places.
    first, second = (Scratch(feats, parts * points * chunk * max(c_in, c_out)) for _ in range(2))
    for start, p, n in _parts_of_chunks(number, parts, chunk):
        index = blocks.neighbors[:, start : start + p * n].view(points, p, n)
        gathered = first.gather(padded, index.transpose(0, 1))
        spread = second.take(p, points, n * c_in)
        torch.bmm(to_points[:p], gathered.view(p, points, n * c_in), out=spread)
        products = first.take(p * points, n, c_out)
        torch.bmm(spread.view(-1, n, c_in), transformed[: p * points], out=products)
        result = second.take(p, size * size, n * c_out)
        torch.bmm(to_pixels[:p], products.view(p, points, n * c_out), out=result)
        places = pixels[:, start : start + p * n].view(size * size, p, n, c_out)
        places.copy_(result.view(p, size * size, n, c_out).transpose(0, 1))
    return rows_of(pixels.view(-1, c_out), blocks.outputs)


def _count_parts(weights: Tensor) -> int:
    """Number of parts that a chunk of blocks is cut into, each with a copy of the weights.

    There is one part for each thread, so that it finds in its cache what it made in the step
    before. Cut by points, half of that is another thread's, and the steps took twice as long
    whenever the two cores shared no cache (dev/LOG.md, 2026-11-28). Weights too large to be copied
    leave one part.
    """
    if weights.device.type != "cpu":
        return 1
    threads = torch.get_num_threads()
    return threads if threads * weights.numel() <= _COPIED_WEIGHTS else 1


def _parts_of_chunks(number: int, parts: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Cut blocks into chunks of `parts` equal parts: the first block, the parts and their size.

    A part has at most `most` blocks. What is left in the end, fewer than `parts`, is one part.
    """
    start = 0
    while start < number:
        size = min(most, (number - start) // parts)
        if size == 0:
            parts, size = 1, number - start
        yield start, parts, size
        start += parts * size


@cache
def _matrices(size: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Two-dimensional transforms of input [P, P], kernel [P, 9] and output [size², P]."""
    if size == 2:
        data = [[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]
        kernel = [[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]]
        output = [[1, 1, 1, 0], [0, 1, -1, -1]]
    else:
        data = [
            [4, 0, -5, 0, 1, 0],
            [0, -4, -4, 1, 1, 0],
            [0, 4, -4, -1, 1, 0],
            [0, -2, -1, 2, 1, 0],
            [0, 2, -1, -2, 1, 0],
            [0, 4, 0, -5, 0, 1],
        ]
        kernel = [
            [1 / 4, 0, 0],
            [-1 / 6, -1 / 6, -1 / 6],
            [-1 / 6, 1 / 6, -1 / 6],
            [1 / 24, 1 / 12, 1 / 6],
            [1 / 24, -1 / 12, 1 / 6],
            [0, 0, 1],
        ]
        output = [
            [1, 1, 1, 1, 1, 0],
            [0, 1, -1, 2, -2, 0],
            [0, 1, 1, 4, 4, 0],
            [0, 1, -1, 8, -8, 1],
        ]
    matrices = (torch.tensor(rows, dtype=torch.float64) for rows in (data, kernel, output))
    first, second, third = (torch.kron(m, m).to(device=device, dtype=dtype) for m in matrices)
    return first, second, third
