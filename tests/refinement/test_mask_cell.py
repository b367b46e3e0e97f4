"""How coarse masks are found to be, and what they say then."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from sparserefine.refinement.mask_cell import FINEST, cell_of, measured_cell, soft_masks


def disk(height: int, width: int) -> Tensor:
    """A disk with a bite, in proportions of the mask."""
    y = (torch.arange(height) + 0.5) / height - 0.5
    x = (torch.arange(width) + 0.5) / width - 0.5
    inside = torch.hypot(y[:, None], x) < 0.37
    bite = torch.hypot(y[:, None] - 0.2, x - 0.25) < 0.2
    return inside & ~bite


def enlarged(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask[None, None].float(), size, mode="nearest-exact")[0, 0] > 0.5


@pytest.mark.parametrize("size", [(800, 1000), (1000, 640), (960, 960)])
@pytest.mark.parametrize("cells", [32, 80, 131])
def test_stairs_tell_the_cells(size: tuple[int, int], cells: int) -> None:
    found = measured_cell(enlarged(disk(cells, cells), size))
    expected = tuple(side / cells for side in size)
    assert found == pytest.approx(expected, rel=0.12)


def test_a_fine_mask_has_no_stairs() -> None:
    assert measured_cell(disk(700, 900)) == (1.0, 1.0)
    assert cell_of(disk(1024, 768)) == (1024 / FINEST,) * 2
    assert cell_of(disk(100, 80)) == (1.0, 1.0)


def slanted(height: int, width: int, slope: float) -> Tensor:
    """Between two lines that are nearly upright."""
    y, x = torch.meshgrid(torch.arange(float(height)), torch.arange(float(width)), indexing="ij")
    return ((x - slope * y) > width / 4) & ((x - slope * y) < width / 2)


def box(height: int, width: int) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[height // 5 : height // 2, width // 4 : width // 2] = True
    return mask


@pytest.mark.parametrize(
    "mask",
    [
        box(1500, 2000),
        box(256, 192),
        box(300, 400) | box(300, 400).flip(1),
        enlarged(box(40, 40), (480, 640)),
        slanted(900, 600, 0.02),
        slanted(900, 600, 0.002),
        slanted(600, 900, 0.1).T,
    ],
)
def test_straight_edges_are_no_stairs(mask: Tensor) -> None:
    assert measured_cell(mask) == (1.0, 1.0)


def test_labels_have_stairs_too() -> None:
    small = disk(60, 80).long() + 2 * disk(80, 60).T.long()
    large = F.interpolate(small[None, None].float(), (600, 800))[0, 0].long()
    assert measured_cell(large) == pytest.approx((10, 10))


@pytest.mark.parametrize("value", [False, True])
def test_without_an_edge_nothing_is_measured(value: bool) -> None:
    assert measured_cell(torch.full((40, 60), value)) == (1.0, 1.0)


def test_the_edge_is_unsure_by_a_cell_and_a_half() -> None:
    mask = torch.zeros(60, 90, dtype=torch.int64)
    mask[:, 45:] = 1
    soft = soft_masks(mask, [1], (5.0, 5.0))
    assert soft.shape == (1, 12, 18)
    expected = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0])
    torch.testing.assert_close(soft[0, 6, 7:11], expected)
    assert set(soft[0, 0].unique().tolist()) == set(soft[0, 6].unique().tolist())
