"""What the kernels must give: the definition in float64, and a bound per element with a reason."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sparserefine.sparse import KernelMap, reference


def assert_within_bound(y: Tensor, y64: Tensor, magnitude: Tensor, terms: int) -> None:
    """|y − y64| ≤ eps(out)·|y64| + n·eps(fp32)·(the same sum of absolute values)."""
    assert y.shape == y64.shape
    stored = torch.finfo(y.dtype)
    # Below its smallest normal number a format's steps stay as wide as they are there.
    bound = stored.eps * y64.abs().clamp(min=stored.smallest_normal)
    bound += terms * torch.finfo(torch.float32).eps * magnitude
    error = (y.double() - y64).abs()
    inside = error <= bound  # false for NaN too
    assert inside.all(), f"{(~inside).sum()} elements exceed their bound, by {error - bound}"


@dataclass(frozen=True)
class Answer:
    """Result and gradients of a convolution, or the sums of their terms' absolute values."""

    y: Tensor
    feats: Tensor
    weight: Tensor
    bias: Tensor


def answer(
    feats: Tensor, weight: Tensor, bias: Tensor, grad: Tensor, kernel_map: KernelMap
) -> Answer:
    """By the definition, in float64."""
    x, w, b = (t.detach().double().requires_grad_() for t in (feats, weight, bias))
    y = reference.convolve(x, w, kernel_map) + b
    y.backward(grad.double())
    assert x.grad is not None and w.grad is not None and b.grad is not None
    return Answer(y.detach(), x.grad, w.grad, b.grad)


def assert_answers(found: Answer, given: tuple[Tensor, ...], kernel_map: KernelMap) -> None:
    """Compare result and gradients for (feats, weight, bias, grad) with the definition."""
    right = answer(*given, kernel_map)
    size = answer(*(t.abs() for t in given), kernel_map)
    _, c_in, c_out = given[1].shape
    assert_within_bound(found.y, right.y, size.y, 9 * c_in + 1)
    assert_within_bound(found.feats, right.feats, size.feats, 9 * c_out)
    rows = max(kernel_map.num_outputs, 1)
    assert_within_bound(found.weight, right.weight, size.weight, rows)
    assert_within_bound(found.bias, right.bias, size.bias, rows)
