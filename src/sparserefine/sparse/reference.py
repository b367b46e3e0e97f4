"""The definition of the sparse convolution, one kernel offset after the other.

Slow, boring, any dtype, differentiable by autograd. Everything faster is tested against this,
and this against `torch.nn.functional.conv2d`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from sparserefine.sparse.kernel_map import KernelMap


def convolve(
    feats: Float[Tensor, "N C_in"], weight: Float[Tensor, "9 C_in C_out"], kernel_map: KernelMap
) -> Float[Tensor, "M C_out"]:
    """y[m] = sum over the pairs (n, v) of m in `kernel_map` of feats[n] @ weight[v]."""
    out = feats.new_zeros(kernel_map.num_outputs, weight.shape[2])
    for tap, inputs, outputs in kernel_map.pairs:
        product = feats.index_select(0, inputs) @ weight[tap]
        out = torch.index_add(out, 0, outputs, product)
    return out
