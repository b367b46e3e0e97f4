"""Sparse convolutions as plain torch arithmetic; no autograd here (see `functional`).

Each function computes what `reference.convolve` defines. Which one is fastest depends on the
number of channels and of pixels; `choose_method` knows.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.choice import is_exact
from sparserefine.sparse.chunks import Scratch, like, rows_of, rows_per_chunk, with_zero_row
from sparserefine.sparse.kernel_map import KernelMap
from sparserefine.sparse.layouts import Strips
from sparserefine.sparse.pixels import ActivePixels, Downsampling
from sparserefine.sparse.winograd import convolve_winograd

Method = Literal["im2col", "pairs", "strips", "winograd2", "winograd4"]


def convolve_im2col(
    feats: Float[Tensor, "N C_in"], weight: Float[Tensor, "9 C_in C_out"], kernel_map: KernelMap
) -> Float[Tensor, "M C_out"]:
    """Gather all neighbors of a chunk of rows, then one matrix product."""
    c_in, c_out = weight.shape[1:]
    padded = with_zero_row(feats)
    out = like(feats, kernel_map.num_outputs, c_out)
    for group in kernel_map.groups:
        taps = len(group.taps)
        matrix = _taps_of(weight, group.taps).reshape(taps * c_in, c_out)
        chunk = rows_per_chunk(taps * c_in, 64)
        by_row = group.neighbors.t()
        scratch = Scratch(feats, chunk * taps * c_in)
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
    padded = with_zero_row(feats)
    kernel = weight.view(3, 3, c_in, c_out).permute(3, 2, 0, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    out = like(feats, segments * (columns - 2), c_out)
    chunk = 4 * rows_per_chunk(3 * columns * c_in, 2)
    scratch = Scratch(feats, chunk * 3 * columns * c_in)
    for start in range(0, segments, chunk):
        index = strips.neighbors[start : start + chunk]
        gathered = scratch.gather(padded, index)
        images = gathered.view(len(index), 3, columns, c_in).permute(0, 3, 1, 2)
        result = torch.conv2d(images, kernel)  # [s, C_out, 1, columns - 2]
        first = start * (columns - 2)
        flat = result.permute(0, 2, 3, 1).reshape(-1, c_out)
        out[first : first + len(flat)] = flat
    return rows_of(out, strips.outputs)


def weight_gradient(
    feats: Float[Tensor, "N C_in"], grad: Float[Tensor, "M C_out"], kernel_map: KernelMap
) -> Float[Tensor, "9 C_in C_out"]:
    """Gradient of the weight of any of these convolutions: per tap, gathered inputsᵀ @ grad."""
    c_in, c_out = feats.shape[1], grad.shape[1]
    padded = with_zero_row(feats)
    out = feats.new_zeros(9, c_in, c_out)
    for group in kernel_map.groups:
        taps = len(group.taps)
        total = feats.new_zeros(taps * c_in, c_out)
        chunk = rows_per_chunk(taps * c_in, 64)
        by_row = group.neighbors.t()
        scratch = Scratch(feats, chunk * taps * c_in)
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

    It has the fewest MACs per pair of channels, where a row to gather or a block to transform
    counts as a number of further channels, and a weight to transform as a number of further blocks,
    as measured in float32 on two CPU cores at 5 to 35 % density (dev/LOG.md, 2026-11-27 and 28).
    With several threads, blocks cost more and strips do not: an image is one thread's from end to
    end. The transforms of Winograd's method lose too much in half precision.
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
        method: How to compute it; "auto" chooses by `choose_method`.
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
    """Strided convolution, or with `up` its inverse; `transposed` gives the input gradient."""
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


def _taps_of(weight: Tensor, taps: tuple[int, ...]) -> Tensor:
    if taps == tuple(range(9)):
        return weight
    return weight[list(taps)]
