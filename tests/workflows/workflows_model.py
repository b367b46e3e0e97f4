"""A refiner small enough for tests."""

from __future__ import annotations

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

    def __init__(self) -> None:
        super().__init__()
        self.num_classes = 5
        self.size_divisor = 4
        self.preset = sr.dense.Preset()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.conv.weight.copy_(0.5 * torch.randn(self.conv.weight.shape, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        """Logits at a quarter of the size."""
        return self.conv(6 * (images - 0.5))


def make_patch_model() -> sr.SparseRefiner:
    """A refiner whose dense model says something else at low resolution than at full."""
    torch.manual_seed(0)
    return sr.SparseRefiner(
        PatchDense(),
        selector=sr.EntropySelector(0.1),
        extractor=sr.SparseUNet(5, widths=(8,), blocks=1, pyramid="floor"),
    )
