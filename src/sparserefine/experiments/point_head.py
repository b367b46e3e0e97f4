"""A perceptron that looks at each selected pixel alone, a baseline for the sparse U-Net.

Source: PointRend, Kirillov et al. 2020, arXiv:1912.08193; there the points' features are of a
backbone at lower resolution, here they are what the extractor sees.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.sparse import SparseTensor

CHUNK_ROWS = 1 << 12


class PointMLP(nn.Module):
    """A perceptron in place of the extractor; its input goes into every layer, as in PointRend.

    Args:
        num_classes: Number of classes K.
        in_channels: Number of features per selected pixel.
        hidden: Width of the three hidden layers.
    """

    def __init__(self, num_classes: int, *, in_channels: int = 3, hidden: int = 256) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.hidden = hidden
        self.layers = nn.ModuleList(
            nn.Linear(in_channels + (hidden if layer else 0), hidden) for layer in range(3)
        )
        self.head = nn.Linear(hidden + in_channels, num_classes)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"kind": "points", "in_channels": self.in_channels, "hidden": self.hidden}

    def forward(self, x: SparseTensor) -> Float[Tensor, "N K"]:
        """Predict logits at the active pixels of `x`."""
        # Few rows at a time, so that what a layer writes is still cached when the next reads it.
        return torch.cat([self._predict(feats) for feats in x.feats.split(CHUNK_ROWS)])

    def _predict(self, feats: Float[Tensor, "N C"]) -> Float[Tensor, "N K"]:
        hidden = feats[:, :0]
        for layer in self.layers:
            hidden = torch.relu(layer(torch.cat([hidden, feats], 1)))
        return self.head(torch.cat([hidden, feats], 1))
