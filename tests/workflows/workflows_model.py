"""A refiner small enough for tests."""

from __future__ import annotations

import torch

import sparserefine as sr


def make_model() -> sr.SparseRefiner:
    """The same small refiner every time."""
    torch.manual_seed(0)
    return sr.SparseRefiner(
        sr.dense.create("espnetv2-0.5"),
        selector=sr.EntropySelector(0.1, 0.5),
        extractor=sr.SparseUNet(19, widths=(8, 16), blocks=1, pyramid="floor"),
    )
