"""Entropy in nats, as the published thresholds assume."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from sparserefine.refinement.uncertainty import entropy


def test_uniform_is_ln_k() -> None:
    assert math.isclose(float(entropy(torch.zeros(1, 19))), math.log(19), rel_tol=1e-6)


def test_certain_is_zero() -> None:
    logits = torch.zeros(1, 19)
    logits[0, 3] = 100
    assert float(entropy(logits)) < 1e-4


def test_agrees_with_torch_where_no_probability_is_tiny() -> None:
    logits = torch.randn(50, 7, dtype=torch.float64)
    expected = torch.distributions.Categorical(logits=logits).entropy()
    torch.testing.assert_close(entropy(logits), expected)


def test_paper_mask_is_the_same_on_either_grid() -> None:
    """Entropy after nearest upsampling, as the authors compute it, gives the same mask."""
    logits = 3 * torch.randn(2, 19, 16, 24)
    at_full_size = entropy(F.interpolate(logits, scale_factor=2, mode="nearest")) > 0.5
    at_low_size = (entropy(logits) > 0.5).repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert torch.equal(at_full_size, at_low_size)
