"""Closed-form matting in the band, against its definition on the whole image."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from sparserefine.matting import Trimap, closed_form_alpha

EPSILON = 1e-7


def laplacian(image: Tensor) -> Tensor:
    """The matting Laplacian of a whole image, window by window, as the paper defines it."""
    height, width = image.shape[1:]
    colors = image.double().permute(1, 2, 0).reshape(-1, 3)
    matrix = torch.zeros(height * width, height * width, dtype=torch.float64)
    for y, x in product(range(1, height - 1), range(1, width - 1)):
        inside = [(y + dy) * width + x + dx for dy, dx in product((-1, 0, 1), repeat=2)]
        c = colors[inside] - colors[inside].mean(0)
        inverse = torch.linalg.inv(c.T @ c / 9 + EPSILON / 9 * torch.eye(3, dtype=torch.float64))
        own = torch.eye(9, dtype=torch.float64) - (1 + c @ inverse @ c.T) / 9
        matrix[np.ix_(inside, inside)] += own
    return matrix


def by_definition(
    image: Tensor, alpha: Tensor, unknown: Tensor, weight: Tensor | None = None
) -> Tensor:
    matrix, known = laplacian(image), ~unknown.flatten()
    free = unknown.flatten()
    right = -matrix[free][:, known] @ alpha.flatten()[known].double()
    if weight is not None:
        matrix = matrix + weight.flatten().double().diag()
        right = right + (weight * alpha).flatten()[free].double()
    result = alpha.flatten().double().clone()
    result[free] = torch.linalg.solve(matrix[free][:, free], right)
    return result.view_as(alpha).clamp(0, 1).float()


def scene(size: tuple[int, int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """A soft disk of one texture on another, its alpha, and a band along its edge."""
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = torch.hypot(y - height / 2, x - width / 2) - 0.3 * min(size)
    alpha = torch.sigmoid(-distance.float())
    sides = torch.tensor([[0.8, 0.3, 0.2], [0.2, 0.5, 0.7]])
    noise = 0.05 * torch.randn(2, 3, *size, generator=generator)
    front, back = (side[:, None, None] + own for side, own in zip(sides, noise, strict=True))
    image = (alpha * front + (1 - alpha) * back).clamp(0, 1)
    return image, alpha, distance.abs() < 2.5


@pytest.mark.parametrize("size", [(16, 20), (23, 13), (3, 17)], ids=str)
def test_it_is_its_definition(size: tuple[int, int]) -> None:
    image, alpha, unknown = scene(size)
    given = torch.where(unknown, 0.5, (alpha > 0.5).float())
    found = closed_form_alpha(image, given, unknown)
    torch.testing.assert_close(found, by_definition(image, given, unknown), atol=1e-4, rtol=0)
    assert torch.equal(found[~unknown], given[~unknown])


def test_what_is_expected_counts_by_its_weight() -> None:
    image, alpha, unknown = scene((17, 19))
    expected = 1 - alpha  # the opposite of what the colors say
    given = torch.where(unknown, expected, (alpha > 0.5).float())
    weight = torch.linspace(0, 0.1, 19).expand(17, 19)
    found = closed_form_alpha(image, given, unknown, weight=weight)
    torch.testing.assert_close(
        found, by_definition(image, given, unknown, weight), atol=1e-4, rtol=0
    )
    nothing = closed_form_alpha(image, given, unknown, weight=torch.zeros_like(alpha))
    assert torch.equal(nothing, closed_form_alpha(image, given, unknown))
    all_of_it = closed_form_alpha(image, given, unknown, weight=torch.full_like(alpha, 1e6))
    torch.testing.assert_close(all_of_it, given, atol=1e-3, rtol=0)


def test_a_band_at_the_border() -> None:
    image, alpha, unknown = scene((18, 18))
    image, alpha, unknown = image[:, 9:], alpha[9:], unknown[9:]  # the disk is cut in half
    given = torch.where(unknown, 0.5, (alpha > 0.5).float())
    found = closed_form_alpha(image, given, unknown)
    torch.testing.assert_close(found, by_definition(image, given, unknown), atol=1e-4, rtol=0)


def test_two_plain_sides_are_told_apart_exactly() -> None:
    _, alpha, unknown = scene((24, 24))
    front, back = torch.tensor([0.9, 0.2, 0.1]), torch.tensor([0.1, 0.4, 0.8])
    image = alpha * front[:, None, None] + (1 - alpha) * back[:, None, None]
    found = closed_form_alpha(image, torch.where(unknown, 0.0, alpha), unknown)
    torch.testing.assert_close(found, alpha, atol=2e-3, rtol=0)


@pytest.mark.parametrize("case", ["nothing unknown", "all unknown", "tiny", "one color"])
def test_what_cannot_be_solved_stays_in_bounds(case: str) -> None:
    image, alpha, unknown = scene((12, 12))
    if case == "nothing unknown":
        unknown = torch.zeros_like(unknown)
    elif case == "all unknown":
        unknown = torch.ones_like(unknown)
    elif case == "tiny":
        image, alpha, unknown = image[:, :2, :2], alpha[:2, :2], torch.ones(2, 2, dtype=torch.bool)
    else:
        image = torch.full_like(image, 0.5)
    found = closed_form_alpha(image, alpha, unknown)
    assert found.shape == alpha.shape and bool(found.isfinite().all())
    assert float(found.min()) >= 0 and float(found.max()) <= 1
    assert torch.equal(found[~unknown], alpha[~unknown])


class TestTrimap:
    def test_sides_are_shrunk_by_a_cell(self) -> None:
        probability = torch.zeros(7, 9)
        probability[:, 5:] = 1.0
        trimap = Trimap.of(probability)
        assert trimap.foreground[0].tolist() == [x >= 6 for x in range(9)]
        assert trimap.background[0].tolist() == [x <= 3 for x in range(9)]
        assert trimap.unknown[3].tolist() == [x in (4, 5) for x in range(9)]
        assert trimap.is_solvable

    def test_what_is_neither_is_unknown(self) -> None:
        probability = torch.full((5, 5), 0.5)
        assert bool(Trimap.of(probability).unknown.all())
        assert not Trimap.of(probability).is_solvable
        assert not Trimap.of(torch.zeros(5, 5)).is_solvable

    def test_depth_is_the_distance_to_what_is_sure(self) -> None:
        probability = torch.zeros(9, 15)
        probability[:, 3:12] = 0.5
        depth = Trimap.of(probability).depth()
        assert depth[4].tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 5, 4, 3, 2, 1, 0, 0]

    def test_limits(self) -> None:
        with pytest.raises(ValueError, match="expected 0 <= low < high <= 1"):
            Trimap.of(torch.zeros(3, 3), low=0.9, high=0.1)
