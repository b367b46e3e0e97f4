"""A perceptron that looks at each selected pixel alone: what the sparse U-Net is compared with.

Source: PointRend, Kirillov et al. 2020, arXiv:1912.08193; there the points' features are of a
backbone at lower resolution, here they are what the extractor sees.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.refine.extractor import SparseUNet
from sparserefine.sparse import SparseTensor

CHUNK_ROWS = 1 << 12


class PointMLP(SparseUNet):
    """Takes the place of the extractor; the input goes into every layer again, as in PointRend.

    Args:
        num_classes: K.
        in_channels: Features per selected pixel.
        hidden: Width of the three hidden layers.
    """

    def __init__(self, num_classes: int, *, in_channels: int = 3, hidden: int = 256) -> None:
        nn.Module.__init__(self)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.widths = (hidden,)
        self.blocks = 1
        self.pyramid = "floor"
        self.padding = 1
        self.layers = nn.ModuleList(
            nn.Linear(in_channels + (hidden if layer else 0), hidden) for layer in range(3)
        )
        self.head = nn.Linear(hidden + in_channels, num_classes)

    def forward(self, x: SparseTensor) -> Float[Tensor, "N K"]:
        """Predict logits at the active pixels of `x`."""
        # Few at a time, so that what a layer writes is still in the cache when the next reads it.
        return torch.cat([self._predict(feats) for feats in x.feats.split(CHUNK_ROWS)])

    def _predict(self, feats: Float[Tensor, "N C"]) -> Float[Tensor, "N K"]:
        hidden = feats[:, :0]
        for layer in self.layers:
            hidden = torch.relu(layer(torch.cat([hidden, feats], 1)))
        return self.head(torch.cat([hidden, feats], 1))
