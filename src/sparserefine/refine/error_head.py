"""A small network that learns where the low-resolution prediction is wrong."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sparserefine.refine.scores import margin
from sparserefine.refine.uncertainty import entropy


class ErrorHead(nn.Module):
    """Predicts the share of wrong pixels of each low-resolution cell from the logits around it.

    It sees the class probabilities, the entropy and the margin in 5×5 cells.

    Args:
        num_classes: K.
        hidden: Channels of the two hidden layers.
    """

    def __init__(self, num_classes: int, *, hidden: int = 32) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.layers = nn.Sequential(
            nn.Conv2d(num_classes + 2, hidden, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
            nn.Conv2d(hidden, 1, 1),
        )

    def forward(self, logits: Float[Tensor, "B K h w"]) -> Float[Tensor, "B h w"]:
        """Predict logits of a pixel being wrong; sigmoid makes them probabilities.

        Args:
            logits: Of the dense model at low resolution.
        """
        seen = [torch.softmax(logits, 1), entropy(logits)[:, None], margin(logits)[:, None]]
        return self.layers(torch.cat(seen, 1))[:, 0]
