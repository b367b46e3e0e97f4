"""Calls of the compiled CPU kernels; no autograd here (see `functional`)."""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.memory import empty_rows
from sparserefine.sparse.native import maps
from sparserefine.sparse.native.eager import eagerly
from sparserefine.sparse.native.library import (
    Blocks,
    Convolution,
    Windows,
    loaded,
    num_threads,
)
from sparserefine.sparse.native.maps import ActiveBlocks, OutputRows
from sparserefine.sparse.native.plan import SORTED_CHANNELS, Method, choose_method
from sparserefine.sparse.native.weights import packed
from sparserefine.sparse.operands import Norm
from sparserefine.sparse.pixels import ActivePixels, Downsampling

_BLOCKS: dict[str, Callable[[ActivePixels], ActiveBlocks]] = {
    "winograd2": maps.blocks_2x2,
    "winograd4": maps.blocks_4x4,
}


@eagerly
def convolve_submanifold(
    feats: Float[Tensor, "N _"],
    weight: Float[Tensor, "9 _ _"],
    pixels: ActivePixels,
    *,
    second: Float[Tensor, "N _"] | None = None,
    bias: Float[Tensor, " _"] | None = None,
    norm: Norm | None = None,
    add: Float[Tensor, "N _"] | None = None,
    transposed: bool = False,
    method: Method | None = None,
) -> Float[Tensor, "M _"]:
    """3×3 convolution at the active pixels.

    Args:
        feats: One row per active pixel.
        weight: One matrix per tap.
        pixels: The active pixels.
        second: More channels of the same rows, which follow those of `feats`.
        bias: Added to each row.
        norm: Scale and shift of each input channel; the input becomes max(x · scale + shift, 0).
        add: Added to the result.
        transposed: Compute the gradient of the input from that of the output: the same
            convolution with taps reversed and matrices transposed.
        method: How to compute it. Default: the method that costs least by the model in `plan`.
    """
    c_in, c_out = weight.shape[1:] if not transposed else (weight.shape[2], weight.shape[1])
    method = method or choose_method(pixels, c_in, c_out)
    out = empty_rows(len(pixels), c_out)
    weights = packed(weight, method, transpose=transposed, flip=transposed)
    call = _Call(feats, weights, out, second, bias, norm, add)
    if method == "direct":
        sort = c_in >= SORTED_CHANNELS
        call.direct(pixels.keep(maps.sorted_rows if sort else maps.submanifold_rows))
    else:
        call.winograd(pixels.keep(_BLOCKS[method]))
    return out


@eagerly
def convolve_step(
    feats: Float[Tensor, "N _"],
    weight: Float[Tensor, "9 _ _"],
    step: Downsampling,
    *,
    up: bool,
    bias: Float[Tensor, " _"] | None = None,
    norm: Norm | None = None,
    transposed: bool = False,
) -> Float[Tensor, "M _"]:
    """Strided convolution, or with `up` its inverse; see `convolve_submanifold` for arguments."""
    c_out = weight.shape[1] if transposed else weight.shape[2]
    out = empty_rows(len(step.fine if up else step.coarse), c_out)
    call = _Call(feats, packed(weight, "direct", transpose=transposed), out, None, bias, norm)
    for rows in step.keep(maps.inverse_rows if up else maps.strided_rows):
        call.direct(rows)
    return out


@eagerly
def convolve_pointwise(
    feats: Float[Tensor, "N C"],
    weight: Float[Tensor, "C_out C_in"],
    *,
    second: Float[Tensor, "N C2"] | None = None,
    bias: Float[Tensor, " C_out"] | None = None,
    norm: Norm | None = None,
) -> Float[Tensor, "N C_out"]:
    """1×1 convolution, with a weight as torch's `linear` takes it."""
    out = empty_rows(len(feats), len(weight))
    weights = packed(weight, "direct", transpose=True)
    _Call(feats, weights, out, second, bias, norm).pointwise(len(feats))
    return out


