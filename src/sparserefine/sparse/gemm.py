"""Sparse convolutions as plain torch arithmetic; no autograd here (see `functional`).

Each function computes what `reference.convolve` defines. Which one is fastest depends on the
number of channels and of pixels; `choose_method` knows.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cache
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.choice import is_exact
from sparserefine.sparse.kernel_map import KernelMap
from sparserefine.sparse.layouts import Blocks, Strips
from sparserefine.sparse.memory import empty_rows
from sparserefine.sparse.pixels import ActivePixels, Downsampling

Method = Literal["im2col", "pairs", "strips", "winograd2", "winograd4"]

# Gathered rows of one chunk: 1 MiB of float32, so that they are still in the cache when they are
# multiplied. With 4 MiB, strips of 16 channels took twice as long (dev/LOG.md, 2026-11-24).
_CHUNK_ELEMENTS = 1 << 18
# But not so few blocks that the weights, read once for each chunk, take as long as the products.
_CHUNK_BLOCKS = 192
# Copies of transformed weights for all threads, in numbers: what a third-level cache holds.
_COPIED_WEIGHTS = 1 << 22


def convolve_im2col(
    feats: Float[Tensor, "N C_in"], weight: Float[Tensor, "9 C_in C_out"], kernel_map: KernelMap
) -> Float[Tensor, "M C_out"]:
    """Gather all neighbors of a chunk of rows, then one matrix product."""
    c_in, c_out = weight.shape[1:]
    padded = _with_zero_row(feats)
    out = _like(feats, kernel_map.num_outputs, c_out)
    for group in kernel_map.groups:
        taps = len(group.taps)
        matrix = _taps_of(weight, group.taps).reshape(taps * c_in, c_out)
        chunk = max(_CHUNK_ELEMENTS // max(taps * c_in, 1), 64)
        by_row = group.neighbors.t()
        scratch = _Scratch(feats, chunk * taps * c_in)
        for start in range(0, by_row.shape[0], chunk):
            index = by_row[start : start + chunk]
            gathered = scratch.gather(padded, index).view(len(index), taps * c_in)
            if group.rows is None:
                torch.mm(gathered, matrix, out=out[start : start + chunk])
            else:
                out.index_copy_(0, group.rows[start : start + chunk].long(), gathered @ matrix)
    return out


def convolve_pairs(
    feats: Float[Tensor, "N C_in"], weight: Float[Tensor, "9 C_in C_out"], kernel_map: KernelMap
) -> Float[Tensor, "M C_out"]:
    """Gather, multiply and scatter-add the existing pairs of each tap: no wasted product."""
    out = feats.new_zeros(kernel_map.num_outputs, weight.shape[2])
    for tap, inputs, outputs in kernel_map.pairs:
        out.index_add_(0, outputs, feats.index_select(0, inputs) @ weight[tap])
    return out


def convolve_strips(
    feats: Float[Tensor, "N C_in"], weight: Float[Tensor, "9 C_in C_out"], strips: Strips
) -> Float[Tensor, "N C_out"]:
    """One dense convolution of the 3-row strips around the active pixels."""
    c_in, c_out = weight.shape[1:]
    segments, _, columns = strips.neighbors.shape
    padded = _with_zero_row(feats)
    kernel = weight.view(3, 3, c_in, c_out).permute(3, 2, 0, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    out = _like(feats, segments * (columns - 2), c_out)
    chunk = max(4 * _CHUNK_ELEMENTS // (3 * columns * c_in), 8)
    scratch = _Scratch(feats, chunk * 3 * columns * c_in)
    for start in range(0, segments, chunk):
        index = strips.neighbors[start : start + chunk]
        gathered = scratch.gather(padded, index)
        images = gathered.view(len(index), 3, columns, c_in).permute(0, 3, 1, 2)
        result = torch.conv2d(images, kernel)  # [s, C_out, 1, columns - 2]
        first = start * (columns - 2)
        flat = result.permute(0, 2, 3, 1).reshape(-1, c_out)
        out[first : first + len(flat)] = flat
    return _rows_of(out, strips.outputs)


def convolve_winograd(
    feats: Float[Tensor, "N C_in"], weight: Float[Tensor, "9 C_in C_out"], blocks: Blocks
) -> Float[Tensor, "N C_out"]:
    """Winograd F(size×size, 3×3) on the active blocks: 2.25 or 4 times fewer products.

    Source: Lavin & Gray 2016, arXiv:1509.09308.
    """
    c_in, c_out = weight.shape[1:]
    size, points = blocks.size, (blocks.size + 2) ** 2
    number = blocks.neighbors.shape[1]
    to_points, kernel_to_points, to_pixels = _winograd_matrices(size, feats.dtype, feats.device)
    transformed = _like(feats, points, c_in * c_out)
    torch.mm(kernel_to_points, weight.reshape(9, -1), out=transformed)
    parts = _winograd_parts(transformed)
    transformed = transformed.expand(parts, -1, -1).reshape(-1, c_in, c_out)
    to_points, to_pixels = (m.expand(parts, -1, -1) for m in (to_points, to_pixels))
    padded = _with_zero_row(feats)
    pixels = _like(feats, size * size * number, c_out).view(size * size, number, c_out)
    chunk = max(_CHUNK_ELEMENTS // (points * max(c_in, c_out)), _CHUNK_BLOCKS // parts)
    # Four steps in turns between two places.
    first, second = (_Scratch(feats, parts * points * chunk * max(c_in, c_out)) for _ in range(2))
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
    return _rows_of(pixels.view(-1, c_out), blocks.outputs)


def weight_gradient(
    feats: Float[Tensor, "N C_in"], grad: Float[Tensor, "M C_out"], kernel_map: KernelMap
) -> Float[Tensor, "9 C_in C_out"]:
    """Gradient of the weight of any of the above: per tap, gathered inputsᵀ @ grad."""
    c_in, c_out = feats.shape[1], grad.shape[1]
    padded = _with_zero_row(feats)
    out = feats.new_zeros(9, c_in, c_out)
    for group in kernel_map.groups:
        taps = len(group.taps)
        total = feats.new_zeros(taps * c_in, c_out)
        chunk = max(_CHUNK_ELEMENTS // max(taps * c_in, 1), 64)
        by_row = group.neighbors.t()
        scratch = _Scratch(feats, chunk * taps * c_in)
        for start in range(0, by_row.shape[0], chunk):
            index = by_row[start : start + chunk]
            gathered = scratch.gather(padded, index).view(len(index), taps * c_in)
            if group.rows is None:
                rows = grad[start : start + chunk]
            else:
                rows = grad.index_select(0, group.rows[start : start + chunk])
            total.addmm_(gathered.t(), rows)
        # A tap stands in one group of a submanifold or strided map, in several of an inverse map.
        for tap, part in zip(group.taps, total.view(taps, c_in, c_out), strict=True):
            out[tap] += part
    return out


def choose_method(pixels: ActivePixels, c_in: int, c_out: int, dtype: torch.dtype) -> Method:
    """The fastest method for a submanifold convolution.

    The one of fewest multiplications per pair of channels, where a row to gather or a block to
    transform counts as so many more channels, and a weight to transform as so many more blocks, as
    measured in float32 on two CPU cores at 5 to 35 % density (dev/LOG.md, 2026-11-27 and 28). With
    several threads, blocks cost more and strips do not: an image is one thread's from end to end.
    The transforms of Winograd's method lose too much in half precision.
    """
    channels = max(c_in, c_out)
    if is_exact() or dtype not in (torch.float32, torch.float64):
        return "strips" if channels <= 64 else "im2col"
    if len(pixels) < 512 or min(c_in, c_out) < 8:
        return "im2col"
    several = torch.get_num_threads() > 1
    gathering = 20 if several else 10
    costs: dict[Method, float] = {"im2col": 9 * len(pixels) * (channels + gathering)}
    if channels <= (64 if several else 32):
        columns = pixels.strips.neighbors[:, 0].numel()
        costs["strips"] = 9 * columns * channels
    else:
        blocks = pixels.blocks_4x4.neighbors.shape[1]
        transforms = 215 if several and channels <= 256 else 115
        costs["winograd4"] = 36 * (blocks * (channels + transforms) + 45 * channels)
    if channels > 64:  # for fewer, listing the blocks costs what they save
        blocks = pixels.blocks_2x2.neighbors.shape[1]
        costs["winograd2"] = 16 * (blocks * (channels + 65) + 45 * channels)
    return min(costs, key=costs.__getitem__)


def convolve_submanifold(
    feats: Float[Tensor, "N _"],
    weight: Float[Tensor, "9 _ _"],
    pixels: ActivePixels,
    method: Method | Literal["auto"] = "auto",
    *,
    transposed: bool = False,
) -> Float[Tensor, "N _"]:
    """Convolve at the active pixels by the chosen method.

    Args:
        feats: One row per active pixel.
        weight: One matrix per tap.
        pixels: The active pixels.
        method: "auto" chooses by `choose_method`.
        transposed: Compute the gradient of the input from that of the output: the same
            convolution with taps reversed and matrices transposed.
    """
    if transposed:
        weight = weight.flip(0).transpose(1, 2).contiguous()
    if len(pixels) == 0:
        return feats.new_zeros(0, weight.shape[2])
    if method == "auto":
        method = choose_method(pixels, weight.shape[1], weight.shape[2], feats.dtype)
    if method == "strips":
        return convolve_strips(feats, weight, pixels.strips)
    if method == "winograd2":
        return convolve_winograd(feats, weight, pixels.blocks_2x2)
    if method == "winograd4":
        return convolve_winograd(feats, weight, pixels.blocks_4x4)
    if method == "pairs":
        return convolve_pairs(feats, weight, pixels.submanifold_map)
    return convolve_im2col(feats, weight, pixels.submanifold_map)


def convolve_step(
    feats: Float[Tensor, "N _"],
    weight: Float[Tensor, "9 _ _"],
    step: Downsampling,
    *,
    up: bool,
    transposed: bool = False,
) -> Float[Tensor, "M _"]:
    """Strided convolution, or back `up` through one; `transposed` as in `convolve_submanifold`."""
    if transposed:
        weight = weight.transpose(1, 2).contiguous()
    return convolve_im2col(feats, weight, step.up if up else step.down)


def submanifold_weight_gradient(
    feats: Float[Tensor, "N C_in"], grad: Float[Tensor, "N C_out"], pixels: ActivePixels
) -> Float[Tensor, "9 C_in C_out"]:
    """Gradient of the weight of `convolve_submanifold`."""
    return weight_gradient(feats, grad, pixels.submanifold_map)


def step_weight_gradient(
    feats: Float[Tensor, "N C_in"], grad: Float[Tensor, "M C_out"], step: Downsampling, *, up: bool
) -> Float[Tensor, "9 C_in C_out"]:
    """Gradient of the weight of `convolve_step`."""
    return weight_gradient(feats, grad, step.up if up else step.down)


def _winograd_parts(weights: Tensor) -> int:
    """Into how many parts a chunk of blocks is cut, each with a copy of the transformed weights.

    One for each thread, so that it finds in its cache what it made in the step before. Cut by
    points, half of that is another thread's, and the steps took twice as long whenever the two
    cores shared no cache (dev/LOG.md, 2026-11-28). But where weights are more than blocks, one.
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


