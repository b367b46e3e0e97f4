"""Random problems for the native kernels: right or one clear error, never a crash.

`make fuzz` runs 10,000 cases under AddressSanitizer.
"""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from sparserefine.sparse import (
    ActivePixels,
    SparseTensor,
    native,
    pointwise_conv2d,
    sparse_conv2d,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)
from sparserefine.sparse.native import library

CASES = int(os.environ.get("FUZZ_CASES", "150"))
pytestmark = pytest.mark.skipif(
    isinstance(library.load(), str), reason="the native library was not built"
)
SIZES = st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 40))
CHANNELS = st.integers(1, 70)


def _rows(count: int, channels: int, layout: str) -> Tensor:
    """Rows as callers may have them: contiguous, in a wider array, or column by column."""
    if layout == "wide":
        return torch.randn(count, channels + 5)[:, 2 : channels + 2]
    if layout == "columns":
        return torch.randn(channels, count).t()
    return torch.randn(count, channels)


@settings(
    max_examples=CASES,
    deadline=None,
    derandomize=CASES < 1000,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    size=SIZES,
    density=st.sampled_from([0.0, 0.02, 0.3, 0.9, 1.0]),
    channels=st.tuples(CHANNELS, st.integers(0, 40), CHANNELS),
    layout=st.sampled_from(["contiguous", "wide", "columns"]),
    options=st.fixed_dictionaries(
        {name: st.booleans() for name in ("bias", "norm", "add", "gradients", "pyramid")}
    ),
    step=st.sampled_from([("dilate", 1), ("dilate", 0), ("floor", 1)]),
    seed=st.integers(0, 2**31),
)
def test_any_problem_agrees_with_the_reference(
    size: tuple[int, int, int],
    density: float,
    channels: tuple[int, int, int],
    layout: str,
    options: dict[str, bool],
    step: tuple[str, int],
    seed: int,
) -> None:
    torch.manual_seed(seed)
    first, second, c_out = channels
    mask = torch.rand(size) < density
    pixels = ActivePixels.from_mask(mask)
    x = SparseTensor(_rows(len(pixels), first, layout), pixels)
    beside = SparseTensor(_rows(len(pixels), second, layout), pixels) if second else None
    add = SparseTensor(_rows(len(pixels), c_out, layout), pixels) if options["add"] else None
    c_in = first + second
    bias = torch.randn(c_out) if options["bias"] else None
    norm = (torch.randn(c_in), torch.randn(c_in)) if options["norm"] else None
    weight, matrix = torch.randn(9, c_in, c_out), torch.randn(c_out, c_in)
    mode, padding = step
    if options["pyramid"]:
        one_by_one = ActivePixels.from_mask(mask)
        for level in native.build_levels(pixels, 4, mode, padding):  # type: ignore[arg-type]
            assert torch.equal(level.padded_index_grid, one_by_one.padded_index_grid)
            one_by_one = one_by_one.downsampling(mode, padding).coarse  # type: ignore[arg-type]
    if options["gradients"]:
        x.feats.requires_grad_()
        weight.requires_grad_()

    def run(backend: str) -> list[Tensor]:
        keyed = {"backend": backend, "bias": bias, "norm": norm}
        fine = submanifold_conv2d(x, weight, add=add, beside=beside, **keyed)  # type: ignore[arg-type]
        point = pointwise_conv2d(x, matrix, beside=beside, **keyed)  # type: ignore[arg-type]
        results = [fine.feats, point.feats]
        if not second:
            way = {"mode": mode, "padding": padding, "backend": backend}
            down = sparse_conv2d(x, weight, norm=norm, **way)  # type: ignore[arg-type]
            back = weight.transpose(1, 2)
            up = sparse_inverse_conv2d(down, pixels, back, **way)  # type: ignore[arg-type]
            results += [down.feats, up.feats]
        if options["gradients"]:
            total = sum(result.square().sum() for result in results)
            results += torch.autograd.grad(total, (x.feats, weight))  # type: ignore[arg-type]
        return [result.detach() for result in results]

    for found, wanted in zip(run("native"), run("reference"), strict=True):
        assert found.shape == wanted.shape
        # Squared results make larger gradients of their rounding errors. What is summed is of size
        # one, even where the only pixel there is happens to cancel.
        share = 3e-4 if options["gradients"] else 3e-5
        if found.numel():
            scale = max(float(wanted.abs().max()), 1.0)
            assert (found - wanted).abs().max() <= share * scale
