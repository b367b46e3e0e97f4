"""What the training of `edges` counts: benchmarks/edges/train.py."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

EDGES = Path(__file__).resolve().parents[1] / "benchmarks" / "edges"


@pytest.fixture
def train(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The script as a module."""
    monkeypatch.syspath_prepend(str(EDGES))
    import train

    yield train
    del sys.modules["train"]


class _Wrong(nn.Module):
    """Says what is true but for one column, where it is off by so much."""

    def __init__(self, truth: Tensor, column: int, error: float) -> None:
        super().__init__()
        self.alpha = truth.clone()
        self.alpha[:, column] += error

    def forward(self, features: Tensor, closed_form: Tensor, pixels: object) -> Tensor:
        return self.alpha.flatten()


@pytest.fixture
def crop() -> dict[str, Tensor]:
    """One crop of 16×16 whose truth is a soft step between columns 7 and 8, all of it in doubt."""
    truth = torch.full((16, 16), 0.1)
    truth[:, 8:] = 0.9
    ones = torch.ones(16, 16)
    planes = torch.stack([truth, truth, truth, truth, ones, truth])[None]
    return {"rgb": torch.rand(1, 3, 16, 16), "planes": planes, "sides": torch.rand(1, 6, 2, 2)}


def test_next_to_the_edge_are_the_pixels_with_a_neighbor_on_the_other_side(
    train: ModuleType,
) -> None:
    alpha = torch.zeros(1, 5, 6)
    alpha[:, :, 3:] = 0.6
    expected = torch.zeros(1, 5, 6, dtype=torch.bool)
    expected[:, :, 2:4] = True
    assert torch.equal(train.next_to_edge(alpha), expected)
    assert not train.next_to_edge(torch.full((1, 5, 6), 0.6)).any()


def test_an_error_at_the_edge_counts_more_and_one_elsewhere_less(
    train: ModuleType, crop: dict[str, Tensor]
) -> None:
    truth = crop["planes"][0, 0]

    def loss(column: int, at_edge: float) -> float:
        right = float(train.loss_of(_Wrong(truth, column, 0.0), crop, at_edge=at_edge))
        return float(train.loss_of(_Wrong(truth, column, 0.1), crop, at_edge=at_edge)) - right

    # Two of sixteen columns are at the edge: of all weight, 1/16 becomes 11/36 or 1/36.
    assert loss(7, 10.0) / loss(7, 0.0) == pytest.approx(16 * 11 / 36, rel=0.02)
    assert loss(2, 10.0) / loss(2, 0.0) == pytest.approx(16 / 36, rel=0.02)


def test_the_held_out_score_knows_the_edge(train: ModuleType, crop: dict[str, Tensor]) -> None:
    net = train.EdgeNet([8])
    crops = {name: (255 * values).byte().numpy() for name, values in crop.items()}
    found = train.held_out(net.state_dict(), [8], crops, range(1))
    # A new network says what closed form says, which is right.
    assert found["wrong_at_edge"] == found["wrong_at_edge_closed_form"] == 0
    crops["planes"][0, 2] = 255 - crops["planes"][0, 0]  # closed form has the sides swapped
    found = train.held_out(net.state_dict(), [8], crops, range(1))
    assert found["wrong_at_edge_closed_form"] == found["wrong_closed_form"] == 1
