"""Alpha by the network that ships: what it must not do, whatever it was trained on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from coarse_prediction import coarse
from sparserefine import DensePass
from sparserefine.refinement.alpha import refine_alpha

# Cells of the prediction, and pixels of the image a side of one.
CELLS, CELL = 40, 8
SIDE = CELLS * CELL


def scene(seed: int = 0) -> tuple[Tensor, Tensor]:
    """An image of a blob on textured ground, [1, 3, H, W] in 0..1, and its alpha [H, W]."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    down, across = y - 150.0, x - 170.0
    angle = torch.atan2(down, across)
    radius = 80 * (1 + 0.25 * torch.cos(3 * angle) + 0.06 * torch.cos(17 * angle))
    alpha = (radius - torch.hypot(down, across)).clamp(0, 1)
    sides = torch.tensor([[0.75, 0.45, 0.3], [0.25, 0.45, 0.5]])[:, :, None, None]
    texture = F.interpolate(torch.randn(2, 3, 80, 80, generator=generator), (SIDE, SIDE))
    front, back = (sides + 0.015 * texture).clamp(0, 1)
    return (alpha * front + (1 - alpha) * back)[None], alpha


def refined(images: Tensor, probability: Tensor) -> tuple[Tensor, Tensor]:
    """Alpha and band."""
    low = DensePass.of(probability, kind="probabilities")
    matte = refine_alpha(images, low, method="edges", clean_colors=False)
    return matte.alpha, matte.mask


def test_it_is_nearer_to_the_truth_than_closed_form_and_than_the_prediction() -> None:
    images, alpha = scene()
    low = DensePass.of(coarse(alpha, CELL), kind="probabilities")
    errors = {}
    for method in ("edges", "closed-form", "bilinear"):
        found = refine_alpha(images, low, method=method, clean_colors=False).alpha
        errors[method] = float((found - alpha).abs().mean())
    assert errors["edges"] < errors["closed-form"] < 0.6 * errors["bilinear"]


@pytest.mark.parametrize("dims", [(2,), (3,), (2, 3)], ids=["down", "across", "both"])
def test_flips_commute(dims: tuple[int, ...]) -> None:
    images, alpha = scene()
    given = coarse(alpha, CELL)
    found, band = refined(images, given)
    flipped, _ = refined(images.flip(dims), given.flip(dims))
    difference = (flipped.flip([dim - 2 for dim in dims]) - found).abs()
    # Learned, not built in: on average. Closed form commutes but for rounding.
    assert float(difference[band].mean()) < 1e-2
    assert not difference[~band].any()


def test_shifts_by_whole_cells_commute() -> None:
    images, alpha = scene()
    given = coarse(alpha, CELL)
    found, _ = refined(images, given)
    # The network's coarsest stage has cells of eight pixels; it sees two of these as many wide.
    shift = (2 * CELL, -4 * CELL)
    moved, _ = refined(images.roll(shift, (2, 3)), given.roll((2, -4), (2, 3)))
    difference = (moved.roll((-shift[0], -shift[1]), (0, 1)) - found).abs()
    assert float(difference.quantile(0.999)) < 1e-2


def test_across_an_edge_it_rises_and_never_falls() -> None:
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    alpha = ((x + 0.3 * y - 200.0) / 6 + 0.5).clamp(0, 1)  # a soft slanted edge, 6 pixels wide
    front, back = torch.tensor([[0.9, 0.3, 0.2], [0.1, 0.4, 0.7]])[:, :, None, None]
    image = alpha * front + (1 - alpha) * back
    found, _ = refined(image[None], coarse(alpha, CELL))
    inside = found[40:-40]
    assert float(inside.diff(dim=1).min()) > -0.02
    assert float(inside.diff(dim=1).max()) < 0.4  # no step: the edge is soft
    assert float((inside - alpha[40:-40]).abs().max()) < 0.15


def test_outside_the_band_nothing_changes_by_a_bit() -> None:
    images, alpha = scene()
    found, mask = refined(images, coarse(alpha, CELL))
    other, _ = refined(1 - images, coarse(alpha, CELL))
    sides = found[~mask]
    assert bool(((sides == 0) | (sides == 1)).all())
    assert torch.equal(other[~mask], sides)


@pytest.mark.parametrize("kind", ["mask", "probabilities"])
def test_a_mask_that_is_right_stays_right(kind: str) -> None:
    images, alpha = scene()
    given = alpha > 0.5 if kind == "mask" else alpha.clamp(1e-4, 1 - 1e-4)[None, None]
    low = DensePass.of(given, kind=kind)  # type: ignore[arg-type]
    found = refine_alpha(images, low, method="edges", clean_colors=False).alpha > 0.5
    truth = alpha > 0.5
    near = F.max_pool2d(truth[None, None].float(), 7, 1, 3) != -F.max_pool2d(
        -truth[None, None].float(), 7, 1, 3
    )
    assert float((found != truth)[near[0, 0]].float().mean()) < 0.01
