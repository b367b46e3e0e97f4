"""What users get wrong is answered in one clear line. Shapes and dtypes: test_bad_operands."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from sparserefine.sparse import (
    ActivePixels,
    SparseTensor,
    SubMConv2d,
    cat,
    sparse_inverse_conv2d,
    submanifold_conv2d,
)

PIXELS = ActivePixels.from_mask(torch.ones(1, 3, 4, dtype=torch.bool))
OTHERS = ActivePixels.from_mask(torch.ones(1, 3, 4, dtype=torch.bool))
X = SparseTensor(torch.ones(12, 2), PIXELS)
ELSEWHERE = SparseTensor(torch.ones(12, 2), OTHERS)
WEIGHT = torch.ones(9, 2, 5)


def _coords(*rows: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.int32)


CASES: dict[str, tuple[Callable[[], object], str]] = {
    "channels": (
        lambda: submanifold_conv2d(X, torch.ones(9, 3, 5)),
        r"x has 2 features, but the weight expects 3\. Make the layer with in_channels=2",
    ),
    "dtype of the weight": (
        lambda: submanifold_conv2d(X, WEIGHT.double()),
        r"x is torch\.float32 on cpu, but the weight is torch\.float64",
    ),
    "dtype of a layer": (
        lambda: SubMConv2d(2, 5).to(torch.float64)(X),
        r"Move both to one dtype and device",
    ),
    "device": (
        lambda: submanifold_conv2d(X, WEIGHT.to("meta")),
        r"x is torch\.float32 on cpu, but the weight is torch\.float32 on meta",
    ),
    "other pixels to add": (
        lambda: submanifold_conv2d(X, WEIGHT, add=ELSEWHERE),
        r"the second tensor has other active pixels than x",
    ),
    "channels to add": (
        lambda: submanifold_conv2d(X, WEIGHT, add=X),
        r"add has 2 features, but the result has 5",
    ),
    "other pixels of skip": (
        lambda: submanifold_conv2d(X, WEIGHT, skip=ELSEWHERE),
        r"the second tensor has other active pixels than x",
    ),
    "other pixels to concatenate": (
        lambda: cat([X, ELSEWHERE]),
        r"the tensors to concatenate have different active pixels",
    ),
    "back onto strangers": (
        lambda: sparse_inverse_conv2d(X, OTHERS, WEIGHT),
        r"were not made from the pixels at stride 1",
    ),
    "rows": (
        lambda: SparseTensor(torch.ones(11, 2), PIXELS),
        r"feats have 11 rows, but there are 12 active pixels",
    ),
    "index too large": (
        lambda: ActivePixels.from_coords(_coords((0, 0, 4)), (3, 4), 1),
        r"\[0, 0, 4\], which is outside 1 images of 3×4\. Indices start at 0",
    ),
    "index below zero": (
        lambda: ActivePixels.from_coords(_coords((0, -2, 0)), (3, 4), 1),
        r"outside 1 images of 3×4",
    ),
    "index out of range, unchecked constructor": (
        lambda: submanifold_conv2d(
            SparseTensor(torch.ones(1, 2), ActivePixels(_coords((0, -2, 0)), (3, 4), 1)), WEIGHT
        ),
        r"outside 1 images of 3×4",
    ),
    "index twice": (
        lambda: ActivePixels.from_coords(_coords((0, 1, 1), (0, 1, 1)), (3, 4), 1),
        r"coords name some pixels more than once \(2 rows\)",
    ),
    "too many cells": (
        lambda: ActivePixels(_coords((0, 0, 0)), (50_000, 50_000), 1),
        r"1 images of 50000×50000 need an index grid of more than 2\^31 cells",
    ),
    "padding": (lambda: PIXELS.downsampling("floor", 0), r'padding=0 does not fit mode "floor"'),
}


@pytest.mark.parametrize(("call", "message"), CASES.values(), ids=CASES.keys())
def test_one_clear_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("c_in", "c_out"), [(0, 3), (3, 0)])
def test_no_channels(c_in: int, c_out: int) -> None:
    x = SparseTensor(torch.ones(12, c_in), PIXELS)
    y = submanifold_conv2d(x, torch.ones(9, c_in, c_out), torch.ones(c_out))
    assert torch.equal(y.feats, torch.ones(12, c_out))


@pytest.mark.parametrize("batch", [0, 2])
def test_no_pixels(batch: int) -> None:
    pixels = ActivePixels.from_mask(torch.zeros(batch, 5, 6, dtype=torch.bool))
    x = SparseTensor(torch.zeros(0, 2), pixels)
    assert submanifold_conv2d(x, WEIGHT).feats.shape == (0, 5)