@eagerly
def submanifold_weight_gradient(
    feats: Float[Tensor, "N C_in"],
    grad: Float[Tensor, "N C_out"],
    pixels: ActivePixels,
    method: Method | None = None,
) -> Float[Tensor, "9 C_in C_out"]:
    """Gradient of the weight of `convolve_submanifold`, from the gradient of its output."""
    c_in, c_out = feats.shape[1], grad.shape[1]
    gradient = feats.new_zeros(9, c_in, c_out)
    method = method or choose_method(pixels, c_in, c_out, gradient=True)
    call = _Call(feats, None, grad)
    if method == "direct":
        call.direct_gradient(pixels.keep(maps.submanifold_rows), gradient)
    else:
        call.winograd_gradient(pixels.keep(_BLOCKS[method]), gradient)
    return gradient


@eagerly
def step_weight_gradient(
    feats: Float[Tensor, "N C_in"],
    grad: Float[Tensor, "M C_out"],
    step: Downsampling,
    *,
    up: bool,
) -> Float[Tensor, "9 C_in C_out"]:
    """Gradient of the weight of `convolve_step`, from the gradient of its output."""
    gradient = feats.new_zeros(9, feats.shape[1], grad.shape[1])
    call = _Call(feats, None, grad)
    for rows in step.keep(maps.inverse_rows if up else maps.strided_rows):
        call.direct_gradient(rows, gradient)
    return gradient


class _Call:
    """One convolution as the kernels see it. Keeps its arrays alive while they run."""

    def __init__(
        self,
        feats: Tensor,
        weights: Tensor | None,
        out: Tensor,
        second: Tensor | None = None,
        bias: Tensor | None = None,
        norm: Norm | None = None,
        add: Tensor | None = None,
    ) -> None:
        scale, shift = norm or (None, None)
        feats, self.out = _as_rows(feats), _as_rows(out)
        second, add = (None if part is None else _as_rows(part) for part in (second, add))
        scale, shift, bias = (
            None if part is None else part.float().contiguous() for part in (scale, shift, bias)
        )
        self.arrays = (feats, second, weights, scale, shift, bias, add)
        self.c = Convolution(
            feats=(feats.data_ptr(), _address(second)),
            feats_stride=(feats.stride(0), 0 if second is None else second.stride(0)),
            channels=(feats.shape[1], 0 if second is None else second.shape[1]),
            scale=_address(scale),
            shift=_address(shift),
            weight=_address(weights),
            bias=_address(bias),
            add=_address(add),
            add_stride=0 if add is None else add.stride(0),
            out=self.out.data_ptr(),
            out_stride=self.out.stride(0),
            out_channels=out.shape[1],
        )

    def direct(self, rows: OutputRows) -> None:
        self.c.grid = rows.grid.data_ptr()
        self._run("sr_direct", rows.to_c())

    def pointwise(self, count: int) -> None:
        tap = torch.zeros(1, dtype=torch.int32)
        windows = Windows(count=count, taps=1, tap_ids=tap.data_ptr(), tap_offsets=tap.data_ptr())
        self._run("sr_direct", windows)

    def winograd(self, blocks: ActiveBlocks) -> None:
        self.c.grid = blocks.grid.data_ptr()
        self._run("sr_winograd", blocks.to_c())

    # In the gradients, `out` holds the gradients of the output.

    def direct_gradient(self, rows: OutputRows, gradient: Tensor) -> None:
        self.c.grid = rows.grid.data_ptr()
        arrays = (self.out.data_ptr(), self.out.stride(0), gradient.data_ptr())
        self._run("sr_direct_weight_gradient", rows.to_c(), *arrays)

    def winograd_gradient(self, blocks: ActiveBlocks, gradient: Tensor) -> None:
        self.c.grid = blocks.grid.data_ptr()
        arrays = (self.out.data_ptr(), self.out.stride(0), gradient.data_ptr())
        self._run("sr_winograd_weight_gradient", blocks.to_c(), *arrays)

    def _run(self, kernel: str, where: Windows | Blocks, *arrays: int) -> None:
        library = loaded()
        arguments = ctypes.byref(self.c), ctypes.byref(where), *arrays
        if getattr(library.c, kernel)(library.isa, *arguments, num_threads()) != 0:
            raise MemoryError("a convolution found no working memory. Use smaller images.")


def _address(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _as_rows(tensor: Tensor) -> Tensor:
    """Rows whose channels lie side by side; the rows themselves may be apart."""
    return tensor if tensor.stride(1) == 1 else tensor.contiguous()
