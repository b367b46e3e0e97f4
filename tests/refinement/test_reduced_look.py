"""Of a prediction that is very coarse for its image the network of "edges" sees it reduced."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from coarse_prediction import coarse
from sparserefine import DensePass
from sparserefine.refinement import reduced_look
from sparserefine.refinement.alpha import AlphaMatte, refine_alpha
from sparserefine.refinement.class_prediction import ClassPrediction
from sparserefine.refinement.reduced_look import reduced_size

CELLS, CELL = 24, 16
SIDE = CELLS * CELL


@pytest.mark.parametrize(
    ("size", "cells", "expected"),
    [
        ((1000, 1000), 320.0, None),
        ((1500, 2000), 320.0, None),
        ((3000, 4000), 320.0, (1440, 1920)),
        ((3000, 4000), 100.0, (450, 600)),
        ((3000, 4000), 4000.0, None),
        ((1, 3000), 10.0, (1, 60)),
    ],
)
def test_the_reduced_size(
    size: tuple[int, int], cells: float, expected: tuple[int, int] | None
) -> None:
    assert reduced_size(size, cells) == expected


@cache
def scene(soft: float = 1.0) -> tuple[Tensor, Tensor]:
    """A disc with fingers on textured ground, [1, 3, H, W] in 0..1, and its alpha [H, W].

    Args:
        soft: Pixels that its edge takes.
    """
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    down, across = y - 190.0, x - 196.0
    radius = 100 * (1 + 0.25 * torch.cos(7 * torch.atan2(down, across)))
    alpha = ((radius - torch.hypot(down, across)) / soft + 0.5).clamp(0, 1)
    sides = torch.tensor([[0.75, 0.45, 0.3], [0.25, 0.45, 0.5]])[:, :, None, None]
    texture = F.interpolate(torch.randn(2, 3, 96, 96, generator=generator), (SIDE, SIDE))
    front, back = (sides + 0.02 * texture).clamp(0, 1)
    return (alpha * front + (1 - alpha) * back)[None], alpha


def low_of(alpha: Tensor) -> DensePass:
    return DensePass.of(coarse(alpha, CELL), kind="probabilities")


def refined(images: Tensor, low: DensePass) -> AlphaMatte:
    return refine_alpha(images, low, method="edges", clean_colors=False)


def test_soft_edges_do_not_fray(monkeypatch: pytest.MonkeyPatch) -> None:
    images, alpha = scene(soft=12.0)
    found = refined(images, low_of(alpha))
    monkeypatch.setattr(reduced_look, "WORTH", 1e9)  # at full resolution
    before = refined(images, low_of(alpha))
    errors = [float((one.alpha - alpha).abs().mean()) for one in (found, before)]
    assert errors[0] < 0.9 * errors[1]
    assert torch.equal(found.mask, before.mask)


def test_outside_the_band_nothing_changes_by_a_bit() -> None:
    images, alpha = scene()
    low = low_of(alpha)
    found, other = refined(images, low), refined(1 - images, low)
    given = F.interpolate(low.logits.softmax(1)[:, 1:], (SIDE, SIDE), mode="bilinear")[0, 0]
    assert torch.equal(found.alpha[~found.mask], (given[~found.mask] > 0.5).float())
    assert torch.equal(other.alpha[~found.mask], found.alpha[~found.mask])


def test_shifts_by_whole_cells_commute() -> None:
    images, alpha = scene()
    cells = (1, -2)
    low = low_of(alpha)
    shift = (CELL * cells[0], CELL * cells[1])
    moved = refined(images.roll(shift, (2, 3)), DensePass(low.logits.roll(cells, (2, 3))))
    back = moved.alpha.roll((-shift[0], -shift[1]), (0, 1))
    found = refined(images, low)
    # The network's coarsest stage has cells of eight pixels, so shifts by six do not lie on them.
    assert float((back - found.alpha).abs()[found.mask].mean()) < 2e-2


def test_a_hard_mask_without_stairs_is_as_fine_as_its_pixels() -> None:
    _, alpha = scene()
    fine = ClassPrediction.of(DensePass.of(alpha > 0.5, kind="mask"))
    assert fine.cells == SIDE
    hard = F.avg_pool2d(alpha[None, None], CELL)[0, 0] > 0.5
    stairs = hard.repeat_interleave(CELL, 0).repeat_interleave(CELL, 1)
    for mask in (hard, stairs):
        one = ClassPrediction.of(DensePass.of(mask, kind="mask"))
        assert one.cells == pytest.approx(CELLS, rel=0.1)
    told = ClassPrediction.of(DensePass.of(alpha > 0.5, kind="mask"), (8.0, 8.0))
    assert told.cells == SIDE / 8
