"""Refiners small enough for tests."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest
import torch
from torch import Tensor, nn

import sparserefine as sr


def make_model() -> sr.SparseRefiner:
    """The same small refiner every time."""
    torch.manual_seed(0)
    return sr.SparseRefiner(
        sr.dense.create("espnetv2-0.5"),
        selector=sr.EntropySelector(0.1, 0.5),
        extractor=sr.SparseUNet(19, widths=(8, 16), blocks=1, pyramid="floor"),
    )


class PatchDense(sr.dense.DenseModel):
    """One linear layer on patches of 4×4: its labels change with the image, and with its size."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.num_classes = 5
        self.size_divisor = 4
        self.preset = sr.dense.Preset()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            self.conv.weight.copy_(0.5 * torch.randn(self.conv.weight.shape, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        """Logits at a quarter of the size."""
        return self.conv(6 * (images - 0.5))


def make_patch_model(dense: sr.dense.DenseModel | None = None) -> sr.SparseRefiner:
    """A refiner whose dense model says something else at low resolution than at full.

    Args:
        dense: In place of that model; of five classes.
    """
    torch.manual_seed(0)
    return sr.SparseRefiner(
        dense or PatchDense(),
        selector=sr.EntropySelector(0.1),
        extractor=sr.SparseUNet(5, widths=(8,), blocks=1, pyramid="floor"),
    )


def make_function_models(named: bool) -> list[sr.SparseRefiner]:
    """Two refiners that differ in the function that is their dense model.

    Args:
        named: The functions state an identity.
    """
    return [
        make_patch_model(
            sr.dense.from_callable(
                PatchDense(seed).forward,  # bound to a module, but none itself
                "logits",
                5,
                size_divisor=4,
                identity=f"patches {seed}" if named else None,
            )
        )
        for seed in (0, 1)
    ]


def warns_unless(named: bool) -> AbstractContextManager[object]:
    """A function without an identity is warned about where its results are kept."""
    return nullcontext() if named else pytest.warns(UserWarning, match="states no identity")
