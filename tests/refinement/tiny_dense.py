"""A dense model small enough for tests, unsure along the edges it sees."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sparserefine.dense import DenseModel, Preset


class TinyDense(DenseModel):
    """Two convolutions at a quarter of the resolution."""

    def __init__(self, num_classes: int = 5, size_divisor: int = 8) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.size_divisor = size_divisor
        self.preset = Preset(dense_size=0.5, threshold=0.5)
        self.seen: list[tuple[int, int]] = []
        generator = torch.Generator().manual_seed(0)
        self.conv = nn.Conv2d(3, num_classes, 4, stride=4)
        with torch.no_grad():
            self.conv.weight.copy_(0.5 * torch.randn(self.conv.weight.shape, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((images.shape[2], images.shape[3]))
        return self.conv(images)