class _Scratch:
    """Working memory of a loop over chunks. Asked for again and again, the C library would return
    it to the system in between, depending on what was freed before.
    """

    def __init__(self, like: Tensor, size: int) -> None:
        self._flat = like.new_empty(size)

    def take(self, *shape: int) -> Tensor:
        """All of it that `shape` needs, from the start."""
        return self._flat[: math.prod(shape)].view(shape)

    def gather(self, rows: Float[Tensor, "N C"], index: Tensor) -> Float[Tensor, "n C"]:
        """The rows at `index`, flattened."""
        out = self.take(index.numel(), rows.shape[1])
        return torch.index_select(rows, 0, index.reshape(-1), out=out)


def _with_zero_row(feats: Tensor) -> Tensor:
    """Append the row of zeros that absent neighbors point at."""
    padded = _like(feats, len(feats) + 1, feats.shape[1])
    padded[:-1] = feats
    padded[-1] = 0
    return padded


def _rows_of(values: Tensor, rows: Tensor) -> Tensor:
    return torch.index_select(values, 0, rows, out=_like(values, len(rows), values.shape[1]))


def _like(values: Tensor, rows: int, channels: int) -> Tensor:
    """An uninitialized array of the type and on the device of `values`."""
    return empty_rows(rows, channels, values.dtype, values.device)


def _taps_of(weight: Tensor, taps: tuple[int, ...]) -> Tensor:
    if taps == tuple(range(9)):
        return weight
    return weight[list(taps)]


@cache
def _winograd_matrices(
    size: int, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
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
