"""Float32 operands are rounded for tensor cores, which would cut them off."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sparserefine.sparse.gpu import launch

pytestmark = pytest.mark.interpreter

TF32_EPS = 2.0**-10


def nearest_tf32(x: Tensor) -> Tensor:
    """The definition, in float64: a multiple of the step of its binade, ties away from zero."""
    steps = torch.ldexp(torch.ones_like(x.double()), torch.frexp(x.double()).exponent - 11)
    shares = x.double() / steps
    return (torch.sign(shares) * torch.floor(shares.abs() + 0.5) * steps).float()


def through_a_kernel(values: Tensor) -> Tensor:
    """Each value times 1, as a 1×1 convolution of one channel forms it."""
    x, out = values[:, None].contiguous(), torch.empty(len(values), 1)
    launch.convolve(x, torch.ones(1, 1, 1), None, len(x), raw=out, allow_tf32=True)
    return out[:, 0]


def test_operands_are_the_nearest_numbers_of_tf32() -> None:
    values = torch.cat([torch.randn(200), torch.randn(50) * 1e-20, torch.randn(50) * 1e20])
    tie = torch.tensor([1 + 2.0**-11, -1 - 2.0**-11, 1 + 2.0**-11 - 2.0**-23, 0.0])
    values = torch.cat([values, tie])
    assert torch.equal(through_a_kernel(values), nearest_tf32(values))


@pytest.mark.filterwarnings("ignore:invalid value encountered in matmul:RuntimeWarning")
def test_nan_and_infinity_stay() -> None:
    # The NaN that CUDA makes has all bits set: rounding up would make a small number of it.
    cuda_nan = torch.tensor([0x7FFFFFFF], dtype=torch.int32).view(torch.float32)
    values = torch.cat([cuda_nan, torch.tensor([math.nan])])
    assert through_a_kernel(values).isnan().all()
    infinite = through_a_kernel(torch.tensor([math.inf, torch.finfo(torch.float32).max]))
    assert infinite.isinf().all()


def test_weight_gradients_are_sums_of_rounded_products() -> None:
    a, b = torch.randn(40, 16), torch.randn(40, 16)
    found = launch.weight_gradient(a, b, None, allow_tf32=True)[0]
    exact = nearest_tf32(a).double().t() @ nearest_tf32(b).double()
    bound = 40 * torch.finfo(torch.float32).eps * (a.double().abs().t() @ b.double().abs())
    assert ((found - exact).abs() <= bound).all()
    unrounded = a.double().t() @ b.double()
    assert (found - unrounded).abs().max() > TF32_EPS / 100
