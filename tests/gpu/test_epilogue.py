"""What a convolution does with its sums before it writes them, and how few rows it may walk."""

from __future__ import annotations

import pytest
import torch
from masks import MASKS
from oracle import assert_within_bound
from torch import Tensor

from sparserefine.sparse import ActivePixels, reference
from sparserefine.sparse.gpu import launch

pytestmark = pytest.mark.interpreter

DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)


@pytest.fixture
def pixels() -> ActivePixels:
    return ActivePixels.from_mask(MASKS["two_images_one_empty"])


@DTYPE
def test_everything_in_one_pass(pixels: ActivePixels, dtype: torch.dtype) -> None:
    n = len(pixels)
    x, residual, wide = (torch.randn(n, c, dtype=dtype) for c in (12, 24, 40))
    weight, skip_weight = torch.randn(9, 12, 24, dtype=dtype), torch.randn(40, 24, dtype=dtype)
    bias = torch.randn(24)
    scales, shifts = torch.rand(2, 24) + 0.5, torch.randn(2, 24)
    raw, first = torch.empty(n, 24, dtype=dtype), torch.empty(n, 24, dtype=dtype)
    both = torch.empty(n, 48, dtype=dtype)
    launch.convolve(
        x,
        weight,
        pixels.submanifold_map.groups[0].neighbors,
        n,
        raw=raw,
        bias=bias,
        residual=residual,
        skip=launch.Skip(wide, skip_weight),
        activations=(
            launch.Activation(scales[0], shifts[0], first),
            launch.Activation(scales[1], shifts[1], both[:, 24:]),
        ),
    )

    def total(change) -> Tensor:
        y = reference.convolve(change(x), change(weight), pixels.submanifold_map)
        return y + change(wide) @ change(skip_weight) + change(bias) + change(residual)

    y64, size = total(lambda t: t.double()), total(lambda t: t.double().abs())
    terms = 9 * 12 + 40 + 2
    assert_within_bound(raw, y64, size, terms)
    for out, scale, shift in zip((first, both[:, 24:]), scales, shifts, strict=True):
        activated = torch.relu(y64 * scale + shift)
        assert_within_bound(out, activated, size * scale + shift.abs(), terms + 2)


@pytest.mark.parametrize("padding", [0, 1])
def test_an_inverse_convolution_normalizes_every_fine_pixel(padding: int) -> None:
    """Those that no coarse pixel reaches too: at padding 0 there are some at the lower border."""
    pixels = ActivePixels.from_mask(MASKS["corners"])
    step = pixels.downsampling("dilate", padding)
    coarse = step.coarse
    x, weight = torch.randn(len(coarse), 6), torch.randn(9, 6, 4)
    scale, shift = torch.rand(4) + 0.5, torch.randn(4)
    raw, active = torch.empty(len(pixels), 4), torch.empty(len(pixels), 4)
    launch.convolve(
        x,
        weight,
        coarse.submanifold_map.groups[0].neighbors,
        len(coarse),
        raw=raw,
        activations=(launch.Activation(scale, shift, active),),
        inverse=launch.Inverse(step.down.groups[0].neighbors, len(pixels), padding),
    )
    y64 = reference.convolve(x.double(), weight.double(), step.up)
    size = reference.convolve(x.double().abs(), weight.double().abs(), step.up)
    assert_within_bound(raw, y64, size, 54)
    assert_within_bound(active, torch.relu(y64 * scale + shift), size * scale + shift.abs(), 56)
    if padding == 0:
        assert (y64 == 0).all(1).any()


def test_only_rows_that_exist_are_written(pixels: ActivePixels) -> None:
    n, capacity = len(pixels), 192
    x, weight = torch.randn(capacity, 8), torch.randn(9, 8, 8)
    table = torch.full((9, capacity), 12345, dtype=torch.int32)
    table[:, :n] = pixels.submanifold_map.groups[0].neighbors
    table[table == n] = -1
    out = torch.full((capacity, 8), 7.0)
    launch.convolve(x, weight, table, capacity, raw=out, count=torch.tensor(n, dtype=torch.int32))
    y64 = reference.convolve(x[:n].double(), weight.double(), pixels.submanifold_map)
    torch.testing.assert_close(out[:n], y64.float())
    assert (out[n:] == 7).all()


def test_neighbors_beyond_the_input_count_as_absent(pixels: ActivePixels) -> None:
    """As after an overflow: wrong results, but no access out of bounds."""
    n = len(pixels)
    x, weight = torch.randn(n, 8), torch.randn(9, 8, 8)
    table = pixels.submanifold_map.groups[0].neighbors
    half = n // 2
    out = torch.empty(n, 8)
    launch.convolve(x[:half], weight, table, n, raw=out)
    zeroed = x.clone()
    zeroed[half:] = 0
    full = torch.empty(n, 8)
    launch.convolve(zeroed, weight, table, n, raw=full)
    assert torch.equal(out, full)
