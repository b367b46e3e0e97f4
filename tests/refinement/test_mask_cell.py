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
    return (inside & ~bite)[None]


def enlarged(masks: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(masks[None].float(), size, mode="nearest-exact")[0] > 0.5


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


@pytest.mark.parametrize("value", [False, True])
def test_without_an_edge_nothing_is_measured(value: bool) -> None:
    assert measured_cell(torch.full((1, 40, 60), value)) == (1.0, 1.0)


def test_the_edge_is_unsure_by_a_cell_and_a_half() -> None:
    mask = torch.zeros(1, 60, 90, dtype=torch.bool)
    mask[:, :, 45:] = True
    soft = soft_masks(mask, (5.0, 5.0))
    assert soft.shape == (1, 12, 18)
    expected = torch.tensor([0.0, 1 / 3, 2 / 3, 1.0])
    torch.testing.assert_close(soft[0, 6, 7:11], expected)
    assert set(soft[0, 0].unique().tolist()) == set(soft[0, 6].unique().tolist())
