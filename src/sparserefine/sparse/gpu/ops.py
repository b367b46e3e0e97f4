"""The kernels as operators of torch: autograd, torch.compile, torch.export know what they do."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast

import torch
from torch import Tensor

from sparserefine.sparse.gpu import launch

Kind = Literal["submanifold", "strided", "inverse"]
Number: TypeAlias = int | torch.SymInt  # the latter while torch traces

# The gradient of each is another of them, with the matrices of the weights transposed.
_GRADIENT: dict[str, Kind] = {
    "submanifold": "submanifold",
    "strided": "inverse",
    "inverse": "strided",
}


@torch.library.custom_op(
    "sparserefine::convolve",
    mutates_args=(),
    schema=(
        "(Tensor feats, Tensor weight, Tensor? bias, Tensor own, Tensor? window, str kind, "
        "SymInt num_fine, int padding, bool allow_tf32) -> Tensor"
    ),
)
def convolve(
    feats: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    own: Tensor,
    window: Tensor | None,
    kind: str,
    num_fine: Number,
    padding: int,
    allow_tf32: bool,
) -> Tensor:
    """Any of the three convolutions.

    Args:
        feats: Input rows [N, C_in].
        weight: One matrix per tap [9, C_in, C_out].
        bias: Added to each row [C_out].
        own: int32 [9, rows], neighbors at the level of the output ("submanifold"), or at the
            coarse level.
        window: int32 [9, coarse rows], the fine rows in each coarse row's window; None for
            "submanifold".
        kind: Which convolution: "submanifold", "strided" or "inverse".
        num_fine: Number of rows of the fine level.
        padding: Zero padding of the strided convolution, 0 or 1.
        allow_tf32: Multiply float32 with 10 bits of mantissa, on tensor cores.
    """
    feats = _with_unit_stride(feats)
    out = feats.new_empty(_num_out(own, window, kind, num_fine), weight.shape[2])
    inverse = None
    neighbors, rows = own, own.shape[1]
    if kind == "strided":
        assert window is not None
        neighbors, rows = window, window.shape[1]
    elif kind == "inverse":
        assert window is not None
        inverse = launch.Inverse(window, int(num_fine), padding)
    launch.convolve(
        feats,
        weight.contiguous(),
        neighbors,
        rows,
        raw=out,
        bias=bias,
        inverse=inverse,
        allow_tf32=allow_tf32,
    )
    return out


@convolve.register_fake
def _(
    feats: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    own: Tensor,
    window: Tensor | None,
    kind: str,
    num_fine: Number,
    padding: int,
    allow_tf32: bool,
) -> Tensor:
    return feats.new_empty(_num_out(own, window, kind, num_fine), weight.shape[2])


@torch.library.custom_op(
    "sparserefine::weight_gradient",
    mutates_args=(),
    schema="(Tensor gathered, Tensor direct, Tensor neighbors, bool allow_tf32) -> Tensor",
)
def weight_gradient(
    gathered: Tensor, direct: Tensor, neighbors: Tensor, allow_tf32: bool
) -> Tensor:
    """Σ over rows of gathered[neighbors[tap, row]]ᵀ direct[row]; see `launch.weight_gradient`."""
    return launch.weight_gradient(
        _with_unit_stride(gathered),
        _with_unit_stride(direct),
        neighbors,
        allow_tf32=allow_tf32,
    )


@weight_gradient.register_fake
def _(gathered: Tensor, direct: Tensor, neighbors: Tensor, allow_tf32: bool) -> Tensor:
    return gathered.new_empty(neighbors.shape[0], gathered.shape[1], direct.shape[1])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    feats, weight, bias, own, window, kind, num_fine, padding, allow_tf32 = inputs
    ctx.save_for_backward(feats, weight, own, window)
    ctx.settings = kind, num_fine, padding, allow_tf32
    ctx.bias_dtype = None if bias is None else bias.dtype


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    feats, weight, own, window = ctx.saved_tensors
    kind, num_fine, padding, allow_tf32 = ctx.settings
    grad_feats = grad_weight = grad_bias = None
    if ctx.needs_input_grad[0]:
        turned = weight.transpose(1, 2)
        if kind == "submanifold":  # what a pixel gave its upper neighbor it gets back from it
            turned = turned.flip(0)
        grad_feats = convolve(
            grad, turned, None, own, window, _GRADIENT[kind], num_fine, padding, allow_tf32
        )
    if ctx.needs_input_grad[1]:
        if kind == "inverse":  # the pairs of the way down, seen from the other side
            grad_weight = weight_gradient(grad, feats, window, allow_tf32).transpose(1, 2)
        else:
            table = own if kind == "submanifold" else window
            grad_weight = weight_gradient(feats, grad, table, allow_tf32)
    if ctx.bias_dtype is not None and ctx.needs_input_grad[2]:
        grad_bias = grad.sum(0, dtype=torch.float32).to(ctx.bias_dtype)
    return grad_feats, grad_weight, grad_bias, None, None, None, None, None, None


convolve.register_autograd(_backward, setup_context=_keep)


def _num_out(own: Tensor, window: Tensor | None, kind: str, num_fine: Number) -> Number:
    if kind == "inverse":
        return num_fine
    return own.shape[1] if kind == "submanifold" else cast(Tensor, window).shape[1]


def _with_unit_stride(rows: Tensor) -> Tensor:
    return rows if rows.stride(1) == 1 or rows.shape[1] < 2 else rows.contiguous()
