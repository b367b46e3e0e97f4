"""The three sparse convolutions on a GPU, as calls of the operators in `ops`."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.choice import is_exact
from sparserefine.sparse.gpu import ops
from sparserefine.sparse.kernel_map import KernelMap
from sparserefine.sparse.pixels import ActivePixels, Downsampling


def convolve_submanifold(
    feats: Float[Tensor, "N C_in"],
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None,
    pixels: ActivePixels,
) -> Float[Tensor, "N C_out"]:
    """Submanifold convolution, as `submanifold_conv2d` defines it."""
    own = _table(pixels.submanifold_map)
    return ops.convolve(
        feats, weight, bias, own, None, "submanifold", len(pixels), 1, allow_tf32(feats)
    )


def convolve_step(
    feats: Float[Tensor, "N C_in"],
    weight: Float[Tensor, "9 C_in C_out"],
    bias: Float[Tensor, " C_out"] | None,
    step: Downsampling,
    *,
    up: bool,
) -> Float[Tensor, "M C_out"]:
    """Strided convolution as `sparse_conv2d` defines it, or with `up` its inverse."""
    return ops.convolve(
        feats,
        weight,
        bias,
        _table(step.coarse.submanifold_map),
        _table(step.down),
        "inverse" if up else "strided",
        len(step.fine),
        step.padding,
        allow_tf32(feats),
    )


def allow_tf32(feats: Tensor) -> bool:
    """Whether to multiply float32 on tensor cores: as torch.set_float32_matmul_precision says."""
    if feats.dtype != torch.float32 or is_exact():
        return False
    return torch.get_float32_matmul_precision() != "highest"


def _table(kernel_map: KernelMap) -> Tensor:
    """The neighbors of a map whose rows all have nine taps."""
    (group,) = kernel_map.groups
    return group.neighbors
