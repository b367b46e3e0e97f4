"""The method follows from where the pixels are, not only from how many they are."""

from __future__ import annotations

import pytest
import torch

from sparserefine.sparse import ActivePixels
from sparserefine.sparse.native import library, plan


def test_few_neighbors_speak_for_the_direct_method() -> None:
    """It skips those that are absent, where Winograd's method transforms whole blocks."""
    if isinstance(library.load(), str):
        pytest.skip(f"no compiled library: {library.load()}")
    scattered = ActivePixels.from_mask(torch.rand(1, 64, 64) < 0.3)
    filled = ActivePixels.from_mask(torch.ones(1, 35, 35, dtype=torch.bool))
    assert abs(len(scattered) - len(filled)) < 150
    assert plan.choose_method(scattered, 256, 256) == "direct"
    assert plan.choose_method(filled, 256, 256) == "winograd4"
