"""Threshold and pixel budget."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.resampling import nearest_index
from sparserefine.refinement.selector import EntropySelector, Selector, select_cells


def test_is_strictly_greater() -> None:
    mask = select_cells(torch.tensor([[[0.5, 0.6]]]), (1, 2), 0.5)
    assert mask.tolist() == [[[False, True]]]


def test_selects_whole_blocks() -> None:
    entropy = torch.tensor([[[0.0, 1.0], [0.0, 0.0]]])
    mask = select_cells(entropy, (4, 4), 0.5)
    expected = torch.zeros(1, 4, 4, dtype=torch.bool)
    expected[:, :2, 2:] = True
    assert torch.equal(mask, expected)


def test_a_higher_threshold_selects_a_subset() -> None:
    prediction = DensePass(3 * torch.randn(2, 5, 9, 11))
    low, high = (EntropySelector(t)(prediction, (18, 22)) for t in (0.3, 0.8))
    assert torch.equal(low[:, ::2, ::2], prediction.entropy > 0.3)
    assert bool((high <= low).all())
    assert high.sum() < low.sum()


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    density=st.floats(0, 1),
    seed=st.integers(0, 100),
)
def test_budget_is_never_exceeded(height: int, width: int, density: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    grid = (max(height // 2, 1), max(width // 3, 1))
    entropy = torch.rand(2, *grid, generator=generator)
    mask = select_cells(entropy, (height, width), 0.0, density)
    assert int(mask.flatten(1).sum(1).max()) <= density * height * width


def test_budget_keeps_the_most_uncertain_of_each_image() -> None:
    entropy = torch.tensor([[[0.1, 0.9, 0.5, 0.7]], [[2.0, 1.0, 3.0, 4.0]]])
    mask = select_cells(entropy, (1, 4), 0.0, 0.5)
    assert mask[:, 0].tolist() == [[False, True, False, True], [False, False, True, True]]


@pytest.mark.parametrize("size", [(18, 22), (20, 31)], ids=["whole cells", "other areas"])
@pytest.mark.parametrize("density", [0.0, 0.1, 0.5, 0.99])
def test_a_budget_takes_the_cells_in_order(size: tuple[int, int], density: float) -> None:
    # Of equal scores, of which there are many here, the first are taken.
    scores = torch.randint(1, 6, (1, 9, 11), generator=torch.Generator().manual_seed(0)).float()
    rows, columns = (nearest_index(a, b, scores.device) for a, b in zip((9, 11), size, strict=True))
    area = torch.outer(rows.bincount(minlength=9), columns.bincount(minlength=11)).flatten()
    order = scores.flatten().argsort(descending=True, stable=True)
    kept = order[area[order].cumsum(0) <= int(density * size[0] * size[1])]
    expected = torch.zeros(99, dtype=torch.bool).scatter(0, kept, True).view(9, 11)
    found = select_cells(scores, size, 0.0, density)
    assert torch.equal(found[0], expected[rows][:, columns])


def test_budget_does_not_select_certain_pixels() -> None:
    mask = select_cells(torch.tensor([[[0.1, 0.9]]]), (2, 4), 0.5, 0.9)
    assert int(mask.sum()) == 4


@pytest.mark.parametrize("threshold", [float("nan"), -0.1, float("inf")])
def test_bad_threshold(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"threshold is .*expected an entropy in nats"):
        EntropySelector(threshold)


@pytest.mark.parametrize("density", [float("nan"), -0.1, 1.1])
def test_bad_budget(density: float) -> None:
    with pytest.raises(ValueError, match=r"max_density is .*expected a share"):
        EntropySelector(0.1, density)


def test_hard_labels_are_refused_with_the_remedy() -> None:
    low = DensePass.of(torch.zeros(4, 4, dtype=torch.bool), kind="mask")
    with pytest.raises(ValueError, match=r"no entropy to select by\. Use EdgeSelector"):
        EntropySelector(0.1)(low, (8, 8))


def test_it_is_a_selector() -> None:
    selector = EntropySelector(0.1, 0.5)
    assert isinstance(selector, Selector)
    assert selector.describe() == {"kind": "entropy", "threshold": 0.1, "max_density": 0.5}
