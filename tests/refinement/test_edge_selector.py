"""The band along label edges, against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparserefine import DensePass, EdgeSelector, Selector
from sparserefine.refinement.edge_selector import near_edges


def by_definition(labels: torch.Tensor, size: tuple[int, int], distance: float) -> torch.Tensor:
    """The distance of each pixel's center from each side between cells of different labels."""
    height, width = labels.shape
    sides = []  # (top, left, bottom, right) in cells
    for row in range(height):
        for column in range(width):
            if column + 1 < width and labels[row, column] != labels[row, column + 1]:
                sides.append((row, column + 1, row + 1, column + 1))
            if row + 1 < height and labels[row, column] != labels[row + 1, column]:
                sides.append((row + 1, column, row + 1, column + 1))
    mask = torch.zeros(size, dtype=torch.bool)
    for y in range(size[0]):
        for x in range(size[1]):
            v, u = (y + 0.5) * height / size[0], (x + 0.5) * width / size[1]
            for top, left, bottom, right in sides:
                down = max(top - v, v - bottom, 0)
                across = max(left - u, u - right, 0)
                mask[y, x] |= max(down, across) <= distance + 1e-9
    return mask


@given(
    grid=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    size=st.tuples(st.integers(1, 17), st.integers(1, 17)),
    distance=st.sampled_from([0.0, 0.3, 0.5, 1.0, 1.7, 2.0, 9.0]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60, deadline=None)
def test_it_is_its_definition(
    grid: tuple[int, int], size: tuple[int, int], distance: float, seed: int
) -> None:
    labels = torch.randint(3, grid, generator=torch.Generator().manual_seed(seed))
    expected = by_definition(labels, size, distance)
    assert torch.equal(near_edges(labels, size, distance), expected)


def test_one_takes_the_cells_on_both_sides() -> None:
    low = DensePass.of(torch.tensor([[0, 0, 0, 1, 1, 1]]), kind="labels")
    mask = EdgeSelector(1.0)(low, (4, 24))
    assert mask[0].all(0).tolist() == [8 <= x < 16 for x in range(24)]


def test_cells_need_not_be_square() -> None:
    labels = torch.zeros(4, 4, dtype=torch.long)
    labels[2:, 2:] = 1
    mask = near_edges(labels, (8, 40), 0.5)
    rows, columns = mask.any(1).nonzero(), mask.any(0).nonzero()
    assert (int(rows.min()), int(columns.min())) == (3, 15)


def test_no_edge_selects_nothing() -> None:
    low = DensePass.of(torch.ones(5, 5, dtype=torch.bool), kind="mask")
    assert not EdgeSelector(3.0)(low, (50, 50)).any()


def test_images_of_a_batch_do_not_see_each_other() -> None:
    masks = torch.zeros(2, 6, 6, dtype=torch.bool)
    masks[1, 2:4, 2:4] = True
    both = EdgeSelector()(DensePass.of(masks, kind="mask"), (30, 30))
    alone = EdgeSelector()(DensePass.of(masks[1], kind="mask"), (30, 30))
    assert not both[0].any() and torch.equal(both[1], alone[0])


@pytest.mark.parametrize("density", [0.0, 0.01, 0.1, 0.3])
def test_a_budget_keeps_the_nearest(density: float) -> None:
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:12, 4:12] = True
    low = DensePass.of(mask, kind="mask")
    chosen = EdgeSelector(2.0, density)(low, (128, 128))
    assert float(chosen.float().mean()) <= density
    assert bool((chosen <= EdgeSelector(2.0)(low, (128, 128))).all())
    if density >= 0.1:
        assert float(chosen.float().mean()) > 0.7 * density


def test_soft_predictions_have_edges_too() -> None:
    low = DensePass(torch.randn(1, 4, 6, 8))
    hard = DensePass.of(low.logits.argmax(1), kind="labels", num_classes=4)
    assert torch.equal(EdgeSelector(0.6)(low, (60, 80)), EdgeSelector(0.6)(hard, (60, 80)))


@pytest.mark.parametrize("distance", [-1.0, float("nan"), float("inf")])
def test_bad_distance(distance: float) -> None:
    with pytest.raises(ValueError, match=r"distance is .*expected a number of low-resolution"):
        EdgeSelector(distance)


def test_it_is_a_selector() -> None:
    assert isinstance(EdgeSelector(), Selector)
    assert EdgeSelector(2.0).describe() == {"kind": "edges", "distance": 2.0, "max_density": 1.0}
