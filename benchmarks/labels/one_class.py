"""An extractor that sees one class at a time, and so knows edges, not classes."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

import sparserefine as sr
from sparserefine.refinement.edge_net import WIDTHS
from sparserefine.refinement.shipped_edges import shipped_net
from sparserefine.sparse import ActivePixels, SparseTensor

# Of the thirteen features of `edges`: the color, the prediction's probability and its logit.
SEEN = (0, 1, 2, 3, 6)
# A class with less of a pixel than this is not asked about it.
LEAST = 0.02
# Probabilities nearer to 0 or 1 than this are not told apart, as `edges` has it.
EPSILON = 0.01


class OneClassUNet(nn.Module):
    """A sparse U-Net that runs once for each class, on the pixels that may be of it.

    It starts from the weights of `edges`, which was trained on cut-outs, and as the prediction
    itself: its last layer is zero.

    Args:
        num_classes: Number of classes K.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_channels = 3 + num_classes
        self.unet = sr.SparseUNet(
            1, in_channels=len(SEEN), widths=WIDTHS, blocks=1, pyramid="dilate"
        )
        self.unet.load_state_dict(_start(self.unet, shipped_net().unet))

    def describe(self) -> dict[str, Any]:
        """All settings as plain values."""
        return {"kind": "one-class", "num_classes": self.num_classes}

    def forward(self, x: SparseTensor) -> Float[Tensor, "N K"]:
        """Logits of the pixels of `x`, whose features are colors and probabilities."""
        colors, probabilities = x.feats.split([3, self.num_classes], 1)
        logits = probabilities.clamp_min(1e-4).log()
        columns = []
        for own, before in zip(probabilities.unbind(1), logits.unbind(1), strict=True):
            rows = (own > LEAST).nonzero()[:, 0]
            if not len(rows):
                columns.append(before)
                continue
            share = own[rows]
            logit = torch.logit(share.clamp(EPSILON, 1 - EPSILON))
            seen = torch.cat([colors[rows], torch.stack([2 * share - 1, logit / 3], 1)], 1)
            pixels = ActivePixels(x.coords[rows], x.spatial_shape, x.batch_size)
            correction = self.unet(SparseTensor(seen, pixels))[:, 0]
            columns.append(before.index_add(0, rows, 4 * correction))
        return torch.stack(columns, 1)


def _start(unet: nn.Module, edges: nn.Module) -> dict[str, Tensor]:
    """The weights of `edges`, of what this network sees too; a last layer of zeros."""
    state = unet.state_dict()
    for name, value in edges.state_dict().items():
        if name.startswith("head."):
            state[name] = torch.zeros_like(state[name])
        elif state[name].shape == value.shape:
            state[name] = value.clone()
        else:  # the first layer, by channels that it sees
            state[name] = value[:, list(SEEN)].clone()
            assert state[name].shape == unet.state_dict()[name].shape, name
    return state
