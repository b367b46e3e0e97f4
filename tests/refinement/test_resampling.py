"""Against torch's interpolate, which makes the array that we avoid."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sparserefine.refinement.resampling import sample, upsampled_labels

SIZES = pytest.mark.parametrize(
    ("grid", "size"),
    [
        ((8, 12), (16, 24)),
        ((8, 12), (15, 23)),
        ((7, 5), (20, 31)),
        ((1, 1), (3, 5)),
        ((4, 4), (4, 4)),
    ],
    ids=str,
)


def _interpolated(logits: torch.Tensor, size: tuple[int, int], mode: str) -> torch.Tensor:
    if mode == "bilinear":
        return F.interpolate(logits, size, mode="bilinear", align_corners=False)
    return F.interpolate(logits, size, mode="nearest-exact")


@SIZES
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_sample_is_interpolate_read_at_pixels(
    grid: tuple[int, int], size: tuple[int, int], mode: str
) -> None:
    logits = torch.randn(2, 6, *grid)
    coords = (torch.rand(2, *size) < 0.5).nonzero().int()
    batch, y, x = coords.long().unbind(1)
    expected = _interpolated(logits, size, mode)[batch, :, y, x]
    torch.testing.assert_close(sample(logits, coords, size, mode), expected, atol=1e-5, rtol=1e-5)


@SIZES
@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_labels_are_the_argmax_of_interpolate(
    grid: tuple[int, int], size: tuple[int, int], mode: str
) -> None:
    # Integer logits at exact halves would tie; random ones never do.
    logits = torch.randn(2, 6, *grid)
    expected = _interpolated(logits, size, mode).argmax(1)
    assert torch.equal(upsampled_labels(logits, size, mode).long(), expected)


def test_settled_pixels_may_be_anything_and_the_rest_is_right() -> None:
    logits = torch.randn(1, 4, 6, 6)
    settled = torch.rand(1, 12, 12) < 0.3
    full = upsampled_labels(logits, (12, 12))
    found = upsampled_labels(logits, (12, 12), settled=settled)
    assert torch.equal(found[~settled], full[~settled])


def test_more_than_256_classes() -> None:
    logits = torch.randn(1, 300, 2, 2)
    labels = upsampled_labels(logits, (4, 4))
    assert labels.dtype == torch.int32
    assert torch.equal(labels.long(), F.interpolate(logits, (4, 4), mode="bilinear").argmax(1))
