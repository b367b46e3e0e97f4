"""A small network that learns where the low-resolution prediction is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from sparserefine.dense.fingerprint import fingerprint
from sparserefine.evaluation.scores import margin
from sparserefine.refinement.dense_pass import DensePass
from sparserefine.refinement.selector import check_density, select_cells
from sparserefine.refinement.uncertainty import entropy


class ErrorHead(nn.Module):
    """Predicts the share of wrong pixels of each low-resolution cell from the logits around it.

    It sees the class probabilities, the entropy and the margin in 5×5 cells.

    Args:
        num_classes: Number of classes K.
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
            logits: Logits of the dense model at low resolution.
        """
        seen = [torch.softmax(logits, 1), entropy(logits)[:, None], margin(logits)[:, None]]
        return self.layers(torch.cat(seen, 1))[:, 0]


@dataclass(frozen=True, eq=False)
class LearnedSelector:
    """Selects the pixels that a trained head finds most likely to be wrong.

    Attributes:
        head: The trained network.
        threshold: Probability of being wrong; a pixel is selected where its own is greater.
        max_density: Pixel budget as a share of the image, 0..1.
    """

    head: ErrorHead
    threshold: float
    max_density: float = 1.0

    def __post_init__(self) -> None:
        check_density(self.max_density)

    @torch.no_grad()
    def __call__(self, low: DensePass, size: tuple[int, int]) -> Bool[Tensor, "B H W"]:
        """Select pixels; see `Selector`."""
        scores = self.head(low.logits).sigmoid()
        return select_cells(scores, size, self.threshold, self.max_density)

    def describe(self) -> dict[str, Any]:
        """All settings as plain values, with a fingerprint of the head's weights."""
        return {
            "kind": "learned",
            "threshold": self.threshold,
            "max_density": self.max_density,
            "identity": fingerprint(self.head),
        }
