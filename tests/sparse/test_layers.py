"""The layers as their users write them."""

from __future__ import annotations

import torch

from sparserefine.sparse import (
    ActivePixels,
    SparseConv2d,
    SparseInverseConv2d,
    SparseTensor,
    SubMConv2d,
)

PIXELS = ActivePixels.from_mask(torch.ones(1, 4, 6, dtype=torch.bool))
X = SparseTensor(torch.randn(24, 3), PIXELS)


def test_first_arguments_are_those_of_spconv() -> None:
    """(in_channels, out_channels, kernel_size, stride, padding)."""
    same = SubMConv2d(3, 8, 3, bias=False)
    down = SparseConv2d(8, 16, 3, 2, 1, bias=False)
    up = SparseInverseConv2d(16, 8, 3, bias=False)
    y = same(X)
    z = up(down(y), y.pixels)
    assert z.feats.shape == (24, 8) and z.stride == 1
    assert [p.shape[0] for layer in (same, down, up) for p in layer.parameters()] == [9, 9, 9]


def test_repr_says_what_a_layer_is() -> None:
    assert repr(SubMConv2d(3, 8)) == "SubMConv2d(3, 8, kernel_size=3, stride=1, bias=True)"
    assert repr(SparseConv2d(3, 8, padding=0, bias=False)) == (
        "SparseConv2d(3, 8, kernel_size=3, stride=2, bias=False, mode='dilate', padding=0)"
    )


def test_the_mask_of_pixels_in_any_order() -> None:
    mask = torch.rand(2, 5, 7) < 0.4
    pixels = ActivePixels.from_mask(mask)
    assert torch.equal(pixels.mask, mask)
    shuffled = ActivePixels(pixels.coords[torch.randperm(len(pixels))], (5, 7), 2)
    assert torch.equal(shuffled.mask, mask)


def test_a_tensor_moves_with_its_pixels() -> None:
    assert X.to("cpu").pixels is PIXELS
    assert X.to(torch.float64).feats.dtype == torch.float64
    assert X.to(torch.float64).pixels is PIXELS
    there, also_there = X.to("meta"), X.replace(X.feats + 1).to("meta")
    assert there.feats.device == there.coords.device == torch.device("meta")
    assert there.pixels is also_there.pixels  # so that one can be added to the other
    assert (there.spatial_shape, there.batch_size, there.stride) == ((4, 6), 1, 1)
