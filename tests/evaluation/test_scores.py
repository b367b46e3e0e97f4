"""Scores of uncertainty: ranges, definitions, and the thresholds they are drawn over."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sparserefine.evaluation.scores import (
    EDGE_REACH,
    SCORES,
    edges,
    margin,
    max_probability,
    random,
    score_maps,
    thresholds,
)


def test_a_certain_and_an_undecided_pixel() -> None:
    logits = torch.tensor([[50.0, 0, 0, 0], [0.0, 0, 0, 0]]).T[None, :, None]  # [1, 4, 1, 2]
    assert margin(logits)[0, 0].tolist() == pytest.approx([0, 1], abs=1e-6)
    assert max_probability(logits)[0, 0].tolist() == pytest.approx([0, 0.75], abs=1e-6)


def test_margin_is_one_minus_the_lead() -> None:
    probabilities = torch.tensor([0.5, 0.3, 0.2]).view(1, 3, 1, 1)
    assert float(margin(probabilities.log())) == pytest.approx(0.8)


def test_edges_fall_with_the_chessboard_distance() -> None:
    labels = torch.zeros(40, 60, dtype=torch.long)
    labels[10:20, 30:] = 1
    logits = torch.nn.functional.one_hot(labels, 3).permute(2, 0, 1)[None].float()
    found = edges(logits)[0]
    at_edge = torch.zeros_like(labels, dtype=torch.bool)
    for y in range(40):
        for x in range(60):
            for other in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if 0 <= other[0] < 40 and 0 <= other[1] < 60:
                    at_edge[y, x] |= bool(labels[y, x] != labels[other])
    where = at_edge.nonzero()
    pixels = torch.cartesian_prod(torch.arange(40), torch.arange(60))
    distance = (pixels[:, None] - where[None]).abs().amax(2).amin(1).view(40, 60)
    torch.testing.assert_close(found, 1 / (1 + distance.float()))


def test_no_edge_anywhere() -> None:
    assert not edges(torch.zeros(1, 3, 5, 1)).any()


def test_random_is_seeded_and_leaves_the_global_generator_alone() -> None:
    logits = torch.zeros(1, 3, 20, 20)
    state = torch.get_rng_state()
    assert torch.equal(random(logits, 1), random(logits, 1))
    assert not torch.equal(random(logits, 1), random(logits, 2))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("score", SCORES)
def test_thresholds_ascend_from_nothing_left_out_to_nothing_selected(score: str) -> None:
    values = score_maps(10 * torch.randn(1, 7, 30, 40))[score]
    bounds = torch.from_numpy(thresholds(score, 7))
    assert (bounds.diff() > 0).all() and bounds[0] == 0
    assert not (values > bounds[-1]).any()
    if score == "edges":
        # Each distance is told from the next.
        exact = 1 / (1 + torch.arange(EDGE_REACH + 1.0))
        assert torch.bucketize(exact, bounds).unique().numel() == EDGE_REACH + 1


def test_thresholds_of_the_entropy_are_log_spaced_up_to_ln_k() -> None:
    values = thresholds("entropy", 19)
    assert values[1] == pytest.approx(1e-5) and values[-1] == pytest.approx(math.log(19))
    assert np.allclose(np.diff(np.log(values[1:])), np.log(values[2] / values[1]), rtol=1e-3)
