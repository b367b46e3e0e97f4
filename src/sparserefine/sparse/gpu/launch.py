"""Launches of the kernels: block shapes, grids and addresses; no autograd, no checks of inputs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from sparserefine.sparse.gpu.convolution_kernel import (
    COMPACT,
    POINTWISE,
    TABLE,
    convolution_kernel,
)
from sparserefine.sparse.gpu.shapes import (
    ConvolutionShape,
    convolution_shape,
    gradient_shape,
    number_format,
)
from sparserefine.sparse.gpu.weight_kernel import partial_gradient_kernel, sum_partials_kernel

# Where there is no device to ask (the interpreter), shapes are those of this one.
INTERPRETED_CAPABILITY = 80
# Offsets into larger arrays need 64 bits.
_MAX_INT32 = 2**31 - 1
_SUM_BLOCK = 1024


@dataclass(frozen=True, eq=False)
class Inverse:
    """Arguments that turn a walk over coarse rows into an inverse convolution.

    Attributes:
        children: Fine row in each cell of the 3×3 window of every coarse row: the table of the
            strided convolution that led down.
        num_fine: Number of fine rows.
        padding: Zero padding of the strided convolution that led down, 0 or 1.
    """

    children: Int[Tensor, "9 rows"]
    num_fine: int
    padding: int


@dataclass(frozen=True, eq=False)
class Activation:
    """A receiver of relu(y · scale + shift).

    Attributes:
        scale: Factor per output channel, float32.
        shift: Summand per output channel, float32.
        out: Receives the rows of output channels; may be a slice of the columns of wider rows.
    """

    scale: Float[Tensor, " C"]
    shift: Float[Tensor, " C"]
    out: Float[Tensor, "rows C"]


@dataclass(frozen=True, eq=False)
class Skip:
    """Rows that a 1×1 convolution adds to the result, in the same pass.

    Attributes:
        feats: One row per output row.
        weight: The 1×1 weights.
    """

    feats: Float[Tensor, "rows C_skip"]
    weight: Float[Tensor, "C_skip C_out"]


def convolve(
    x: Float[Tensor, "num_in C_in"],
    weight: Float[Tensor, "V C_in C_out"],
    neighbors: Shaped[Tensor, "T rows"] | None,
    num_rows: int,
    *,
    raw: Float[Tensor, "num_out C_out"] | None = None,
    activations: tuple[Activation, ...] = (),
    bias: Float[Tensor, " C_out"] | None = None,
    residual: Float[Tensor, "num_out C_out"] | None = None,
    skip: Skip | None = None,
    inverse: Inverse | None = None,
    count: Int[Tensor, ""] | None = None,
    allow_tf32: bool = False,
    shape: ConvolutionShape | None = None,
) -> None:
    """Convolve rows of features and write the result where the arguments say.

    Args:
        x: Input rows.
        weight: One contiguous matrix per tap, in the dtype of `x`.
        neighbors: int32 [9, rows]: input row of each tap; int16 [3, rows]: the compact form; None:
            every row meets itself (1×1). With `inverse` it is the coarse level's own.
        num_rows: Rows of `neighbors` to walk.
        raw: Receives y.
        activations: Up to two receivers of relu(y · scale + shift).
        bias: Added to y, float32 or the dtype of `x`.
        residual: Added to y, row by row.
        skip: Added to y through a 1×1 convolution.
        inverse: Makes it an inverse convolution.
        count: int32 on the device: how many of the rows exist. Others are neither read nor
            written.
        allow_tf32: Multiply float32 with 10 bits of mantissa, on tensor cores.
        shape: Block shape of the kernel. Default: the entry in the table for this device and these
            channels.
    """
    taps, c_in, c_out = weight.shape
    if inverse and inverse.padding == 0:
        _fill_orphans(raw, activations, bias)
    if num_rows == 0 or c_out == 0:
        return
    form = number_format(x.dtype, allow_tf32)
    # Wide blocks are there to gather rows less often, and 1×1 gathers none.
    width = min(c_out, 128) if neighbors is None else c_out
    shape = shape or convolution_shape(_capability(x), form, c_in, width)
    first, second = (*activations, None, None)[:2]
    outputs = [t for t in (raw, first and first.out, second and second.out) if t is not None]
    num_out = num_rows if inverse is None else inverse.num_fine
    others = (residual, skip and skip.feats, neighbors, inverse and inverse.children)
    addressed = [x, *outputs] + [t for t in others if t is not None]
    children = (3 - inverse.padding) ** 2 if inverse else 1
    grid = (_tiles(num_rows, shape.rows) * _tiles(c_out, shape.outputs), children)
    with torch.cuda.device_of(x):
        convolution_kernel[grid](
            x,
            weight,
            neighbors,
            inverse and inverse.children,
            count,
            skip and skip.feats,
            skip and skip.weight,
            bias,
            residual,
            raw,
            first and first.scale,
            first and first.shift,
            first and first.out,
            second and second.scale,
            second and second.shift,
            second and second.out,
            x.shape[0],
            num_rows,
            num_out,
            x.stride(0),
            0 if neighbors is None else neighbors.stride(0),
            inverse.children.stride(0) if inverse else 0,
            skip.feats.stride(0) if skip else 0,
            0 if residual is None else residual.stride(0),
            0 if raw is None else raw.stride(0),
            first.out.stride(0) if first else 0,
            second.out.stride(0) if second else 0,
            C_IN=c_in,
            C_OUT=c_out,
            C_SKIP=skip.feats.shape[1] if skip else 0,
            TAPS=taps,
            FORM=_form(neighbors),
            INVERSE=inverse is not None,
            PADDING=inverse.padding if inverse else 0,
            WIDE=_needs_64_bits(addressed),
            PRECISION="tf32" if form == "tf32" else "ieee",
            BLOCK_M=shape.rows,
            BLOCK_N=shape.outputs,
            BLOCK_K=shape.inputs,
            AHEAD=shape.ahead,
            NARROW=shape.narrow,
            **shape.options,
        )


def _fill_orphans(
    raw: Tensor | None, activations: tuple[Activation, ...], bias: Tensor | None
) -> None:
    """Write what an empty sum gives: without padding the last fine pixels may have no coarse one.

    Rows that do have one are overwritten later.
    """
    value = 0 if bias is None else bias.float()
    if raw is not None:
        raw.copy_(torch.zeros_like(raw) + value)
    for activation in activations:
        row = torch.relu(value * activation.scale + activation.shift)
        activation.out.copy_(row.to(activation.out.dtype).expand_as(activation.out))


def weight_gradient(
    gathered: Float[Tensor, "num_in C_gathered"],
    direct: Float[Tensor, "rows C_direct"],
    neighbors: Int[Tensor, "9 rows"] | None,
    *,
    allow_tf32: bool = False,
) -> Float[Tensor, "V C_gathered C_direct"]:
    """Σ over rows of gathered[neighbors[tap, row]]ᵀ direct[row], for every tap.

    Args:
        gathered: Rows that the taps choose from.
        direct: Rows that are taken in order.
        neighbors: Row of `gathered` for each tap and row, int32; None for 1×1.
        allow_tf32: Multiply float32 with 10 bits of mantissa, on tensor cores.

    Returns:
        One matrix per tap in the dtype of `gathered`, summed in float32 in the same order every
        time.
    """
    num_rows, c_direct = direct.shape
    c_gathered = gathered.shape[1]
    taps = 1 if neighbors is None else neighbors.shape[0]
    out = gathered.new_empty(taps, c_gathered, c_direct)
    if out.numel() == 0:
        return out
    form = number_format(gathered.dtype, allow_tf32)
    shape = gradient_shape(_capability(gathered), form, c_gathered, c_direct)
    tiles = taps * _tiles(c_gathered, shape.gathered) * _tiles(c_direct, shape.direct)
    # Two blocks per multiprocessor; a chunk of few pixels would only add partial sums.
    wanted = _tiles(2 * _multiprocessors(gathered), tiles)
    chunk = max(_tiles(num_rows, wanted), 4 * shape.pixels)
    chunk = _tiles(chunk, shape.pixels) * shape.pixels
    chunks = max(_tiles(num_rows, chunk), 1)
    partial = gathered.new_empty(chunks, *out.shape, dtype=torch.float32)
    with torch.cuda.device_of(gathered):
        partial_gradient_kernel[(tiles, chunks)](
            gathered,
            direct,
            neighbors,
            partial,
            gathered.shape[0],
            num_rows,
            chunk,
            gathered.stride(0),
            direct.stride(0),
            0 if neighbors is None else neighbors.stride(0),
            C_GATHERED=c_gathered,
            C_DIRECT=c_direct,
            TAPS=taps,
            WIDE=_needs_64_bits(t for t in (gathered, direct, neighbors) if t is not None),
            PRECISION="tf32" if form == "tf32" else "ieee",
            BLOCK_P=shape.pixels,
            BLOCK_G=shape.gathered,
            BLOCK_D=shape.direct,
            **shape.options,
        )
        size = out.numel()
        sum_partials_kernel[(_tiles(size, _SUM_BLOCK),)](
            partial, out, chunks, size, BLOCK=_SUM_BLOCK
        )
    return out


def _form(neighbors: Tensor | None) -> int:
    if neighbors is None:
        return POINTWISE
    return COMPACT if neighbors.dtype == torch.int16 else TABLE


def _capability(tensor: Tensor) -> int:
    if not tensor.is_cuda:
        return INTERPRETED_CAPABILITY
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


def _multiprocessors(tensor: Tensor) -> int:
    if not tensor.is_cuda:
        return 4  # a few chunks, so that the interpreter's sums are split too
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


def _tiles(length: int, block: int) -> int:
    return -(-length // block)


def _needs_64_bits(arrays: Iterable[Tensor]) -> bool:
    """Whether one of the arrays, which may be slices of wider ones, is too long for 32 bits."""
    return any(array.shape[0] * array.stride(0) > _MAX_INT32 for array in arrays)
